//! The CPUs that a task may run on.
//!
//! Source: `task_struct.cpus_ptr` of `include/linux/sched.h`: the mask that the kernel's schedulers look at. It is `cpus_mask`, or
//! that of one CPU while the task has migration disabled.

use crate::kernel::{Gaps, KernelError, KernelView, mask, nr_cpu_ids};
use crate::units::{CpuList, KernelVirt};

/// Reads masks of a kernel; how long they are is looked up once.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel) struct Affinities {
    /// One more than the greatest CPU number; `None` where that cannot be read.
    nr_cpu_ids: Option<u32>,
}

impl Affinities {
    /// For the tasks of `view`.
    pub(in crate::kernel) fn new(view: &KernelView<'_>, gaps: &mut Gaps) -> Self {
        Self { nr_cpu_ids: gaps.read("the CPUs that tasks may run on", nr_cpu_ids(view)) }
    }

    /// The mask that a task's `cpus_ptr` points at; `None` for a null pointer.
    ///
    /// # Errors
    /// Those of `KernelView::bytes`.
    pub(in crate::kernel) fn read(
        &self,
        view: &KernelView<'_>,
        cpus_ptr: KernelVirt,
    ) -> Result<Option<CpuList>, KernelError> {
        let Some(ids) = self.nr_cpu_ids.filter(|_| cpus_ptr.0 != 0) else { return Ok(None) };
        Ok(Some(mask(view, cpus_ptr, ids)?.into_iter().collect()))
    }
}
