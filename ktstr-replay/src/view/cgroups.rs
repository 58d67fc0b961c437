//! The tree of cgroups.

use super::{OpenCheckpoint, Shown};
use crate::columns::{CGROUPS, lay_out};
use crate::kernel::KernelError;
use crate::kernel::cgroup::read_cgroups;
use crate::kernel::task::read_tasks;

pub(super) fn show(checkpoint: &OpenCheckpoint<'_>) -> Result<Shown, KernelError> {
    let view = checkpoint.kernel();
    let all = read_cgroups(&view, &read_tasks(&view)?)?;
    let lines = lay_out(CGROUPS, all.cgroups.iter());
    Ok(Shown::new(lines, &all.gaps, &all))
}
