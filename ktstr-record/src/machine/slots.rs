//! Host CPUs shared among parallel VMs.
//!
//! Emulated vCPUs that outnumber the host's CPUs make every test on the host late, so that parallel tests time each
//! other out. A machine therefore holds as many *slots* as it has vCPUs, at most all of them, while it lives. A slot is
//! a locked file, so that it is free again when its holder dies in any way, and every process that uses the same cache
//! takes part.
//!
//! ```text
//! <cache>/slots/queue   held while collecting slots: one collector at a time, first come, first served
//! <cache>/slots/cpu-N   held while the machine lives
//! ```
//!
//! No deadlock: only the holder of `queue` waits for slots, and who holds slots waits for nothing else.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Once, mpsc};
use std::time::{Duration, Instant};

use super::{StartError, StartPolicy};

/// How often a collector looks for freed slots.
const POLL: Duration = Duration::from_millis(5);

/// How often a waiter in line asks whether it is to stop.
const STOP_POLL: Duration = Duration::from_millis(50);

/// How long one waits before it is said: a machine that just ends is not worth a line.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// CpuSlots that are held until this is dropped.
#[derive(Debug)]
pub(super) struct CpuSlots {
    _held: Vec<File>,
}

impl CpuSlots {
    /// Wait for `min(vcpus, host_cpus)` slots of `cache`, with the patience of `policy`, whose `say` is told if that takes a
    /// while, and whose `stop` ends it.
    pub(super) fn take(
        cache: &Path,
        vcpus: u32,
        host_cpus: u32,
        policy: &StartPolicy,
    ) -> Result<Self, StartError> {
        let StartPolicy { patience, say, stop, .. } = *policy;
        let dir = cache.join("slots");
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| StartError::Cache { path, source }
        };
        fs::create_dir_all(&dir).map_err(unusable(&dir))?;
        let begun = Instant::now();
        let deadline = begun + patience;
        let want = vcpus.min(host_cpus);
        let busy = || match stop() {
            true => StartError::Interrupted,
            false => StartError::Busy { want, waited: begun.elapsed(), dir: dir.clone() },
        };

        let told = Once::new();
        let tell = || {
            told.call_once(|| {
                let cpus = if want == 1 { "a CPU".to_owned() } else { format!("{want} CPUs") };
                say(&format!("waiting for {cpus} of this host, which other machines of tests have"));
            });
        };
        let queue_path = dir.join("queue");
        let Some(_queue) = lock_within(&queue_path, Access::Exclusive, deadline, tell, stop)
            .map_err(unusable(&queue_path))?
        else {
            return Err(busy());
        };
        let mut held = Vec::new();
        let mut free: Vec<PathBuf> = (0..host_cpus).map(|n| dir.join(format!("cpu-{n}"))).collect();
        loop {
            let mut taken = Vec::new();
            for path in &free {
                if held.len() + taken.len() == want as usize {
                    break;
                }
                let file = open(path).map_err(unusable(path))?;
                if try_lock(&file).map_err(unusable(path))? {
                    taken.push((path.clone(), file));
                }
            }
            for (path, file) in taken {
                free.retain(|p| *p != path);
                held.push(file);
            }
            if held.len() == want as usize {
                return Ok(Self { _held: held });
            }
            if Instant::now() >= deadline || stop() {
                return Err(busy());
            }
            if begun.elapsed() >= TELL_AFTER {
                tell();
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Open a lock file, made where absent. It is never removed: a lock on a removed file guards nothing.
pub(super) fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).read(true).open(path)
}

/// Who else may hold a lock at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Others that ask for shared access.
    Shared,
    /// No one.
    Exclusive,
}

/// Lock the file at `path`, waiting in line until `deadline`; `None` when that passes or `stop` says so. `tell` is called if it
/// takes a while.
pub(super) fn lock_within(
    path: &Path,
    access: Access,
    deadline: Instant,
    tell: impl FnOnce(),
    stop: fn() -> bool,
) -> io::Result<Option<File>> {
    let file = open(path)?;
    if access == Access::Exclusive && try_lock(&file)? {
        return Ok(Some(file));
    }
    // flock keeps its waiters in a queue but knows no timeout, so a thread waits for us.
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let locked = match access {
            Access::Shared => file.lock_shared(),
            Access::Exclusive => file.lock(),
        };
        // Fails when it is no longer waited for: then the file is dropped here.
        let _ = sender.send(locked.map(|()| file));
    });
    let begun = Instant::now();
    let mut tell = Some(tell);
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(rest.min(STOP_POLL)) {
            Ok(locked) => return locked.map(Some),
            Err(_) if rest.is_zero() || stop() => return Ok(None),
            Err(_) if begun.elapsed() >= TELL_AFTER => {
                if let Some(tell) = tell.take() {
                    tell();
                }
            }
            Err(_) => {}
        }
    }
}

