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
//! <cache>/slots/llc-N   the last-level cache of CPU N: held together with others by a machine that may run there, alone by
//!                       one in performance mode
//! ```
//!
//! A machine that finds a cache reserved runs on the other CPUs only. One in performance mode has all slots of its caches.
//!
//! No deadlock: only the holder of `queue` waits for slots, and who holds slots waits for nothing else.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Once, mpsc};
use std::time::{Duration, Instant};

use super::host_cpus::{HostCpus, HostLlc};
use super::placing::{Placement, Placing};
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
    /// The CPUs that the machine's threads are to keep to, where they may not have all; in performance mode those that have no vCPU.
    pub(super) keep_to: Option<Vec<u32>>,
    /// Where its vCPUs are, in performance mode.
    pub(super) placement: Option<Placement>,
}

impl CpuSlots {
    /// Wait for as many slots of `cache` as a machine of `vcpus` holds on `host`, or with `placing` for caches of its own, with the
    /// patience of `policy`, whose `say` is told if that takes a while, and whose `stop` ends it.
    pub(super) fn take(
        cache: &Path,
        vcpus: u32,
        host: &HostCpus,
        placing: Option<&Placing>,
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
        let want = vcpus.min(host.worth);
        let busy = || match stop() {
            true => StartError::Interrupted,
            false => StartError::Busy { want, waited: begun.elapsed(), dir: dir.clone() },
        };

        let told = Once::new();
        let tell = || {
            told.call_once(|| {
                let cpus = if want == 1 { "a CPU".to_owned() } else { format!("{want} CPUs") };
                let alone = if placing.is_some() { ", and a cache of its own," } else { "" };
                say(&format!("waiting for {cpus}{alone} of this host, which other machines of tests have"));
            });
        };
        let queue_path = dir.join("queue");
        let Some(_queue) = lock_within(&queue_path, Access::Exclusive, deadline, tell, stop)
            .map_err(unusable(&queue_path))?
        else {
            return Err(busy());
        };
        let mut collected = Collected::default();
        loop {
            let taken = match placing {
                Some(placing) => reserve(&dir, host, placing),
                None => collected.more(&dir, host, want as usize),
            };
            if let Some(taken) = taken.map_err(|(path, source)| unusable(&path)(source))? {
                return Ok(taken);
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

/// A lock file that cannot be used.
type Unusable = (PathBuf, io::Error);

/// The file at `path`, locked, if no one who excludes that has it.
fn taken(path: PathBuf, access: Access) -> Result<Option<File>, Unusable> {
    let file = open(&path).and_then(|file| Ok(try_lock(&file, access)?.then_some(file)));
    file.map_err(|error| (path, error))
}

fn llc_file(dir: &Path, llc: &HostLlc) -> PathBuf {
    dir.join(format!("llc-{}", llc.first))
}

/// Caches in which no other machine runs, for the vCPUs that `placing` places, with all of their slots; `None` where they are not
/// to be had now.
fn reserve(dir: &Path, host: &HostCpus, placing: &Placing) -> Result<Option<CpuSlots>, Unusable> {
    let mut llcs = Vec::new();
    for llc in &host.llcs {
        llcs.push(taken(llc_file(dir, llc), Access::Exclusive)?);
    }
    let Some(placement) = placing.place(host, |n| llcs[n].is_some()) else { return Ok(None) };
    let mut held = Vec::new();
    for &n in &placement.llcs {
        held.extend(llcs[n].take());
        for cpu in host.llcs[n].cpus() {
            let Some(slot) = taken(dir.join(format!("cpu-{cpu}")), Access::Exclusive)? else {
                return Ok(None);
            };
            held.push(slot);
        }
    }
    let mut others = host.all();
    others.retain(|cpu| !placement.cpus.contains(cpu));
    Ok(Some(CpuSlots { _held: held, keep_to: Some(others), placement: Some(placement) }))
}

/// What a machine that needs no cache of its own has collected so far.
#[derive(Default)]
struct Collected {
    /// Caches in which it may run, by their place in [`HostCpus::llcs`].
    llcs: Vec<(usize, File)>,
    slots: Vec<(u32, File)>,
}

impl Collected {
    /// Collect free slots of caches that nobody has reserved, until there are `want` of them, and give those then.
    fn more(&mut self, dir: &Path, host: &HostCpus, want: usize) -> Result<Option<CpuSlots>, Unusable> {
        for (n, llc) in host.llcs.iter().enumerate() {
            if self.llcs.iter().all(|(has, _)| *has != n)
                && let Some(file) = taken(llc_file(dir, llc), Access::Shared)?
            {
                self.llcs.push((n, file));
            }
        }
        // As many as the process may have the time of, though it may run on more.
        for cpu in host.all().into_iter().take(host.worth as usize) {
            let reserved = !self.llcs.iter().any(|(n, _)| host.llcs[*n].cpus().any(|of| of == cpu));
            if self.slots.len() == want {
                break;
            }
            if !reserved
                && self.slots.iter().all(|(has, _)| *has != cpu)
                && let Some(file) = taken(dir.join(format!("cpu-{cpu}")), Access::Exclusive)?
            {
                self.slots.push((cpu, file));
            }
        }
        if self.slots.len() < want {
            return Ok(None);
        }
        let mut cpus: Vec<u32> = self.llcs.iter().flat_map(|(n, _)| host.llcs[*n].cpus()).collect();
        cpus.sort_unstable();
        let keep_to = (self.llcs.len() < host.llcs.len()).then_some(cpus);
        let llcs = std::mem::take(&mut self.llcs).into_iter().map(|(_, file)| file);
        let slots = std::mem::take(&mut self.slots).into_iter().map(|(_, file)| file);
        Ok(Some(CpuSlots { _held: llcs.chain(slots).collect(), keep_to, placement: None }))
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
    if access == Access::Exclusive && try_lock(&file, access)? {
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

/// Lock `file` if no one has it who excludes that.
pub(super) fn try_lock(file: &File, access: Access) -> io::Result<bool> {
    let locked = match access {
        Access::Shared => file.try_lock_shared(),
        Access::Exclusive => file.try_lock(),
    };
    match locked {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    use std::path::Path;

    use super::CpuSlots;
    use crate::machine::host_cpus::hosts::host;
    use crate::machine::placing::Placing;
    use crate::machine::{StartError, StartPolicy};
    use crate::spec::Topology;

    const PATIENT: StartPolicy = StartPolicy {
        cold: false,
        boot_timeout: Duration::ZERO,
        patience: Duration::from_secs(60),
        say: |_| {},
        stop: || false,
    };

    /// Slots of a host with one cache.
    fn take(cache: &Path, vcpus: u32, cpus: u32, policy: &StartPolicy) -> Result<CpuSlots, StartError> {
        CpuSlots::take(cache, vcpus, &host(1, cpus, 1), None, policy)
    }

    #[test]
    fn never_more_vcpus_at_once_than_host_cpus() {
        let cache = tempfile::tempdir().unwrap();
        let (running, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for vcpus in [1, 2, 3, 1, 4, 2, 1, 9] {
                let (cache, running, most) = (cache.path(), &running, &most);
                scope.spawn(move || {
                    let slots = take(cache, vcpus, 3, &PATIENT).unwrap();
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
        let held = take(cache.path(), 2, 2, &policy).unwrap();
        assert!(SAID.lock().unwrap().is_empty(), "nothing was waited for");
        std::thread::scope(|scope| {
            // One has its place in the queue and waits for slots, the others for the queue.
            for _ in 0..2 {
                scope.spawn(|| drop(take(cache.path(), 2, 2, &policy).unwrap()));
            }
            // Those who wait lose their patience in that time.
            let begun = Instant::now();
            while SAID.lock().unwrap().len() < 2 && begun.elapsed() < PATIENT.patience {
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
        let held = take(cache.path(), 2, 2, &PATIENT).unwrap();
        let hasty = StartPolicy { patience: Duration::from_millis(20), ..PATIENT };
        let error = take(cache.path(), 1, 2, &hasty).unwrap_err();
        assert!(matches!(error, StartError::Busy { want: 1, .. }), "{error}");
        drop(held);
        take(cache.path(), 1, 2, &StartPolicy { patience: Duration::ZERO, ..PATIENT }).unwrap();
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
        let _held = take(cache.path(), 2, 2, &policy).unwrap();
        std::thread::scope(|scope| {
            let wait = || take(cache.path(), 1, 2, &policy).unwrap_err();
            let waiters = [scope.spawn(wait), scope.spawn(wait)];
            let begun = Instant::now();
            while SAID.load(Ordering::SeqCst) < 2 && begun.elapsed() < PATIENT.patience {
                std::thread::sleep(Duration::from_millis(10));
            }
            STOP.store(true, Ordering::SeqCst);
            for waiter in waiters {
                let error = waiter.join().unwrap();
                assert!(matches!(error, StartError::Interrupted), "{error}");
            }
        });
    }

    const HASTY: StartPolicy = StartPolicy { patience: Duration::ZERO, ..PATIENT };

    /// Two LLCs of two cores.
    fn one_llc() -> (Topology, Placing) {
        let wanted = Topology { numa_nodes: 1, llcs: 1, cores_per_llc: 2, threads_per_core: 1 };
        (wanted, Placing::of(wanted, &host(2, 2, 1)).unwrap())
    }

    #[test]
    fn a_reserved_cache_has_no_other_machine() {
        let (cache, host) = (tempfile::tempdir().unwrap(), host(2, 2, 1));
        let (_, placing) = one_llc();
        let reserved = CpuSlots::take(cache.path(), 2, &host, Some(&placing), &HASTY).unwrap();
        assert_eq!(reserved.placement.as_ref().unwrap().cpus, [0, 1]);
        assert_eq!(reserved.keep_to.as_deref(), Some(&[2, 3][..]));
        // Others have what is left, and keep to it.
        let others = CpuSlots::take(cache.path(), 1, &host, None, &HASTY).unwrap();
        assert_eq!((others.keep_to.as_deref(), &others.placement), (Some(&[2, 3][..]), &None));
        let error = CpuSlots::take(cache.path(), 3, &host, None, &HASTY).unwrap_err();
        assert!(matches!(error, StartError::Busy { want: 3, .. }), "{error}");
        // The other cache has a machine already.
        let error = CpuSlots::take(cache.path(), 2, &host, Some(&placing), &HASTY).unwrap_err();
        assert!(matches!(error, StartError::Busy { want: 2, .. }), "{error}");
        drop(others);
        // Patiently: a child that another test starts at this moment has a copy of each lock until its exec.
        let second = CpuSlots::take(cache.path(), 2, &host, Some(&placing), &PATIENT).unwrap();
        assert_eq!(second.placement.as_ref().unwrap().cpus, [2, 3]);
        drop(reserved);
        let third = CpuSlots::take(cache.path(), 2, &host, Some(&placing), &PATIENT).unwrap();
        assert_eq!(third.placement.as_ref().unwrap().cpus, [0, 1], "while the second has the other cache");
        drop(second);
    }

    #[test]
    fn a_machine_that_may_run_anywhere_keeps_all_caches_from_being_reserved() {
        let (cache, host) = (tempfile::tempdir().unwrap(), host(2, 2, 1));
        let anywhere = CpuSlots::take(cache.path(), 1, &host, None, &HASTY).unwrap();
        assert_eq!(anywhere.keep_to, None);
        let (_, placing) = one_llc();
        let error = CpuSlots::take(cache.path(), 2, &host, Some(&placing), &HASTY).unwrap_err();
        assert!(matches!(error, StartError::Busy { .. }), "{error}");
        // What it tried out on the way is free again.
        drop(CpuSlots::take(cache.path(), 3, &host, None, &PATIENT).unwrap());
        std::thread::scope(|scope| {
            let waits =
                scope.spawn(|| CpuSlots::take(cache.path(), 2, &host, Some(&placing), &PATIENT).unwrap());
            drop(anywhere);
            assert!(waits.join().unwrap().placement.is_some());
        });
    }
}
