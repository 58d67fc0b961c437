//! How much of the host's CPUs a machine gets, by the kernel's accounts of its threads.

use std::fs;
use std::time::Duration;

/// What the threads of a process have had of the host since they began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuUse {
    /// Its threads, ascending by id.
    pub threads: Vec<ThreadUse>,
    /// The process is stopped, as by SIGSTOP.
    pub stopped: bool,
}

/// What the threads of a process had of the host's CPUs for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Had {
    /// Their time on CPUs, all together.
    pub ran: Duration,
    /// Time of CPUs that they wanted and others had.
    pub lacked: Duration,
    /// The longest wait of one of them.
    pub most_waited: Duration,
}

/// One thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadUse {
    /// Its id.
    pub id: u32,
    /// Time on a CPU.
    pub ran: Duration,
    /// Time in which it wanted to run and did not.
    pub waited: Duration,
}

impl CpuUse {
    /// Of the process `pid`; `None` where the kernel does not tell (one without `CONFIG_SCHED_INFO`), or it is gone.
    ///
    /// Sources: `/proc/PID/task/TID/schedstat` (`Documentation/scheduler/sched-stats.rst` of Linux), proc_pid_stat(5).
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        let stopped = rest.starts_with('T') || rest.starts_with('t');
        let mut threads: Vec<ThreadUse> = fs::read_dir(format!("/proc/{pid}/task"))
            .ok()?
            .flatten()
            .filter_map(|entry| thread(entry.file_name().to_str()?.parse().ok()?, &entry.path()))
            .collect();
        threads.sort_by_key(|thread| thread.id);
        (!threads.is_empty()).then_some(Self { threads, stopped })
    }

    /// What they had in the time `passed` since `before`, on a host with so many CPUs. Threads that wait for each other, as those of more
    /// busy vCPUs than the host has CPUs, have all CPUs to themselves and lack nothing.
    pub(crate) fn since(&self, before: &Self, passed: Duration, cpus: u32) -> Had {
        let (mut ran, mut waited, mut most_waited) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        for thread in &self.threads {
            let known = before.threads.iter().find(|one| one.id == thread.id).copied().unwrap_or_default();
            let thread_waited = thread.waited.saturating_sub(known.waited);
            ran += thread.ran.saturating_sub(known.ran);
            waited += thread_waited;
            most_waited = most_waited.max(thread_waited);
        }
        let lacked = (ran + waited).min(passed * cpus.max(1)).saturating_sub(ran);
        Had { ran, lacked, most_waited }
    }
}

fn thread(id: u32, folder: &std::path::Path) -> Option<ThreadUse> {
    let text = fs::read_to_string(folder.join("schedstat")).ok()?;
    let mut fields = text.split_ascii_whitespace().map(str::parse::<u64>);
    let mut next = || fields.next()?.ok().map(Duration::from_nanos);
    Some(ThreadUse { id, ran: next()?, waited: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs_and_is_not_stopped() {
        let used = CpuUse::of(std::process::id()).expect("an account");
        assert!(!used.stopped);
        assert!(used.threads.iter().any(|thread| thread.ran > Duration::ZERO));
        assert_eq!(CpuUse::of(u32::MAX), None);
    }
}