/// Lock `file` if no one else has it.
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::Duration;

    use super::CpuSlots;
    use crate::machine::{StartError, StartPolicy};

    const PATIENT: StartPolicy = StartPolicy {
        cold: false,
        boot_timeout: Duration::ZERO,
        patience: Duration::from_secs(60),
        say: |_| {},
        stop: || false,
    };

    #[test]
    fn never_more_vcpus_at_once_than_host_cpus() {
        let cache = tempfile::tempdir().unwrap();
        let (running, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for vcpus in [1, 2, 3, 1, 4, 2, 1, 9] {
                let (cache, running, most) = (cache.path(), &running, &most);
                scope.spawn(move || {
                    let slots = CpuSlots::take(cache, vcpus, 3, &PATIENT).unwrap();
                    let now = running.fetch_add(vcpus.min(3), Ordering::SeqCst) + vcpus.min(3);
                    most.fetch_max(now, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(10));
                    running.fetch_sub(vcpus.min(3), Ordering::SeqCst);
                    drop(slots);
                });
            }
        });
        assert_eq!(most.into_inner(), 3);
    }

    #[test]
    fn a_wait_is_told_once() {
        static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let policy = StartPolicy { say: |text| SAID.lock().unwrap().push(text.to_owned()), ..PATIENT };
        let cache = tempfile::tempdir().unwrap();
        let held = CpuSlots::take(cache.path(), 2, 2, &policy).unwrap();
        assert!(SAID.lock().unwrap().is_empty(), "nothing was waited for");
        std::thread::scope(|scope| {
            // One has its place in the queue and waits for slots, the others for the queue.
            for _ in 0..2 {
                scope.spawn(|| drop(CpuSlots::take(cache.path(), 2, 2, &policy).unwrap()));
            }
            while SAID.lock().unwrap().len() < 2 {
                std::thread::sleep(Duration::from_millis(10));
            }
            drop(held);
        });
        let said = SAID.lock().unwrap();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said.iter().all(|text| text.contains("2 CPUs of this host")), "{said:?}");
    }

    #[test]
    fn impatience_is_an_error_that_names_the_place() {
        let cache = tempfile::tempdir().unwrap();
        let held = CpuSlots::take(cache.path(), 2, 2, &PATIENT).unwrap();
        let hasty = StartPolicy { patience: Duration::from_millis(20), ..PATIENT };
        let error = CpuSlots::take(cache.path(), 1, 2, &hasty).unwrap_err();
        assert!(matches!(error, StartError::Busy { want: 1, .. }), "{error}");
        drop(held);
        CpuSlots::take(cache.path(), 1, 2, &StartPolicy { patience: Duration::ZERO, ..PATIENT }).unwrap();
    }

    /// Ctrl-C was ignored by those that waited, until their runner killed them.
    #[test]
    fn who_waits_for_slots_or_in_line_for_them_stops_when_told() {
        static STOP: AtomicBool = AtomicBool::new(false);
        static SAID: AtomicU32 = AtomicU32::new(0);
        let policy = StartPolicy {
            say: |_| {
                SAID.fetch_add(1, Ordering::SeqCst);
            },
            stop: || STOP.load(Ordering::SeqCst),
            ..PATIENT
        };
        let cache = tempfile::tempdir().unwrap();
        let _held = CpuSlots::take(cache.path(), 2, 2, &policy).unwrap();
        std::thread::scope(|scope| {
            let wait = || CpuSlots::take(cache.path(), 1, 2, &policy).unwrap_err();
            let waiters = [scope.spawn(wait), scope.spawn(wait)];
            while SAID.load(Ordering::SeqCst) < 2 {
                std::thread::sleep(Duration::from_millis(10));
            }
            STOP.store(true, Ordering::SeqCst);
            for waiter in waiters {
                let error = waiter.join().unwrap();
                assert!(matches!(error, StartError::Interrupted), "{error}");
            }
        });
    }
}
