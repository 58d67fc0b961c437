//! How the kernel is to treat a worker: its policy, its nice value, its memory, its name and its user.

use std::fmt;
use std::time::Duration;

use crate::cpu_set::CpuSet;

/// Node numbers are below this (`MAX_NUMNODES` of no x86 kernel is larger).
const NODES: u32 = 1024;

/// How the kernel is to treat a worker. What is not given is inherited: from the cgroup's definition, else from the test.
///
/// ```
/// use ktstr::prelude::*;
///
/// let own = Settings { nice: Some(-5), ..Settings::default() };
/// let of_cgroup = Settings { nice: Some(5), comm: Some("web".to_owned()), ..Settings::default() };
/// let both = own.or(&of_cgroup);
/// assert_eq!((both.nice, both.comm.as_deref()), (Some(-5), Some("web")));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Scheduling policy.
    pub policy: Option<SchedPolicy>,
    /// Nice value, -20 to 19.
    pub nice: Option<i32>,
    /// Where its memory is taken from.
    pub mem_policy: Option<MemPolicy>,
    /// Command name, 1 to 15 bytes. Without one it tells cgroup and number, `cg_0/3`, and of a longer name of a cgroup beginning and
    /// end: `backgr~tarved/0`.
    pub comm: Option<String>,
    /// User id.
    pub uid: Option<u32>,
    /// Group id.
    pub gid: Option<u32>,
    /// Process or thread.
    pub clone_mode: Option<CloneMode>,
}

/// A scheduling policy. Source: `sched(7)`, and `SCHED_EXT` of `include/uapi/linux/sched.h`.
///
/// ```
/// use ktstr::prelude::*;
/// use std::time::Duration;
///
/// let ms = Duration::from_millis;
/// let hog = CgroupDef::named("hog").workers(1).sched_policy(SchedPolicy::Fifo(10));
/// let video = CgroupDef::named("video")
///     .sched_policy(SchedPolicy::Deadline { runtime: ms(5), deadline: ms(16), period: ms(16) });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchedPolicy {
    /// `SCHED_OTHER`.
    Normal,
    /// `SCHED_BATCH`.
    Batch,
    /// `SCHED_IDLE`.
    Idle,
    /// `SCHED_FIFO` with this priority, 1 to 99.
    Fifo(u32),
    /// `SCHED_RR` with this priority, 1 to 99.
    RoundRobin(u32),
    /// `SCHED_DEADLINE`: so much time in every period, before the deadline. The kernel wants
    /// `runtime <= deadline <= period` and at least 1024 ns of runtime, and refuses it to workers that may not run on every CPU.
    Deadline {
        /// Time on a CPU in each period.
        runtime: Duration,
        /// By when, from the begin of the period.
        deadline: Duration,
        /// The period.
        period: Duration,
    },
    /// `SCHED_EXT`: of the sched_ext scheduler also when that takes only tasks which ask for it.
    Ext,
}

/// Where a worker's memory is taken from. Source: `set_mempolicy(2)`. The sets are of NUMA nodes.
///
/// ```
/// use ktstr::prelude::*;
///
/// let far = CgroupDef::named("far").cpuset(CpusetSpec::Numa(0)).mem_policy(MemPolicy::Bind("1".parse()?));
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemPolicy {
    /// The node of the CPU that first touches a page, as if nothing was set.
    Default,
    /// These nodes only.
    Bind(CpuSet),
    /// This node while it has room.
    Preferred(u32),
    /// These nodes in turn.
    Interleave(CpuSet),
    /// The node of the CPU that first touches a page, whatever was inherited.
    Local,
    /// These nodes while they have room.
    PreferredMany(CpuSet),
    /// These nodes by their weights in `/sys/kernel/mm/mempolicy/weighted_interleave`.
    WeightedInterleave(CpuSet),
}

/// What a worker is.
///
/// ```
/// use ktstr::prelude::*;
///
/// let threads = CgroupDef::named("threads").workers(8).clone_mode(CloneMode::Thread);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CloneMode {
    /// A process of its own.
    #[default]
    Process,
    /// A thread of one process that all workers of the group share.
    Thread,
}

/// A value out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {value}; it must be {range}")]
pub struct RangeError {
    /// Which value.
    pub what: &'static str,
    /// What was given.
    pub value: String,
    /// What is allowed.
    pub range: &'static str,
}

impl Settings {
    /// These, and where one is not given, that of `defaults`.
    #[must_use]
    pub fn or(&self, defaults: &Self) -> Self {
        Self {
            policy: self.policy.or(defaults.policy),
            nice: self.nice.or(defaults.nice),
            mem_policy: self.mem_policy.clone().or_else(|| defaults.mem_policy.clone()),
            comm: self.comm.clone().or_else(|| defaults.comm.clone()),
            uid: self.uid.or(defaults.uid),
            gid: self.gid.or(defaults.gid),
            clone_mode: self.clone_mode.or(defaults.clone_mode),
        }
    }

