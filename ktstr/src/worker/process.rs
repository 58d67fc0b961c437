//! Waiting for workers, and what the kernel says of them.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{self, Errno};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal, waitid,
};

use super::WorkerError;
use super::clock::{monotonic_ns, timespec};

/// A child that has not been reaped.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    reaped: bool,
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
    /// Take charge of a child.
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

    /// End it at once.
    pub fn kill(&self) {
        // It may have ended already, which is as good.
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
    /// [`WorkerError::Schedstat`] when the file is missing (a kernel without `CONFIG_SCHED_INFO`) or not
    /// understood.
    pub fn schedstat(&self) -> Result<Schedstat, WorkerError> {
        let path = PathBuf::from(format!("/proc/{}/schedstat", self.pid));
        let text = fs::read_to_string(&path)
            .map_err(|source| WorkerError::Schedstat { path: path.clone(), why: source.to_string() })?;
        parse_schedstat(&text).ok_or_else(|| WorkerError::Schedstat {
            path,
            why: format!("`{}` is not understood", text.trim()),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            // Its death may take until the scheduler lets it run; a zombie that is left goes with this process.
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
