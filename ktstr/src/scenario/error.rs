//! Why a scenario could not go on.

use std::io;
use std::path::PathBuf;

use ktstr_replay::path::SyntaxError;
use ktstr_replay::text::Candidates;
use rustix::process::Pid;

use super::step::HoldError;
use crate::cgroup::{CgroupError, CpusetError};
use crate::channel::ChannelError;
use crate::cpu_set::CpuSet;
use crate::payload_call::PayloadError;
use crate::scheduler_life::SchedulerDied;
use crate::worker::{AffinityError, CountError, GroupError, RangeError, WorkerError};

/// Why a scenario could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The scheduler died.
    #[error("{died}, {when}")]
    Died {
        /// Which, and what the kernel says.
        died: SchedulerDied,
        /// When it was noticed.
        when: String,
    },
    /// Something that a step was to do could not be done.
    #[error("{what} of {whose}")]
    Step {
        /// What: ``cgroup `a` ``, `offline 1`.
        what: String,
        /// Whose: ``step `quiet` ``.
        whose: String,
        /// Why not.
        source: Box<Fault>,
    },
    /// The body runs on the host.
    #[error(
        "scenarios run in a guest, with cgroups and workers of its own, and this test is `host_only`: leave that out"
    )]
    OnHost,
    /// Nobody would do anything.
    #[error(
        "execute_defs was given no cgroup with a worker or a payload, so that nothing would run in the workload window: give one \
         `.workers(n)`, `.work(..)` or `.workload(&PAYLOAD)`; for a body that loads the machine by itself `execute_steps` only holds"
    )]
    Idle,
    /// The host could not be told.
    #[error("could not record what the scenario does")]
    Channel(#[from] ChannelError),
}

/// Why a single thing could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A cgroup could not be had, or changed.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// CPUs that the machine does not have.
    #[error(transparent)]
    Cpuset(#[from] CpusetError),
    /// A value out of its range.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// A number of workers that cannot be.
    #[error(transparent)]
    Count(#[from] CountError),
    /// Workers that cannot be.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// CPUs that the cgroup does not have.
    #[error(transparent)]
    Affinity(#[from] AffinityError),
    /// Workers could not be had.
    #[error("workers")]
    Workers(#[from] WorkerError),
    /// A hold that cannot be.
    #[error(transparent)]
    Hold(#[from] HoldError),
    /// The host could not be told, or could not take a capture.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// No cgroup of this name.
    #[error("there is no cgroup `{name}` at this time{candidates}")]
    NoCgroup {
        /// The name.
        name: String,
        /// Those that there are.
        candidates: Candidates,
    },
    /// A cgroup has no cpuset to exchange.
    #[error("cgroup `{name}` has no cpuset: give it one with `set_cpuset` or in its definition")]
    NoCpuset {
        /// The cgroup.
        name: String,
    },
    /// Something is as it should be made.
    #[error("{what} is {state} already")]
    Already {
        /// ``cgroup `a` ``, `CPU 1`.
        what: String,
        /// `frozen`, `offline`.
        state: &'static str,
    },
    /// No such CPU.
    #[error("there is no CPU {cpu}: the machine has {cpus}")]
    NoCpu {
        /// The number asked for.
        cpu: u32,
        /// Those that there are.
        cpus: CpuSet,
    },
    /// The kernel keeps this CPU.
    #[error("the kernel does not let CPU {cpu} be taken offline: there is no {}; take another one", file.display())]
    Fixed {
        /// The CPU.
        cpu: u32,
        /// The file that others have.
        file: PathBuf,
    },
    /// No scheduler to do it with.
    #[error("the test has no scheduler: give it one with `scheduler = ...`")]
    NoScheduler,
    /// A scheduler that was not packed.
    #[error("scheduler `{name}` is not in the guest: name it in the test's `staged_schedulers`{candidates}")]
    NotStaged {
        /// The scheduler.
        name: String,
        /// Those that are.
        candidates: Candidates,
    },
    /// A payload could not be had.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// A payload that nobody has started.
    #[error(
        "payload `{name}` is not running at this time: start it with `run_payload` or `workload`{candidates}"
    )]
    NoPayload {
        /// The payload.
        name: &'static str,
        /// Those that were started.
        candidates: Candidates,
    },
    /// What is to be watched, probed, read or written cannot be read.
    #[error("{}", .0.render())]
    Syntax(SyntaxError),
    /// No such parameter.
    #[error("the kernel has no parameter `{name}`: there is no {}", file.display())]
    NoSysctl {
        /// Its name.
        name: String,
        /// Where it would be.
        file: PathBuf,
    },
    /// A file could not be used.
    #[error("could not {what} {}", path.display())]
    File {
        /// `read`, `remove`, ``write `1` to``.
        what: String,
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A process could not be dealt with.
    #[error("could not {what} of process {pid}")]
    Process {
        /// `read the CPUs`, `set the CPUs`.
        what: &'static str,
        /// Which.
        pid: Pid,
        /// Why not.
        source: io::Error,
    },
}
