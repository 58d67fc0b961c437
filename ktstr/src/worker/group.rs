//! A group of workers of one kind, checked before any is forked.

use super::settings::{CloneMode, RangeError, Settings};
use super::slot::MAX_CPUS;
use super::work::{Gang, WorkType};
use crate::cpu_set::CpuSet;

/// Workers of one kind in one cgroup.
///
/// ```
/// use ktstr::prelude::*;
///
/// let mut group = WorkerGroup::new("cg_0", 2, WorkType::default());
/// group.settings = Settings { nice: Some(5), ..Settings::default() };
/// assert_eq!((group.cgroup.as_str(), group.count), ("cg_0", 2));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerGroup {
    /// Name of the cgroup, for reports.
    pub cgroup: String,
    /// How many.
    pub count: usize,
    /// What they do.
    pub work: WorkType,
    /// How the kernel is to treat them.
    pub settings: Settings,
    /// The CPUs of each, in turn; empty: those of the cgroup.
    pub cpus: Vec<CpuSet>,
}

/// A group that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// Its size does not fit its work.
    #[error("{count} workers of type {work} in `{cgroup}`: {}", rule(gang))]
    Count {
        /// The group's cgroup.
        cgroup: String,
        /// Workers asked for.
        count: usize,
        /// Their work.
        work: &'static str,
        /// How many work together.
        gang: Gang,
    },
    /// A setting, or a parameter of the work, out of its range.
    #[error("workers of `{cgroup}`")]
    Range {
        /// The group's cgroup.
        cgroup: String,
        /// Which.
        source: RangeError,
    },
}

fn rule(gang: &Gang) -> String {
    match gang {
        Gang::Alone => "there must be at least one".to_owned(),
        Gang::Of(size) => {
            format!(
                "they work in groups of {size}: the number must be a multiple of {size}, and at least {size}"
            )
        }
        Gang::Group { min } => format!("they work together, at least {min} of them"),
    }
}

impl WorkerGroup {
    /// So many workers of this kind, with nothing set.
    pub fn new(cgroup: impl Into<String>, count: usize, work: impl Into<WorkType>) -> Self {
        Self {
            cgroup: cgroup.into(),
            count,
            work: work.into(),
            settings: Settings::default(),
            cpus: Vec::new(),
        }
    }

    /// Whether its size fits its work, and all parameters and settings are in their ranges.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), GroupError> {
        let range = |source| GroupError::Range { cgroup: self.cgroup.clone(), source };
        self.work.check().map_err(range)?;
        self.settings.check().map_err(range)?;
        let gang = self.work.gang();
        let fits = match gang {
            Gang::Alone => self.count > 0,
            Gang::Of(size) => self.count > 0 && self.count.is_multiple_of(size),
            Gang::Group { min } => self.count >= min,
        };
        if !fits {
            let (cgroup, work) = (self.cgroup.clone(), self.work.name());
            return Err(GroupError::Count { cgroup, count: self.count, work, gang });
        }
        let fault = |what, value: String, allowed| Err(range(RangeError { what, value, range: allowed }));
        if let Some(cpus) = self.cpus.iter().find(|cpus| !is_mask(cpus)) {
            return fault("an entry of cpus", format!("`{cpus}`"), "a set of at least one CPU below 1024");
        }
        if self.is_threads() && self.work.changes_cgroup() {
            let allowed = "CloneMode::Process: threads of one process cannot be in different cgroups";
            return fault("clone_mode of CgroupChurn", format!("{:?}", CloneMode::Thread), allowed);
        }
        Ok(())
    }

    /// Workers that work together.
    pub(super) fn gang_size(&self) -> usize {
        match self.work.gang() {
            Gang::Alone => 1,
            Gang::Of(size) => size,
            Gang::Group { .. } => self.count,
        }
    }

    /// Whether its workers are threads of one process.
    pub(super) fn is_threads(&self) -> bool {
        self.settings.clone_mode == Some(CloneMode::Thread)
    }

    /// The CPUs of a worker, where it does not inherit them.
    pub(super) fn cpus_of(&self, index: usize) -> Option<&CpuSet> {
        self.cpus.get(index.checked_rem(self.cpus.len())?)
    }
}

fn is_mask(cpus: &CpuSet) -> bool {
    !cpus.is_empty() && cpus.iter().all(|&cpu| (cpu as usize) < MAX_CPUS)
}
