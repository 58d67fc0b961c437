//! A worker's process as its parent sees it: waiting for its end, and what the kernel says of it.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{self, Errno};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal, waitid,
};

use super::clock::{monotonic_ns, timespec};

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

/// `/proc/PID/task/TID/schedstat`. Source: `Documentation/scheduler/sched-stats.rst`.
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

    /// How it ended without reaping it, if it has; `None` inside for exit code 0.
    pub fn end(&self) -> Option<Option<String>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.pid), options).ok().flatten().map(|status| describe(&status))
    }

    /// Reap it, if it has ended: how it ended, `None` for exit code 0.
    pub fn reap(&mut self) -> Option<Option<String>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::Pid(self.pid), options).ok().flatten()?;
        self.reaped = true;
        Some(describe(&status))
    }

    /// What the kernel accounts to one of its threads.
    ///
    /// # Errors
    /// A file that is missing (a kernel without `CONFIG_SCHED_INFO`, or a thread that has ended) or not understood.
    pub fn schedstat(&self, tid: Pid) -> Result<Schedstat, SchedstatError> {
        let path = PathBuf::from(format!("/proc/{}/task/{tid}/schedstat", self.pid));
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
