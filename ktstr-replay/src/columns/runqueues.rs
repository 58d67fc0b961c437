//! Columns of the runqueues.

use super::{Cell, Column, millis};
use crate::kernel::runqueue::{RunnableTask, Runqueue};
use crate::text::{clean, escaped, shorten};

/// Runnable tasks of a CPU that are named.
const NAMED: usize = 8;

/// The column that says whether the CPU runs.
pub(super) const ONLINE: &str = "online";

/// The columns, in the order of the view. What the runqueue of an offline CPU was left with says nothing.
pub(crate) const RUNQUEUES: &[Column<Runqueue>] = &[
    Column::<Runqueue>::right("cpu", "cpu", |rq| Cell::number(Some(rq.cpu.0))),
    Column::<Runqueue>::left("runs", "runs", |rq| {
        Cell::text(rq.curr.as_ref().filter(|_| rq.online).map(name))
    })
    .showing(|rq| match rq.online {
        true => Cell::text(rq.curr.as_ref().map(name)).display(),
        false => "offline".to_owned(),
    }),
    Column::<Runqueue>::left("class", "class", |rq| {
        Cell::text(rq.curr.as_ref().map(|task| task.class.clone()))
    })
    .only(online),
    Column::<Runqueue>::right("nr", "nr", |rq| Cell::number(Some(rq.nr_running))).only(online),
    Column::<Runqueue>::right("scx_nr", "scx nr", |rq| Cell::number(rq.scx_nr_running)).only(online),
    Column::<Runqueue>::right("local_dsq", "local dsq", |rq| Cell::number(rq.local_dsq_nr)).only(online),
    Column::<Runqueue>::right("switches", "switches", |rq| Cell::number(Some(rq.nr_switches))).only(online),
    Column::<Runqueue>::right("clock_s", "clock", |rq| Cell::number(rq.clock_ns.map(|ns| ns as f64 / 1e9)))
        .showing(|rq| Cell::text(rq.clock_ns.map(|ns| format!("{:.3}s", ns as f64 / 1e9))).display())
        .only(online),
    Column::<Runqueue>::left("released", "released", |rq| Cell::number(rq.cpu_released))
        .showing(|rq| {
            Cell::text(rq.cpu_released.map(|released| if released { "yes" } else { "no" })).display()
        })
        .only(online),
    Column::<Runqueue>::left("scx_flags", "scx flags", |rq| {
        Cell::text(Some(rq.scx_flags.join("|")).filter(|flags| !flags.is_empty()))
    })
    .only(online),
    // Nobody waits where no task is runnable.
    Column::<Runqueue>::left("runnable_ms", "runnable for (ms), the longest first", |rq| {
        let longest = rq.runnable.iter().filter_map(|task| task.runnable_age_ns).max();
        Cell::millis(longest.or_else(|| rq.runnable.is_empty().then_some(0)).filter(|_| rq.online))
    })
    .showing(runnable),
    Column::<Runqueue>::hidden("curr_pid", |rq| Cell::number(rq.curr.as_ref().map(|task| task.pid)))
        .only(online),
    Column::<Runqueue>::hidden("nr_runnable", |rq| Cell::number(Some(rq.runnable.len() as u64))).only(online),
    Column::<Runqueue>::hidden(ONLINE, |rq| Cell::number(Some(rq.online))),
];

fn online(rq: &Runqueue) -> bool {
    rq.online
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
