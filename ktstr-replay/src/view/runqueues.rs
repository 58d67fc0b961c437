//! The runqueues as a table, with the tasks that sched_ext's watchdog looks at.

use super::{OpenCheckpoint, Shown};
use crate::columns::{RUNQUEUES, lay_out};
use crate::kernel::KernelError;
use crate::kernel::runqueue::{Runqueue, read_runqueue_details};

pub(super) fn show(checkpoint: &OpenCheckpoint<'_>) -> Result<Shown, KernelError> {
    let all = read_runqueue_details(&checkpoint.kernel())?;
    Ok(Shown::new(table(&all.runqueues), &all.gaps, &all))
}

/// A line for each CPU.
pub(crate) fn table(runqueues: &[Runqueue]) -> Vec<String> {
    lay_out(RUNQUEUES, runqueues.iter())
}
