//! CPU time of cgroups, with what the kernel has not yet added up.
//!
//! Source: `cgroup_base_stat_flush` of `kernel/cgroup/rstat.c`. Each CPU counts the time of a cgroup's own threads; a flush, which
//! happens when somebody reads, moves what is new into the cgroup's sum, and what is new of that into the parent's. So a cgroup's
//! time is its sum, and what its CPUs and its children have beyond what was moved.

use super::RawCgroup;
use crate::kernel::{Cpus, KernelError, KernelView};
use crate::units::KernelVirt;

/// Where the CPUs' parts are.
struct Layout {
    cpus: Cpus,
    run: u64,
    run_told: u64,
}

/// The time of one cgroup without its children, in ns.
#[derive(Clone, Copy)]
pub(super) struct OwnTime {
    /// Its sum, and what its CPUs have beyond that.
    ns: u64,
    /// What its parent has of it.
    told_ns: u64,
}

/// The times of all cgroups, each before its children.
pub(super) struct Times {
    layout: Option<Layout>,
    /// With the position of the parent.
    all: Vec<(Option<OwnTime>, Option<usize>)>,
}

impl Times {
    pub(super) fn new(view: &KernelView<'_>) -> Self {
        let offset = |field: &str| {
            let path = format!("{field}.cputime.sum_exec_runtime");
            let of = |name: &str| view.offset_of(name, &path).ok();
            of("cgroup_rstat_base_cpu").or_else(|| of("cgroup_rstat_cpu"))
        };
        let layout = || {
            Some(Layout { cpus: view.cpus().ok()?, run: offset("bstat")?, run_told: offset("last_bstat")? })
        };
        Self { layout: layout(), all: Vec::new() }
    }

    /// The time of a cgroup; `None` where the kernel does not count it.
    ///
    /// # Errors
    /// When a CPU's part cannot be read.
    pub(super) fn of(&self, view: &KernelView<'_>, raw: &RawCgroup) -> Result<Option<OwnTime>, KernelError> {
        let fields = raw.run.as_ref().ok().zip(raw.run_told.as_ref().ok()).zip(raw.run_on.as_ref().ok());
        let (Some(((&run, &told_ns), &on)), Some(layout)) = (fields, &self.layout) else { return Ok(None) };
        let mut ns = run;
        for place in layout.cpus.possible().iter().filter_map(|&cpu| layout.cpus.place(on, cpu)) {
            let read = |offset: u64| view.u64(KernelVirt(place.0.wrapping_add(offset)));
            ns = ns.wrapping_add(read(layout.run)?).wrapping_sub(read(layout.run_told)?);
        }
        Ok(Some(OwnTime { ns, told_ns }))
    }

    /// Add the next cgroup, whose parent is at that position.
    pub(super) fn push(&mut self, time: Option<OwnTime>, parent: Option<usize>) {
        self.all.push((time, parent));
    }

    /// The time of each cgroup with that of its children.
    pub(super) fn with_children(mut self) -> Vec<Option<u64>> {
        // Backwards, children come before their parents.
        for position in (0..self.all.len()).rev() {
            let Some(&(Some(child), Some(parent))) = self.all.get(position) else { continue };
            if let Some((Some(parent), _)) = self.all.get_mut(parent) {
                parent.ns = parent.ns.wrapping_add(child.ns.wrapping_sub(child.told_ns));
            }
        }
        self.all.into_iter().map(|(time, _)| time.map(|time| time.ns)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_has_what_its_children_have_not_told_it() {
        let mut times = Times { layout: None, all: Vec::new() };
        let own = |ns, told_ns| Some(OwnTime { ns, told_ns });
        // The root is not counted; of its child's 100, 10 come from below, and 30 are not yet told.
        times.push(None, None);
        times.push(own(100, 90), Some(0));
        times.push(own(20, 10), Some(1));
        times.push(own(25, 5), Some(2));
        times.push(None, Some(1));
        assert_eq!(times.with_children(), [None, Some(130), Some(40), Some(25), None]);
    }
}
