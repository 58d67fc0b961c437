//! The task that a CPU runs.

use super::TaskName;
use crate::kernel::{Cpus, KernelError, KernelView};
use crate::units::{Cpu, KernelVirt};

/// A task, as far as it is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfTask {
    /// Its `task_struct`.
    pub at: KernelVirt,
    /// Thread id.
    pub pid: u32,
    /// Command name.
    pub comm: String,
}

/// The `task_struct` of the task that CPU `cpu` runs; `None` for a CPU that has never run. Source: `arch/x86/include/asm/current.h`.
///
/// # Errors
/// [`KernelError::NoSymbol`]; those of [`VirtualMemory::read`](crate::kernel::VirtualMemory::read).
pub fn current_task(view: &KernelView<'_>, cpus: &Cpus, cpu: Cpu) -> Result<Option<KernelVirt>, KernelError> {
    let at = match view.symbol("current_task") {
        Ok(at) => cpus.place(at, cpu),
        Err(error) => {
            let (Ok(hot), Ok(offset)) = (view.symbol("pcpu_hot"), view.offset_of("pcpu_hot", "current_task"))
            else {
                return Err(error);
            };
            cpus.place(hot, cpu).map(|hot| KernelVirt(hot.0.wrapping_add(offset)))
        }
    };
    at.map_or(Ok(None), |at| view.pointer(at))
}

/// The same with its names.
///
/// # Errors
/// As [`current_task`].
pub fn running_task(view: &KernelView<'_>, cpu: Cpu) -> Result<Option<OfTask>, KernelError> {
    let Some(at) = current_task(view, &view.cpus()?, cpu)? else { return Ok(None) };
    let TaskName { pid, comm, .. } = view.mirror(at)?;
    Ok(Some(OfTask { at, pid, comm: comm.0 }))
}
