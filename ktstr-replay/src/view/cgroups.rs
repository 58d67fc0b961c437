//! The tree of cgroups.

use super::{OpenCheckpoint, Shown, cell};
use crate::kernel::KernelError;
use crate::kernel::cgroup::read_cgroups;
use crate::kernel::task::read_tasks;
use crate::text::clean;
use crate::text::table::{Align, layout};

pub(super) fn show(checkpoint: &OpenCheckpoint<'_>) -> Result<Shown, KernelError> {
    let view = checkpoint.kernel();
    let all = read_cgroups(&view, &read_tasks(&view)?)?;
    let mut rows = vec![["cgroup", "tasks", "cpu.weight", "scx weight"].map(str::to_owned).to_vec()];
    rows.extend(all.cgroups.iter().map(|cgroup| {
        let (weight, scx) = (cell(cgroup.cpu_weight), cell(cgroup.scx_weight));
        vec![clean(&cgroup.path), cgroup.tasks.to_string(), weight, scx]
    }));
    let lines = layout(&[Align::Left, Align::Right, Align::Right, Align::Right], &rows);
    Ok(Shown::new(lines, &all.gaps, &all))
}
