//! Why workers could not be had.

use std::time::Duration;

use rustix::io::Errno;

use super::group::GroupError;
use super::process::SchedstatError;
use crate::cpu_set::CpuSet;

/// Why workers could not be had.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A group that cannot be.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The kernel gave no process, pipe or memory.
    #[error("could not {what} for worker {index} of `{cgroup}`")]
    Spawn {
        /// What was tried.
        what: &'static str,
        /// The worker's number in its group.
        index: usize,
        /// The group's cgroup.
        cgroup: String,
        /// Why.
        source: Errno,
    },
    /// No memory to share with the workers.
    #[error("could not map shared memory for {workers} workers")]
    Map {
        /// How many.
        workers: usize,
        /// Why.
        source: Errno,
    },
    /// The kernel refused a worker one of its settings.
    #[error("worker {index} of `{cgroup}` could not {what}: {errno}{reason}")]
    Setting {
        /// The worker's number in its group.
        index: usize,
        /// The group's cgroup.
        cgroup: String,
        /// What it tried, with the value.
        what: String,
        /// Why.
        errno: Errno,
        /// What that mostly comes from, in parentheses; may be empty.
        reason: &'static str,
    },
    /// Workers that did not come to apply their settings.
    #[error(
        "not all workers applied their settings within {timeout:?}; the scheduler may not run these: {workers}"
    )]
    Late {
        /// Which.
        workers: String,
        /// How long they were waited for.
        timeout: Duration,
    },
    /// Workers that died before the start.
    #[error("worker {index} of `{cgroup}` {how} before the start")]
    Died {
        /// The worker's number in its group.
        index: usize,
        /// The group's cgroup.
        cgroup: String,
        /// How.
        how: String,
    },
    /// There is no such worker.
    #[error("there is no worker {worker}: there are {workers}, numbered from 0 over all groups")]
    NoSuchWorker {
        /// The number asked for.
        worker: usize,
        /// How many there are.
        workers: usize,
    },
    /// The CPUs of a running worker could not be changed.
    #[error("could not set the CPUs of worker {index} of `{cgroup}` to `{cpus}`: {errno}")]
    Affinity {
        /// The worker's number in its group.
        index: usize,
        /// The group's cgroup.
        cgroup: String,
        /// What was asked for.
        cpus: CpuSet,
        /// Why.
        errno: Errno,
    },
    /// The kernel does not tell a worker's run delay.
    #[error(transparent)]
    Schedstat(#[from] SchedstatError),
}
