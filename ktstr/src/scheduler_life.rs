//! Whether the scheduler under test still schedules.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ktstr_replay::run::gone_words;

/// How often a state that is not `enabled` is looked at again.
const LOOK: Duration = Duration::from_millis(10);

/// Watches `/sys/kernel/sched_ext/state`. Source: `kernel/sched/ext.c`, `scx_attr_state_show`.
#[derive(Debug)]
pub struct SchedulerLife(Life);

#[derive(Debug)]
enum Life {
    /// There is no scheduler under test.
    None,
    /// It is part of the kernel, has this name, and does not leave by itself.
    BuiltIn(String),
    /// It is one of sched_ext.
    Watched(Watched),
}

#[derive(Debug)]
struct Watched {
    name: String,
    state_file: PathBuf,
    process: Mutex<Process>,
    /// How long it may be away.
    restart: Duration,
}

impl Life {
    /// How long it may be away, if it may.
    fn restart(&self) -> Option<Duration> {
        match self {
            Self::None | Self::BuiltIn(_) => None,
            Self::Watched(watched) => Some(watched.restart),
        }
    }
}

/// The scheduler's process.
#[derive(Clone, Debug)]
enum Process {
    /// Its folder in `/proc`, without which it does not come back, where that is known.
    At(Option<PathBuf>),
    /// The test has detached it, so it is not looked for.
    Detached,
}

/// The scheduler under test no longer schedules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{state}", gone_words(name))]
pub struct SchedulerDied {
    /// Its name.
    pub name: String,
    /// What the kernel says.
    pub state: String,
}

impl SchedulerLife {
    /// The file in which the kernel shows the state.
    pub const STATE_FILE: &str = "/sys/kernel/sched_ext/state";

    /// There is no scheduler under test.
    pub fn none() -> Self {
        Self(Life::None)
    }

    /// The scheduler under test is part of the kernel.
    pub fn built_in(name: &str) -> Self {
        Self(Life::BuiltIn(name.to_owned()))
    }

    /// Watch the scheduler `name`, whose state is in `state_file`. One that exits may come back within `restart`, if its
    /// process, the folder `process` of `/proc`, still lives.
    pub fn watched(name: &str, state_file: PathBuf, process: Option<PathBuf>, restart: Duration) -> Self {
        let process = Mutex::new(Process::At(process));
        Self(Life::Watched(Watched { name: name.to_owned(), state_file, process, restart }))
    }

