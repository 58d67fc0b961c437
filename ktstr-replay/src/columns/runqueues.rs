//! Columns of the runqueues.

use super::{Cell, Column, millis};
use crate::kernel::runqueue::{RunnableTask, Runqueue};
use crate::text::{clean, escaped, shorten};

/// Runnable tasks of a CPU that are named.
const NAMED: usize = 8;

/// The column that says whether the CPU runs.
pub(super) const ONLINE: &str = "online";

/// The columns, in the order of the view.
pub(crate) const RUNQUEUES: &[Column<Runqueue>] = &[
    Column::<Runqueue>::right("cpu", "cpu", |rq| Cell::number(Some(rq.cpu.0))),
    Column::<Runqueue>::left("runs", "runs", |rq| live(rq, |rq| Cell::text(rq.curr.as_ref().map(name))))
        .showing(|rq| match rq.online {
            true => Cell::text(rq.curr.as_ref().map(name)).display(),
            false => "offline".to_owned(),
        }),
    Column::<Runqueue>::left("class", "class", |rq| {
        live(rq, |rq| Cell::text(rq.curr.as_ref().map(|task| task.class.clone())))
    }),
    Column::<Runqueue>::right("nr", "nr", |rq| live(rq, |rq| Cell::number(Some(rq.nr_running)))),
    Column::<Runqueue>::right("scx_nr", "scx nr", |rq| live(rq, |rq| Cell::number(rq.scx_nr_running))),
    Column::<Runqueue>::right("local_dsq", "local dsq", |rq| live(rq, |rq| Cell::number(rq.local_dsq_nr))),
    Column::<Runqueue>::right("switches", "switches", |rq| live(rq, |rq| Cell::number(Some(rq.nr_switches)))),
    Column::<Runqueue>::right("clock_s", "clock", |rq| {
        live(rq, |rq| Cell::number(rq.clock_ns.map(|ns| ns as f64 / 1e9)))
    })
    .showing(|rq| {
        let clock = |rq: &Runqueue| Cell::text(rq.clock_ns.map(|ns| format!("{:.3}s", ns as f64 / 1e9)));
        live(rq, clock).display()
    }),
    Column::<Runqueue>::left("released", "released", |rq| live(rq, |rq| Cell::number(rq.cpu_released)))
        .showing(|rq| {
            let released = |rq: &Runqueue| {
                Cell::text(rq.cpu_released.map(|released| if released { "yes" } else { "no" }))
            };
            live(rq, released).display()
        }),
    Column::<Runqueue>::left("scx_flags", "scx flags", |rq| {
        live(rq, |rq| Cell::text(Some(rq.scx_flags.join("|")).filter(|flags| !flags.is_empty())))
    }),
    // Nobody waits where no task is runnable.
    Column::<Runqueue>::left("runnable_ms", "runnable for (ms), the longest first", |rq| {
        live(rq, |rq| {
            let longest = rq.runnable.iter().filter_map(|task| task.runnable_age_ns).max();
            Cell::millis(longest.or_else(|| rq.runnable.is_empty().then_some(0)))
        })
    })
    .showing(runnable),
    Column::<Runqueue>::hidden("curr_pid", |rq| {
        live(rq, |rq| Cell::number(rq.curr.as_ref().map(|task| task.pid)))
    }),
    Column::<Runqueue>::hidden("nr_runnable", |rq| {
        live(rq, |rq| Cell::number(Some(rq.runnable.len() as u64)))
    }),
    Column::<Runqueue>::hidden(ONLINE, |rq| Cell::number(Some(rq.online))),
];

/// A cell of a CPU that runs; what one that is offline was left with says nothing.
fn live(rq: &Runqueue, cell: impl FnOnce(&Runqueue) -> Cell) -> Cell {
    if rq.online { cell(rq) } else { Cell::None }
}

fn name(task: &RunnableTask) -> String {
    format!("{}[{}]", task.comm, task.pid)
}

fn runnable(rq: &Runqueue) -> String {
    let age = |task: &RunnableTask| task.runnable_age_ns.map_or_else(|| "-".to_owned(), millis);
    let mut runnable: Vec<_> = rq
        .runnable
        .iter()
        .take(NAMED)
        .map(|task| format!("{} {}", clean(&escaped(&name(task))), age(task)))
        .collect();
    if rq.runnable.len() > NAMED {
        runnable.push(format!("{} more", rq.runnable.len() - NAMED));
    }
    shorten(&runnable.join(", "), 160)
}
