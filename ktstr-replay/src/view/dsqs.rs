//! The dispatch queues and what waits in them.

use super::{OpenCheckpoint, Shown, cell, millis};
use crate::kernel::KernelError;
use crate::kernel::dsq::{Dsq, DsqOrder, read_dsqs};
use crate::text::clean;
use crate::text::table::{Align, layout};

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
    let mut rows =
        vec![["queue", "of", "nr", "order", "put in", "head", "waits for ms"].map(str::to_owned).to_vec()];
    rows.extend(dsqs.iter().map(|dsq| {
        let head = dsq.tasks.first();
        let longest = dsq.tasks.iter().filter_map(|task| task.runnable_age_ns).max();
        vec![
            dsq.id.to_string(),
            clean(&dsq.whose),
            dsq.nr.to_string(),
            match dsq.order {
                DsqOrder::Fifo => "fifo".to_owned(),
                DsqOrder::Vtime => "vtime".to_owned(),
            },
            cell(dsq.seq),
            cell(head.map(|task| format!("{}[{}]", task.comm, task.pid))),
            cell(longest.map(millis)),
        ]
    }));
    let mut align = [Align::Left; 7];
    for right in [2, 4, 6] {
        align[right] = Align::Right;
    }
    layout(&align, &rows)
}

/// A line for each task of a queue, at most `max`.
pub(crate) fn tasks(dsq: &Dsq, max: usize) -> Vec<String> {
    let mut rows =
        vec![["#", "pid", "comm", "cpu", "runnable ms", "slice ms", "vtime"].map(str::to_owned).to_vec()];
    rows.extend(dsq.tasks.iter().take(max).enumerate().map(|(position, task)| {
        vec![
            (position + 1).to_string(),
            task.pid.to_string(),
            clean(&task.comm),
            cell(task.cpu),
            cell(task.runnable_age_ns.map(millis)),
            millis(i64::try_from(task.slice_ns).unwrap_or(i64::MAX)),
            task.vtime.to_string(),
        ]
    }));
    let mut align = [Align::Right; 7];
    align[2] = Align::Left;
    let mut lines = layout(&align, &rows);
    if dsq.tasks.len() > max {
        lines.push(format!("and {} more", dsq.tasks.len() - max));
    }
    lines
}
