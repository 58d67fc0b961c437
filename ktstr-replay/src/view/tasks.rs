//! The tasks as a table.

use super::{OpenCheckpoint, Shown};
use crate::columns::{TASKS, lay_out};
use crate::kernel::KernelError;
use crate::kernel::task::{Task, read_tasks};

/// All tasks.
pub(super) fn show(checkpoint: &OpenCheckpoint<'_>) -> Result<Shown, KernelError> {
    let tasks = read_tasks(&checkpoint.kernel())?;
    Ok(Shown::new(table(tasks.tasks.iter()), &tasks.gaps, &tasks))
}

/// A line for each task.
pub(crate) fn table<'t>(tasks: impl Iterator<Item = &'t Task>) -> Vec<String> {
    lay_out(TASKS, tasks)
}
