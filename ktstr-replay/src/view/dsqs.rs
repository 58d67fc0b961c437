//! The dispatch queues and what waits in them.

use super::{OpenCheckpoint, Shown, cell, millis};
use crate::columns::{DSQS, lay_out};
use crate::kernel::KernelError;
use crate::kernel::dsq::{Dsq, read_dsqs};
use crate::text::{Align, layout};
use crate::text::{clean, escaped};

/// Tasks of a queue that are shown; JSON has all.
const SHOWN: usize = 50;

pub(super) fn show(checkpoint: &OpenCheckpoint<'_>) -> Result<Shown, KernelError> {
    let all = read_dsqs(&checkpoint.kernel())?;
    let mut lines = queues(&all.dsqs);
    for dsq in all.dsqs.iter().filter(|dsq| !dsq.tasks.is_empty()) {
        lines.push(String::new());
        lines.push(clean(&format!("tasks of {} ({}), the next one first", dsq.id, dsq.whose)));
        lines.extend(tasks(dsq, SHOWN).iter().map(|line| format!("  {line}")));
    }
    Ok(Shown::new(lines, &all.gaps, &all))
}

/// A line for each queue.
pub(crate) fn queues(dsqs: &[Dsq]) -> Vec<String> {
    lay_out(DSQS, dsqs.iter())
}

/// A line for each task of a queue, at most `max`.
pub(crate) fn tasks(dsq: &Dsq, max: usize) -> Vec<String> {
    let mut rows = vec![
        ["#", "pid", "comm", "cpu", "may run on", "runnable ms", "slice ms", "vtime"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(dsq.tasks.iter().take(max).enumerate().map(|(position, task)| {
        vec![
            (position + 1).to_string(),
            task.pid.to_string(),
            clean(&escaped(&task.comm)),
            cell(task.cpu),
            cell(task.cpus_allowed.as_ref()),
            cell(task.runnable_age_ns.map(millis)),
            millis(i64::try_from(task.slice_ns).unwrap_or(i64::MAX)),
            task.vtime.to_string(),
        ]
    }));
    let mut align = [Align::Right; 8];
    (align[2], align[4]) = (Align::Left, Align::Left);
    let mut lines = layout(&align, &rows);
    if dsq.tasks.len() > max {
        lines.push(format!("and {} more", dsq.tasks.len() - max));
    }
    lines
}