    /// Whether all are in their ranges.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), RangeError> {
        let fault = |what, value: String, range| Err(RangeError { what, value, range });
        if let Some(nice) = self.nice.filter(|nice| !(-20..=19).contains(nice)) {
            return fault("nice", nice.to_string(), "from -20 to 19");
        }
        if let Some(comm) = self.comm.as_ref().filter(|comm| !is_command_name(comm)) {
            return fault("comm", format!("`{comm}`"), "1 to 15 bytes long, none of them zero");
        }
        if let Some(policy) = self.mem_policy.as_ref().filter(|policy| !policy.has_nodes()) {
            return fault("mem_policy", format!("{policy:?}"), "of at least one node, all below 1024");
        }
        match self.policy {
            Some(SchedPolicy::Fifo(priority) | SchedPolicy::RoundRobin(priority))
                if !(1..=99).contains(&priority) =>
            {
                fault("the priority", priority.to_string(), "from 1 to 99")
            }
            Some(SchedPolicy::Deadline { runtime, deadline, period })
                if runtime < Duration::from_nanos(1024) || runtime > deadline || deadline > period =>
            {
                let value = format!("{runtime:?} of {deadline:?} in {period:?}");
                fault(
                    "SchedPolicy::Deadline",
                    value,
                    "at least 1024 ns of runtime, runtime <= deadline <= period",
                )
            }
            _ => Ok(()),
        }
    }
}

impl MemPolicy {
    /// Whether it has nodes, if it wants some.
    fn has_nodes(&self) -> bool {
        match self {
            Self::Default | Self::Local => true,
            Self::Preferred(node) => *node < NODES,
            Self::Bind(nodes)
            | Self::Interleave(nodes)
            | Self::PreferredMany(nodes)
            | Self::WeightedInterleave(nodes) => !nodes.is_empty() && nodes.iter().all(|node| *node < NODES),
        }
    }
}

/// What the kernel keeps whole (`TASK_COMM_LEN` of its include/linux/sched.h, less the zero at the end).
fn is_command_name(comm: &str) -> bool {
    (1..=15).contains(&comm.len()) && !comm.contains('\0')
}

impl fmt::Display for SchedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_counts_and_the_rest_is_the_defaults() {
        let own = Settings { nice: Some(5), ..Settings::default() };
        let defaults =
            Settings { nice: Some(1), policy: Some(SchedPolicy::Batch), uid: Some(7), ..Settings::default() };
        let both = own.or(&defaults);
        assert_eq!(
            (both.nice, both.policy, both.uid, both.comm),
            (Some(5), Some(SchedPolicy::Batch), Some(7), None)
        );
    }

    #[test]
    fn what_the_kernel_would_refuse_is_named_with_its_range() {
        let ms = Duration::from_millis;
        let deadline = |runtime, deadline, period| SchedPolicy::Deadline {
            runtime: ms(runtime),
            deadline: ms(deadline),
            period: ms(period),
        };
        for (policy, is_good) in [
            (SchedPolicy::Fifo(1), true),
            (SchedPolicy::Fifo(0), false),
            (SchedPolicy::RoundRobin(99), true),
            (SchedPolicy::RoundRobin(100), false),
            (deadline(1, 10, 10), true),
            (deadline(0, 10, 10), false),
            (deadline(11, 10, 10), false),
            (deadline(1, 11, 10), false),
        ] {
            let settings = Settings { policy: Some(policy), ..Settings::default() };
            assert_eq!(settings.check().is_ok(), is_good, "{policy}");
        }
        for (nice, is_good) in [(-21, false), (-20, true), (19, true), (20, false)] {
            assert_eq!(
                Settings { nice: Some(nice), ..Settings::default() }.check().is_ok(),
                is_good,
                "{nice}"
            );
        }
        let set = |text: &str| text.parse().expect("a list");
        for (policy, is_good) in [
            (MemPolicy::Local, true),
            (MemPolicy::Bind(CpuSet::new()), false),
            (MemPolicy::Interleave(set("0-1")), true),
            (MemPolicy::PreferredMany(set("1024")), false),
            (MemPolicy::Preferred(1024), false),
        ] {
            let settings = Settings { mem_policy: Some(policy.clone()), ..Settings::default() };
            assert_eq!(settings.check().is_ok(), is_good, "{policy:?}");
        }
        for (comm, is_good) in
            [("", false), ("fifteen bytes !", true), ("sixteen bytes !!", false), ("a\0b", false)]
        {
            let settings = Settings { comm: Some(comm.to_owned()), ..Settings::default() };
            assert_eq!(settings.check().is_ok(), is_good, "{comm}");
        }
    }
}
