//! The process of a worker: the fork, its life after it, waiting for its end, and what the kernel says of it.

use std::ffi::CStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{self, Errno};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, getpid, getppid, pidfd_open,
    pidfd_send_signal, set_parent_process_death_signal, waitid,
};
use rustix::thread::set_name;

use super::links::Links;
use super::meter::Meter;
use super::shared::{Header, SlotState, WorkerSlot, monotonic_ns, timespec};
use super::work::{Ended, WorkType};

/// What a worker is to do, all of it made before the fork.
#[derive(Debug)]
pub struct Task<'a> {
    /// The common flags.
    pub header: &'a Header,
    /// Where to report to.
    pub slot: &'a WorkerSlot,
    /// The work.
    pub work: WorkType,
    /// Its command name, if it gets one of its own: only a process itself can set its name.
    pub comm: Option<&'a CStr>,
    /// The worker's number in its gang.
    pub member: usize,
    /// The pipes of the whole gang, by member; the worker keeps its own.
    pub ring: Vec<Links>,
}

/// Fork a worker, which then waits for the common start. Returns its pid and the gang's pipes.
///
/// # Errors
/// The kernel's, when there can be no more processes.
pub fn fork(mut task: Task<'_>) -> Result<(Pid, Vec<Links>), Errno> {
    let parent = getpid();
    // SAFETY: the child may be a copy of a process with threads, so it may only do what is async-signal-safe until
    // it exits: `live` makes system calls, reads clocks and stores to shared atomics; it neither allocates, nor
    // takes locks, nor unwinds, and ends by `_exit`.
    match unsafe { libc::fork() } {
        0 => live(&mut task, parent),
        pid if pid > 0 => match Pid::from_raw(pid) {
            Some(pid) => Ok((pid, task.ring)),
            None => Err(Errno::SRCH),
        },
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::AGAIN)),
    }
}

fn live(task: &mut Task<'_>, parent: Pid) -> ! {
    // A worker must not outlive the test. The second look is for a parent that died before the first call.
    let bound = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    if !bound || getppid() != Some(parent) {
        exit(2);
    }
    if task.comm.is_some_and(|comm| set_name(comm).is_err()) {
        exit(3);
    }
    // Truncating and swapping closes the pipes of the others, so that an ended worker is noticed. It frees no
    // memory: the vector keeps its room, and the process ends without dropping it.
    if task.member < task.ring.len() {
        task.ring.swap(0, task.member);
        task.ring.truncate(1);
    }
    let mut meter = Meter::begin(task.header, task.slot);
    let state = match task.work.run(&mut meter, task.member, task.ring.first()) {
        Ended::Told => SlotState::Done,
        Ended::PeerGone => SlotState::PeerGone,
        Ended::Failed(errno) => {
            task.slot.errno.store(errno.raw_os_error().cast_unsigned(), Ordering::Relaxed);
            SlotState::Failed
        }
    };
    meter.end(state);
    exit(0)
}

fn exit(code: i32) -> ! {
    // SAFETY: `_exit` is async-signal-safe: it runs no exit handlers and flushes no buffers of the parent's.
    unsafe { libc::_exit(code) }
}

/// A child that has not been reaped.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    reaped: bool,
}

/// The kernel does not tell a worker's run delay.
#[derive(Debug, thiserror::Error)]
#[error("could not read {} (a kernel without CONFIG_SCHED_INFO?): {why}", path.display())]
pub struct SchedstatError {
    path: PathBuf,
    why: String,
}

/// `/proc/PID/schedstat`. Source: `Documentation/scheduler/sched-stats.rst`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedstat {
    /// Time on a CPU, ns.
    pub cpu_ns: u64,
    /// Time runnable but not on a CPU, ns.
    pub run_delay_ns: u64,
}

impl Process {
    /// Watch a child that was just forked.
    ///
    /// # Errors
    /// The kernel's, when there are too many files.
    pub fn new(pid: Pid) -> io::Result<Self> {
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { pid, pidfd, reaped: false })
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Kill it.
    pub fn kill(&self) {
        // It may have ended already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Whether it has ended; it is not reaped, so that `/proc` still has it.
    pub fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::Pid(self.pid), options), Ok(Some(_)))
    }

    /// Reap it, if it has ended: how it ended, `None` for exit code 0.
    pub fn reap(&mut self) -> Option<Option<String>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::Pid(self.pid), options).ok().flatten()?;
        self.reaped = true;
        Some(describe(&status))
    }

    /// What the kernel accounts to it.
    ///
    /// # Errors
    /// A file that is missing (a kernel without `CONFIG_SCHED_INFO`) or not understood.
    pub fn schedstat(&self) -> Result<Schedstat, SchedstatError> {
        let path = PathBuf::from(format!("/proc/{}/schedstat", self.pid));
        let text = fs::read_to_string(&path)
            .map_err(|source| SchedstatError { path: path.clone(), why: source.to_string() })?;
        parse_schedstat(&text)
            .ok_or_else(|| SchedstatError { path, why: format!("`{}` is not understood", text.trim()) })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            // A killed child dies when the scheduler lets it run. A zombie that is left is reaped when this process ends.
            wait_for_all(&[self], 1_000_000_000);
            let _ = self.reap();
        }
    }
}

/// Sleep until all of them have ended, at most for `timeout_ns`. Returns whether they have.
pub fn wait_for_all(processes: &[&Process], timeout_ns: u64) -> bool {
    let deadline_ns = monotonic_ns().saturating_add(timeout_ns);
    for process in processes {
        loop {
            let left = timespec(deadline_ns.saturating_sub(monotonic_ns()));
            let mut polled = [PollFd::new(&process.pidfd, PollFlags::IN)];
            match poll(&mut polled, Some(&left)) {
                Ok(0) => return false,
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
    true
}

fn describe(status: &WaitIdStatus) -> Option<String> {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("exited with code {code}")),
        (_, Some(signal)) => Some(format!("was killed by signal {signal}")),
        _ => Some("ended in an unknown way".to_owned()),
    }
}

fn parse_schedstat(text: &str) -> Option<Schedstat> {
    let mut fields = text.split_ascii_whitespace();
    let cpu_ns = fields.next()?.parse().ok()?;
    let run_delay_ns = fields.next()?.parse().ok()?;
    Some(Schedstat { cpu_ns, run_delay_ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_is_cpu_time_then_run_delay() {
        let parsed = parse_schedstat("123 456 7\n");
        assert_eq!(parsed, Some(Schedstat { cpu_ns: 123, run_delay_ns: 456 }));
        assert_eq!(parse_schedstat("123"), None);
        assert_eq!(parse_schedstat("a b c"), None);
    }
}
