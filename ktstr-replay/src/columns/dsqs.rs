//! Columns of the dispatch queues.

use super::{Cell, Column};
use crate::kernel::dsq::{Dsq, DsqOrder};

/// The columns, in the order of the view.
pub(crate) const DSQS: &[Column<Dsq>] = &[
    Column::<Dsq>::left("id", "queue", |dsq| Cell::Named(dsq.id.number.into(), dsq.id.to_string())),
    Column::<Dsq>::left("of", "of", |dsq| Cell::Text(dsq.whose.clone())),
    Column::<Dsq>::right("nr", "nr", |dsq| Cell::number(Some(dsq.nr))),
    Column::<Dsq>::left("order", "order", |dsq| {
        Cell::text(Some(match dsq.order {
            DsqOrder::Fifo => "fifo",
            DsqOrder::Vtime => "vtime",
        }))
    })
    .one_of(&["fifo", "vtime"]),
    Column::<Dsq>::right("put_in", "put in", |dsq| Cell::number(dsq.seq)),
    Column::<Dsq>::left("head", "head", |dsq| {
        Cell::text(dsq.tasks.first().map(|task| format!("{}[{}]", task.comm, task.pid)))
    }),
    // Nobody waits in an empty queue, so that the longest wait of all can be asked for.
    Column::<Dsq>::right("head_waits_ms", "head waits ms", |dsq| or_nobody(dsq, head_ns(dsq)))
        .showing(|dsq| Cell::millis(head_ns(dsq)).display()),
    Column::<Dsq>::right("waits_ms", "longest wait ms", |dsq| or_nobody(dsq, longest_ns(dsq)))
        .showing(|dsq| Cell::millis(longest_ns(dsq)).display()),
];

fn or_nobody(dsq: &Dsq, waits_ns: Option<i64>) -> Cell {
    Cell::millis(waits_ns.or_else(|| dsq.tasks.is_empty().then_some(0)))
}

fn head_ns(dsq: &Dsq) -> Option<i64> {
    dsq.tasks.first()?.runnable_age_ns
}

fn longest_ns(dsq: &Dsq) -> Option<i64> {
    dsq.tasks.iter().filter_map(|task| task.runnable_age_ns).max()
}
