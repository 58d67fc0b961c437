//! The runqueues as a table, with the tasks that sched_ext's watchdog looks at.

use super::{OpenCheckpoint, Shown, cell, millis};
use crate::kernel::KernelError;
use crate::kernel::runqueue::{RunnableTask, Runqueue, read_runqueue_details};
use crate::text::table::{Align, layout};
use crate::text::{clean, shorten};

/// Runnable tasks of a CPU that are named.
const NAMED: usize = 8;

pub(super) fn show(checkpoint: &OpenCheckpoint<'_>) -> Result<Shown, KernelError> {
    let all = read_runqueue_details(&checkpoint.kernel())?;
    Ok(Shown::new(table(&all.runqueues), &all.gaps, &all))
}

/// A line for each CPU.
pub(crate) fn table(runqueues: &[Runqueue]) -> Vec<String> {
    let head = [
        "cpu",
        "runs",
        "class",
        "nr",
        "scx nr",
        "local dsq",
        "switches",
        "clock",
        "released",
        "scx flags",
        "runnable for (ms), the longest first",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(runqueues.iter().map(row));
    let mut align = [Align::Right; 11];
    for left in [1, 2, 8, 9, 10] {
        align[left] = Align::Left;
    }
    layout(&align, &rows)
}

fn row(rq: &Runqueue) -> Vec<String> {
    let name = |task: &RunnableTask| clean(&format!("{}[{}]", task.comm, task.pid));
    let mut runnable: Vec<_> = rq
        .runnable
        .iter()
        .take(NAMED)
        .map(|task| format!("{} {}", name(task), cell(task.runnable_age_ns.map(millis))))
        .collect();
    if rq.runnable.len() > NAMED {
        runnable.push(format!("{} more", rq.runnable.len() - NAMED));
    }
    vec![
        rq.cpu.to_string(),
        cell(rq.curr.as_ref().map(name)),
        cell(rq.curr.as_ref().map(|task| &task.class)),
        rq.nr_running.to_string(),
        cell(rq.scx_nr_running),
        cell(rq.local_dsq_nr),
        rq.nr_switches.to_string(),
        cell(rq.clock_ns.map(|ns| format!("{:.3}s", ns as f64 / 1e9))),
        cell(rq.cpu_released.map(|released| if released { "yes" } else { "no" })),
        cell(Some(rq.scx_flags.join("|")).filter(|flags| !flags.is_empty())),
        shorten(&runnable.join(", "), 160),
    ]
}
