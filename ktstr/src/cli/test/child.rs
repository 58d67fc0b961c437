//! Running cargo, or the binary of one test, to its end, whichever process is sent which signal.
//!
//! Who presses Ctrl-C, closes the terminal or stops a service signals all of its processes, cargo's too. Who signals this
//! process alone means the run, so that the signal is passed on; but nextest takes the second one as the wish to kill its
//! tests at once, so that it must not be passed on to a cargo that has had it. Which it was is seen by a process of no other
//! use in the same group: a signal to all ends that, too.

use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ktstr_record::recorder::heeded;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, kill_process, pidfd_open, set_parent_process_death_signal,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator;

/// How often it is looked for signals, and for the child's end where that is not told.
const POLL: Duration = Duration::from_millis(20);
const POLL_AT_MOST: Timespec = Timespec { tv_sec: 0, tv_nsec: POLL.as_nanos() as i64 };
/// How long a signal to all processes may take until each has it.
const SPREADS: Duration = Duration::from_millis(200);
/// Does nothing until its standard input ends, which is when this process ends.
const PROBE: &str = "cat";

/// The signals by which people end a run.
pub(in super::super) struct Signals {
    taken: iterator::Signals,
    last: Option<i32>,
}

impl Signals {
    /// Take them over: this process has to outlive cargo, to say what came of the run. Those that it was started to ignore,
    /// as by nohup(1), are ignored.
    ///
    /// # Errors
    /// A handler that cannot be installed.
    pub(in super::super) fn take_over() -> io::Result<Self> {
        Self::of(heeded([SIGHUP, SIGINT, SIGTERM]))
    }

    fn of(signals: impl IntoIterator<Item = i32>) -> io::Result<Self> {
        Ok(Self { taken: iterator::Signals::new(signals)?, last: None })
    }

    /// The last one that came since it was asked before.
    pub(super) fn new_one(&mut self) -> Option<i32> {
        let new = self.taken.pending().last();
        self.last = new.or(self.last);
        new
    }

    /// The last one that ever came, as an exit code of shells.
    pub(super) fn exit_code(&mut self) -> Option<u8> {
        self.new_one();
        self.last.and_then(|signal| u8::try_from(128 + signal).ok())
    }
}

/// Run a command to its end. A signal that only this process gets is passed on; if this process is killed, the command is sent
/// SIGTERM.
///
/// # Errors
/// A command that cannot be started.
pub(in super::super) fn run_to_end(command: &mut Command, signals: &mut Signals) -> Result<ExitStatus> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    let shown = format!("{} {}", command.get_program().display(), words.join(" "));
    let parent = getpid();
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        // We may have died before the line above took effect.
        if getppid() != Some(parent) {
            return Err(io::Error::from(io::ErrorKind::NotConnected));
        }
        Ok(())
    };
    // SAFETY: the closure only makes system calls (prctl, getppid) and neither allocates nor locks, as is required between
    // fork and exec of a program with threads.
    unsafe { command.pre_exec(prepare) };
    let mut probe = Probe::start();
    let mut child = command.spawn().with_context(|| format!("could not start `{shown}`"))?;
    let end = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok();
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("could not wait for `{shown}`"))? {
            return Ok(status);
        }
        if let Some(signal) = signals.new_one() {
            if !probe.is_hit() {
                pass_on(signal, &child);
            }
            probe = Probe::start();
        }
        match &end {
            Some(end) => {
                // It fails where a signal comes, which is looked for.
                let _ = poll(&mut [PollFd::new(end, PollFlags::IN)], Some(&POLL_AT_MOST));
            }
            None => thread::sleep(POLL),
        }
    }
}

fn pass_on(signal: i32, child: &Child) {
    if let Some(signal) = Signal::from_named_raw(signal) {
        // It fails for a child that has ended.
        let _ = kill_process(Pid::from_child(child), signal);
    }
}

/// A process in our group that a signal to the group ends. `None`: it could not be started.
struct Probe(Option<Child>);

impl Probe {
    fn start() -> Self {
        let mut command = Command::new(PROBE);
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok())
    }

    /// Whether a signal ended it, or does so in a moment.
    fn is_hit(&mut self) -> bool {
        let Some(child) = &mut self.0 else { return false };
        let deadline = Instant::now() + SPREADS;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return status.signal().is_some(),
                // On a host that is busy it may take its time to end.
                Ok(None) if has_pending_signal(child) => return true,
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                _ => return false,
            }
        }
    }
}

/// Whether a signal was sent to it that has not come into effect. See proc_pid_status(5); no where it cannot be read.
fn has_pending_signal(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let masks = status
        .lines()
        .filter_map(|line| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")));
    masks.map(str::trim).any(|mask| mask.bytes().any(|digit| digit != b'0'))
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // Both fail only for one that is reaped already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The command's own code; 128 and the signal's number when it was killed.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_of_the_runner_is_kept() {
        let code = |script: &str| {
            let mut signals = Signals::of([]).expect("none");
            exit_code(run_to_end(Command::new("sh").args(["-c", script]), &mut signals).expect("a shell"))
        };
        assert_eq!(code("exit 100"), 100);
        assert_eq!(code("kill -TERM $$"), 143);
    }

    #[test]
    fn a_probe_is_hit_by_a_signal_and_by_nothing_else() {
        let mut probe = Probe::start();
        assert!(!probe.is_hit());
        let child = probe.0.as_ref().expect("a probe");
        kill_process(Pid::from_child(child), Signal::TERM).expect("signalled");
        assert!(probe.is_hit());
    }

    /// On a busy host it was not seen in time that the probe had been sent the signal, and nextest got a second one.
    #[test]
    fn a_probe_is_hit_before_it_has_ended() {
        let mut probe = Probe::start();
        let child = Pid::from_child(probe.0.as_ref().expect("a probe"));
        // One that is stopped does not end.
        for signal in [Signal::STOP, Signal::TERM] {
            kill_process(child, signal).expect("signalled");
        }
        assert!(probe.is_hit());
    }
}
