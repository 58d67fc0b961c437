//! The tasks as a table.

use super::{OpenCheckpoint, Shown, cell, millis};
use crate::kernel::KernelError;
use crate::kernel::task::{Task, read_tasks};
use crate::text::clean;
use crate::text::table::{Align, layout};

/// All tasks, those of sched_ext that wait first: the longest first.
pub(super) fn show(checkpoint: &OpenCheckpoint<'_>) -> Result<Shown, KernelError> {
    let tasks = read_tasks(&checkpoint.kernel())?;
    Ok(Shown::new(table(tasks.tasks.iter()), &tasks.gaps, &tasks))
}

/// A line for each task.
pub(crate) fn table<'t>(tasks: impl Iterator<Item = &'t Task>) -> Vec<String> {
    let head = [
        "pid",
        "tgid",
        "comm",
        "st",
        "cpu",
        "class",
        "prio",
        "nice",
        "cgroup",
        "dsq",
        "slice ms",
        "vtime",
        "runnable ms",
        "scx",
        "cpu ms",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(tasks.map(row));
    let mut align = [Align::Right; 15];
    for left in [2, 3, 5, 8, 9, 13] {
        align[left] = Align::Left;
    }
    layout(&align, &rows)
}

fn row(task: &Task) -> Vec<String> {
    let scx = task.scx.as_ref().filter(|_| task.class == "ext");
    let signed = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
    vec![
        task.pid.to_string(),
        task.tgid.to_string(),
        clean(&task.comm),
        format!("{}{}", task.state, if task.on_cpu { "*" } else { "" }),
        cell(task.cpu),
        clean(&task.class),
        task.prio.to_string(),
        task.nice.to_string(),
        cell(task.cgroup.as_ref()),
        cell(scx.and_then(|scx| scx.dsq.as_ref())),
        cell(scx.map(|scx| millis(signed(scx.slice_ns)))),
        cell(scx.map(|scx| scx.vtime)),
        cell(scx.filter(|scx| scx.runnable).and_then(|scx| scx.runnable_age_ns).map(millis)),
        cell(scx.map(|scx| format!("{}/{} {}", scx.state, scx.ops_state, scx.flags.join("|")))),
        millis(signed(task.sum_exec_runtime_ns)),
    ]
}
