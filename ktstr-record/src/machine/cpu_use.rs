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
