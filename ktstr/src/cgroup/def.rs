//! What a test wants of a cgroup.

use super::cpuset::CpusetSpec;
use super::limits::Limits;
use crate::cpu_set::CpuSet;
use crate::payload::PayloadSpec;
use crate::worker::{
    Affinity, CloneMode, MemPolicy, SchedPolicy, Settings, WorkSpec, WorkType, WorkerCount, worker_setters,
};

/// A cgroup with its workers. How they are treated (policy, affinity, name and the like) counts for all groups that do not say otherwise.
///
/// ```
/// use ktstr::prelude::*;
///
/// let def = CgroupDef::named("cg_0").workers(4).cpuset(CpusetSpec::Llc(0)).cpu_quota_pct(150.0);
/// let hog = WorkSpec::new(WorkType::default()).workers(1).sched_policy(SchedPolicy::Fifo(50));
/// let def = def.work(hog);
///
/// // What it may use of memory, disks and tasks.
/// let small = CgroupDef::named("small")
///     .memory_max(256 << 20)
///     .memory_high(128 << 20)
///     .io_weight(50)
///     .pids_max(100)
///     .cpuset_mems("0".parse()?);
/// # let _ = (def, small);
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a definition does nothing until it is executed"]
pub struct CgroupDef {
    pub(crate) name: String,
    count: Option<WorkerCount>,
    work: Option<WorkType>,
    more: Vec<WorkSpec>,
    affinity: Option<Affinity>,
    settings: Settings,
    pub(crate) cpuset: Option<CpusetSpec>,
    pub(crate) limits: Limits,
    pub(crate) payloads: Vec<PayloadSpec>,
}

impl CgroupDef {
    /// A cgroup of this name, with `Ctx::workers_per_cgroup` workers that spin. `outer/inner` is one inside of `outer`.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            count: None,
            work: None,
            more: Vec::new(),
            affinity: None,
            settings: Settings::default(),
            cpuset: None,
            limits: Limits::default(),
            payloads: Vec::new(),
        }
    }

    /// What the workers do.
    pub fn work_type(mut self, work: impl Into<WorkType>) -> Self {
        self.work = Some(work.into());
        self
    }

    /// A payload that is started in the cgroup with its workers, and ended with its step: `def.workload(&FIO)`. If neither `workers` nor
    /// `work_type` is said, payloads and groups are all that there is.
    pub fn workload(mut self, payload: impl Into<PayloadSpec>) -> Self {
        self.payloads.push(payload.into().in_cgroup(&self.name));
        self
    }

    /// A group of workers besides. If neither `workers` nor `work_type` is said, such groups are all that there is.
    pub fn work(mut self, group: WorkSpec) -> Self {
        self.more.push(group);
        self
    }

    /// The CPUs that the cgroup may use (`cpuset.cpus`).
    pub fn cpuset(mut self, cpuset: CpusetSpec) -> Self {
        self.cpuset = Some(cpuset);
        self
    }

    /// The NUMA nodes whose memory the cgroup may use (`cpuset.mems`).
    pub fn cpuset_mems(mut self, nodes: CpuSet) -> Self {
        self.limits.cpuset_mems = Some(nodes);
        self
    }

    /// The cgroup's weight (`cpu.weight`), 1 to 10000, the kernel's default being 100.
    pub fn cpu_weight(mut self, weight: u32) -> Self {
        self.limits.cpu_weight = Some(weight);
        self
    }

    /// The CPU time that the cgroup may use (`cpu.max`), in percent of one CPU: 150 is one CPU and a half.
    pub fn cpu_quota_pct(mut self, percent: f64) -> Self {
        self.limits.cpu_quota_pct = Some(percent);
        self
    }

    /// The memory that the cgroup may use (`memory.max`), in bytes.
    pub fn memory_max(mut self, bytes: u64) -> Self {
        self.limits.memory_max = Some(bytes);
        self
    }

    /// The memory above which the cgroup is slowed down (`memory.high`), in bytes.
    pub fn memory_high(mut self, bytes: u64) -> Self {
        self.limits.memory_high = Some(bytes);
        self
    }

    /// The cgroup's weight at disks (`io.weight`), 1 to 10000.
    pub fn io_weight(mut self, weight: u32) -> Self {
        self.limits.io_weight = Some(weight);
        self
    }

    /// How many tasks the cgroup may have (`pids.max`).
    pub fn pids_max(mut self, tasks: u64) -> Self {
        self.limits.pids_max = Some(tasks);
        self
    }

    worker_setters!();

    /// Nothing runs in it: it is there for others that are in it, or that come to it.
    pub(crate) fn is_idle(&self) -> bool {
        let no_workers = |group: &WorkSpec| group.count == Some(WorkerCount::Exactly(0));
        self.payloads.is_empty() && self.groups().iter().all(no_workers)
    }

    /// Its groups of workers, each with all that is said for the whole cgroup.
    pub(crate) fn groups(&self) -> Vec<WorkSpec> {
        let nothing_else = self.more.is_empty() && self.payloads.is_empty();
        let first = self.count.is_some() || self.work.is_some() || nothing_else;
        let first = first
            .then(|| WorkSpec { count: self.count, ..WorkSpec::new(self.work.clone().unwrap_or_default()) });
        let groups = first.into_iter().chain(self.more.iter().cloned());
        let with_defaults = groups.map(|group| WorkSpec {
            affinity: group.affinity.or_else(|| self.affinity.clone()),
            settings: group.settings.or(&self.settings),
            ..group
        });
        with_defaults.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::tests::Shell;

    #[test]
    fn groups_are_the_first_and_those_besides_with_the_cgroups_defaults() {
        assert_eq!(CgroupDef::named("a").groups().len(), 1, "workers that spin, if nothing is said");
        let besides = WorkSpec::new(WorkType::default()).nice(3);
        let def = CgroupDef::named("a").nice(1).uid(7).work(besides);
        assert_eq!(def.groups().len(), 1, "what is said is all there is");
        let loaded = CgroupDef::named("a").workload(PayloadSpec::of(&Shell));
        assert!(loaded.groups().is_empty(), "a payload is all there is");
        assert_eq!(loaded.payloads[0].cgroup.as_deref(), Some("a"));
        assert_eq!(loaded.workers(1).groups().len(), 1);
        let groups = def.workers(2).groups();
        let seen: Vec<_> = groups.iter().map(|group| (group.settings.nice, group.settings.uid)).collect();
        assert_eq!(seen, [(Some(1), Some(7)), (Some(3), Some(7))]);
    }
}
