//! What a test wants of a cgroup, its CPUs said in terms of the machine.

use crate::cpu_set::CpuSet;
use crate::guest_topo::GuestTopology;
use crate::worker::WorkType;

/// A cgroup with its workers.
///
/// ```
/// use ktstr::prelude::*;
///
/// let def = CgroupDef::named("cg_0").workers(4).work_type(Bursty::default()).cpuset(CpusetSpec::Llc(0));
/// ```
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
    /// A cgroup of this name, with `Ctx::workers_per_cgroup` workers that spin.
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
    pub fn work_type(mut self, work: impl Into<WorkType>) -> Self {
        self.work = work.into();
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

/// Which CPUs a cgroup gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpusetSpec {
    /// Those of an LLC, by number.
    Llc(usize),
    /// Those of a NUMA node, by number.
    Numa(usize),
    /// From `start` up to, not including, `end`.
    Range {
        /// First CPU.
        start: u32,
        /// One past the last CPU.
        end: u32,
    },
    /// These.
    Exact(CpuSet),
}

/// A cpuset that the machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpusetError {
    /// No such LLC or node.
    #[error("there is no {kind} {index}: the machine has {count}, numbered from 0")]
    NoSuch {
        /// `LLC` or `NUMA node`.
        kind: &'static str,
        /// The number asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// No CPU at all.
    #[error("the cpuset {asked} holds no CPU")]
    Empty {
        /// What was asked for.
        asked: String,
    },
    /// CPUs that do not exist.
    #[error("CPUs {missing} are not there: the machine has {cpus}")]
    Missing {
        /// Those that do not exist.
        missing: CpuSet,
        /// Those that do.
        cpus: CpuSet,
    },
}

impl CpusetSpec {
    /// The CPUs on this machine.
    ///
    /// # Errors
    /// `CpusetError` when the machine has no such CPUs.
    pub fn resolve(&self, topo: &GuestTopology) -> Result<CpuSet, CpusetError> {
        let pick = |kind, sets: &[CpuSet], index: usize| {
            let missing = CpusetError::NoSuch { kind, index, count: sets.len() };
            sets.get(index).cloned().ok_or(missing)
        };
        let set = match self {
            Self::Llc(index) => pick("LLC", &topo.llcs, *index)?,
            Self::Numa(index) => pick("NUMA node", &topo.numa_nodes, *index)?,
            Self::Range { start, end } => (*start..(*end).min(CpuSet::LIMIT)).collect(),
            Self::Exact(set) => set.clone(),
        };
        if set.is_empty() {
            return Err(CpusetError::Empty { asked: format!("{self:?}") });
        }
        let missing = set.difference(&topo.cpus);
        if missing.is_empty() {
            return Ok(set);
        }
        Err(CpusetError::Missing { missing, cpus: topo.cpus.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topo() -> GuestTopology {
        let set = |text: &str| text.parse().expect("a list");
        GuestTopology {
            cpus: set("0-3"),
            cores: vec![set("0"), set("1"), set("2"), set("3")],
            llcs: vec![set("0-1"), set("2-3")],
            numa_nodes: vec![set("0-3")],
        }
    }

    fn resolved(spec: CpusetSpec) -> Result<String, CpusetError> {
        spec.resolve(&topo()).map(|set| set.to_string())
    }

    #[test]
    fn each_form_gives_its_cpus() {
        assert_eq!(resolved(CpusetSpec::Llc(1)).as_deref(), Ok("2-3"));
        assert_eq!(resolved(CpusetSpec::Numa(0)).as_deref(), Ok("0-3"));
        assert_eq!(resolved(CpusetSpec::Range { start: 1, end: 3 }).as_deref(), Ok("1-2"));
        assert_eq!(resolved(CpusetSpec::Exact([0, 3].into_iter().collect())).as_deref(), Ok("0,3"));
    }

    #[test]
    fn cpus_that_are_not_there_are_errors() {
        let no_llc = CpusetError::NoSuch { kind: "LLC", index: 2, count: 2 };
        assert_eq!(resolved(CpusetSpec::Llc(2)), Err(no_llc));
        assert!(matches!(resolved(CpusetSpec::Range { start: 2, end: 2 }), Err(CpusetError::Empty { .. })));
        let error = resolved(CpusetSpec::Range { start: 3, end: 6 }).expect_err("too far").to_string();
        assert_eq!(error, "CPUs 4-5 are not there: the machine has 0-3");
    }
}
