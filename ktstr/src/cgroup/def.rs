//! What a test wants of a cgroup.

use super::CpusetSpec;
use crate::worker::WorkType;

/// A cgroup with its workers.
///
/// `CgroupDef::named("cg_0").workers(4).work_type(WorkType::Bursty).cpuset(CpusetSpec::Llc(0))`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a definition does nothing until it is executed"]
pub struct CgroupDef {
    pub(crate) name: String,
    pub(crate) workers: Option<usize>,
    pub(crate) work: WorkType,
    pub(crate) cpuset: Option<CpusetSpec>,
    pub(crate) cpu_weight: Option<u32>,
    pub(crate) nice: Option<i32>,
    pub(crate) comm: Option<String>,
}

impl CgroupDef {
    /// A cgroup of this name, with [`Ctx::workers_per_cgroup`](crate::ctx::Ctx::workers_per_cgroup) workers that
    /// spin.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            workers: None,
            work: WorkType::default(),
            cpuset: None,
            cpu_weight: None,
            nice: None,
            comm: None,
        }
    }

    /// How many workers; 0 makes a cgroup without any.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = Some(count);
        self
    }

    /// What the workers do.
    pub fn work_type(mut self, work: WorkType) -> Self {
        self.work = work;
        self
    }

    /// The CPUs that the cgroup may use (`cpuset.cpus`).
    pub fn cpuset(mut self, cpuset: CpusetSpec) -> Self {
        self.cpuset = Some(cpuset);
        self
    }

    /// The cgroup's weight (`cpu.weight`), 1 to 10000, the kernel's default being 100.
    pub fn cpu_weight(mut self, weight: u32) -> Self {
        self.cpu_weight = Some(weight);
        self
    }

    /// The workers' nice value, -20 to 19.
    pub fn nice(mut self, nice: i32) -> Self {
        self.nice = Some(nice);
        self
    }

    /// The workers' command name, 1 to 15 bytes.
    pub fn comm(mut self, comm: impl Into<String>) -> Self {
        self.comm = Some(comm.into());
        self
    }
}