    /// Name of the scheduler under test, if there is one.
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Life::None => None,
            Life::BuiltIn(name) | Life::Watched(Watched { name, .. }) => Some(name),
        }
    }

    /// The test detaches the scheduler: it does not count as gone.
    pub fn detached(&self) {
        self.set(Process::Detached);
    }

    /// The test has attached a scheduler, whose process this is.
    pub fn attached(&self, pid: u32) {
        self.set(Process::At(Some(Path::new("/proc").join(pid.to_string()))));
    }

    fn set(&self, process: Process) {
        if let Life::Watched(watched) = &self.0 {
            *watched.process.lock().unwrap_or_else(PoisonError::into_inner) = process;
        }
    }

    /// Have `tell` done to the scheduler that is enabled: once more when it was done to one that went away meanwhile and that comes back
    /// within the time that it may be away. What is refused by one that stays is refused.
    ///
    /// # Errors
    /// That of `tell`.
    pub fn tell_the_enabled<E>(&self, mut tell: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        let begin = Instant::now();
        loop {
            let before = self.enabling();
            let told = tell();
            let is_over = self.0.restart().is_none_or(|restart| begin.elapsed() >= restart);
            // Where it does not come back, its end is others' to judge.
            if is_over || before.is_some() && before == self.enabling() || self.check().is_err() {
                return told;
            }
            sleep(LOOK);
        }
    }

    /// Which of the times that a scheduler was enabled this is; `None` while none is. Source: `kernel/sched/ext.c`,
    /// `scx_attr_enable_seq_show`.
    fn enabling(&self) -> Option<String> {
        let Life::Watched(Watched { state_file, .. }) = &self.0 else { return None };
        let is_enabled = || fs::read_to_string(state_file).is_ok_and(|state| state.trim() == "enabled");
        // Where a kernel does not count them, all that can be told is that one is enabled.
        let count = || fs::read_to_string(state_file.with_file_name("enable_seq")).unwrap_or_default();
        let seq = is_enabled().then(count)?;
        // It may be that of a scheduler after the one that was enabled just now.
        is_enabled().then_some(seq)
    }

    /// Whether the scheduler is enabled, or is again after a restart, for which this waits. Whether restarts are allowed is
    /// for the verdict to say.
    ///
    /// # Errors
    /// [`SchedulerDied`] when the state stays anything but `enabled`.
    pub fn check(&self) -> Result<(), SchedulerDied> {
        let Life::Watched(Watched { name, state_file, process, restart }) = &self.0 else {
            return Ok(());
        };
        let process = process.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Process::At(process) = process else { return Ok(()) };
        let begin = Instant::now();
        loop {
            let state = match fs::read_to_string(state_file) {
                Ok(state) if state.trim() == "enabled" => return Ok(()),
                Ok(state) => format!("sched_ext is `{}`, not `enabled`", state.trim()),
                Err(error) => format!("{} cannot be read: {error}", state_file.display()),
            };
            let lives = process.as_ref().is_none_or(|process| process.exists());
            if !lives || begin.elapsed() >= *restart {
                return Err(SchedulerDied { name: name.clone(), state });
            }
            sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_enabled_is_alive() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let file = dir.path().join("state");
        let life = SchedulerLife::watched("demo", file.clone(), None, Duration::ZERO);
        assert!(life.check().is_err(), "no file");
        for (state, alive) in
            [("enabled\n", true), ("disabling\n", false), ("disabled\n", false), ("", false)]
        {
            fs::write(&file, state).expect("a file");
            assert_eq!(life.check().is_ok(), alive, "{state}");
        }
        life.detached();
        assert_eq!(life.check(), Ok(()), "nobody expects it");
        life.attached(std::process::id());
        assert!(life.check().is_err());
        assert_eq!(SchedulerLife::none().check(), Ok(()));
        let built_in = SchedulerLife::built_in("core");
        assert_eq!((built_in.check(), built_in.name()), (Ok(()), Some("core")));
    }

    /// A scheduler that restarted itself as a body began was not there to be given its watchdog's time, and the test failed.
    #[test]
    fn what_a_scheduler_is_told_is_told_the_one_that_comes_back() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let (file, seq) = (dir.path().join("state"), dir.path().join("enable_seq"));
        let put = |state: &str, number: &str| {
            fs::write(&seq, number).expect("a file");
            fs::write(&file, state).expect("a file");
        };
        let life = |restart| SchedulerLife::watched("demo", file.clone(), None, Duration::from_secs(restart));
        let told = |life: &SchedulerLife, tell: &dyn Fn(u32) -> Result<(), u32>| {
            let mut times = 0;
            let result = life.tell_the_enabled(|| {
                times += 1;
                tell(times)
            });
            (result, times)
        };
        put("enabled\n", "1\n");
        assert_eq!(told(&life(600), &|_| Ok(())), (Ok(()), 1));
        assert_eq!(told(&life(600), &Err), (Err(1), 1), "it stays, and refuses");
        // It goes before it is told, and is back before it is looked for.
        let back = |times| match times {
            1 => {
                put("enabled\n", "2\n");
                Err(1)
            }
            _ => Ok(()),
        };
        assert_eq!(told(&life(600), &back), (Ok(()), 2));
        // It takes what it is told, and goes; the next one was not told.
        let gone = |times| {
            put("enabled\n", if times == 1 { "3\n" } else { "4\n" });
            Ok(())
        };
        put("enabled\n", "4\n");
        assert_eq!(
            told(&life(600), &gone),
            (Ok(()), 3),
            "told 4, which went; 3, which went; and 4, which stayed"
        );
        put("disabled\n", "4\n");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sleep(Duration::from_millis(20));
                put("enabled\n", "5\n");
            });
            let is_back = |_| {
                if fs::read_to_string(&file).is_ok_and(|state| state == "enabled\n") {
                    Ok(())
                } else {
                    Err(1)
                }
            };
            assert_eq!(told(&life(600), &is_back).0, Ok(()));
        });
        put("disabled\n", "5\n");
        assert_eq!(told(&life(0), &Err), (Err(1), 1), "it may not be away");
        assert_eq!(told(&SchedulerLife::none(), &Err), (Err(1), 1));
    }

    #[test]
    fn one_that_comes_back_is_alive() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let file = dir.path().join("state");
        fs::write(&file, "disabled\n").expect("a file");
        let watched =
            |process| SchedulerLife::watched("demo", file.clone(), process, Duration::from_secs(600));
        assert!(watched(Some(dir.path().join("no such process"))).check().is_err(), "it cannot come back");
        let life = watched(Some(dir.path().to_owned()));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sleep(Duration::from_millis(20));
                fs::write(&file, "enabled\n").expect("a file");
            });
            assert_eq!(life.check(), Ok(()));
        });
    }
}
