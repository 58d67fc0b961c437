//! What ends a recording from outside: a signal, or the end of the runner that started this process. The recording is then
//! closed and judged, not cut off.
//!
//! While a recording is on or is judged, the signals set a flag that the loops look at. At all other times they do what they
//! always do, as a program that only reads traces must end at Ctrl-C. A signal that this process was started to ignore, as
//! by nohup(1), is ignored.
//!
//! A runner that is killed cannot tell its tests. That it is gone is seen by this process having another parent.

use std::env;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::process::{Pid, getppid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;

use super::request::RecordError;

/// The signals by which people, terminals and runners end programs.
const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];
/// Variables that runners of tests set, nextest and cargo. Other parents may end while their child goes on.
const RUNNERS: [&str; 2] = ["NEXTEST", "CARGO"];

struct Signals {
    interrupted: Arc<AtomicBool>,
    idle: Arc<AtomicBool>,
    recordings: Mutex<usize>,
}

static SIGNALS: OnceLock<Signals> = OnceLock::new();
/// Held while the handlers are installed: those of a second installation would end the process, as nobody tells them of recordings.
static INSTALLING: Mutex<()> = Mutex::new(());
/// The runner, where one started this process.
static RUNNER: OnceLock<Option<Pid>> = OnceLock::new();

/// Remember which runner started this process. The earlier, the better: one that is gone before is not missed.
pub fn remember_runner() {
    RUNNER.get_or_init(|| {
        let has_runner = RUNNERS.iter().any(|name| env::var_os(name).is_some());
        if has_runner { getppid() } else { None }
    });
}

/// Whether the runner that started this process is gone.
fn is_runner_gone() -> bool {
    match RUNNER.get() {
        Some(Some(runner)) => getppid() != Some(*runner),
        _ => false,
    }
}

/// Whether this process is to end. It stays so: it starts no further recording.
pub fn is_interrupted() -> bool {
    why().is_some()
}

/// Why this process is to end, if it is.
pub(super) fn why() -> Option<&'static str> {
    if SIGNALS.get().is_some_and(|signals| signals.interrupted.load(Ordering::Acquire)) {
        return Some("a signal ended the run");
    }
    is_runner_gone().then_some("the runner that started it is gone")
}

/// Keeps signals from ending the process while it lives: [`is_interrupted`] then tells of them.
pub struct Guard {
    signals: &'static Signals,
}

impl Guard {
    /// Take the signals over. A recording does so for itself, until it is judged.
    ///
    /// # Errors
    /// Handlers that cannot be installed.
    pub fn new() -> io::Result<Self> {
        remember_runner();
        let signals = Signals::installed()?;
        let mut recordings = signals.recordings.lock().unwrap_or_else(PoisonError::into_inner);
        *recordings += 1;
        signals.idle.store(false, Ordering::Release);
        Ok(Self { signals })
    }

    /// Take the signals over for a recording.
    ///
    /// # Errors
    /// Handlers that cannot be installed; a process that is to end already.
    pub(super) fn of_recording() -> Result<Self, RecordError> {
        let guard = Self::new().map_err(|source| RecordError::Host { what: "handle signals", source })?;
        if is_interrupted() { Err(RecordError::Interrupted) } else { Ok(guard) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut recordings = self.signals.recordings.lock().unwrap_or_else(PoisonError::into_inner);
        *recordings -= 1;
        self.signals.idle.store(*recordings == 0, Ordering::Release);
    }
}

impl Signals {
    /// Those of this process, which are installed once, though several threads begin to record at the same time.
    fn installed() -> io::Result<&'static Self> {
        let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        match SIGNALS.get() {
            Some(signals) => Ok(signals),
            None => {
                let made = Self::install()?;
                Ok(SIGNALS.get_or_init(|| made))
            }
        }
    }

    fn install() -> io::Result<Self> {
        let signals = Self {
            interrupted: Arc::new(AtomicBool::new(false)),
            idle: Arc::new(AtomicBool::new(true)),
            recordings: Mutex::new(0),
        };
        for signal in heeded(ENDING) {
            flag::register_conditional_default(signal, Arc::clone(&signals.idle))?;
            flag::register(signal, Arc::clone(&signals.interrupted))?;
        }
        Ok(signals)
    }
}

/// These signals without those that this process was started to ignore, as by nohup(1).
pub fn heeded(signals: impl IntoIterator<Item = i32>) -> impl Iterator<Item = i32> {
    let ignored = ignored_signals();
    signals.into_iter().filter(move |signal| ignored >> (signal - 1) & 1 == 0)
}

/// The signals that this process ignores, the first in the lowest bit. See proc_pid_status(5); none where it cannot be read.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_rust_ignores_sigpipe_and_no_signal_that_ends_runs() {
        let ignored = ignored_signals();
        assert_eq!(ignored >> (signal_hook::consts::SIGPIPE - 1) & 1, 1, "{ignored:x}");
        assert_eq!(ignored >> (SIGTERM - 1) & 1, 0, "{ignored:x}");
    }

    #[test]
    fn a_runner_that_is_there_is_not_gone() {
        remember_runner();
        assert!(!is_runner_gone());
    }
}
