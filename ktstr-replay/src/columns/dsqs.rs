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
    Column::<Dsq>::right("waits_ms", "waits for ms", |dsq| match (longest_ns(dsq), dsq.tasks.is_empty()) {
        (None, true) => Cell::millis(Some(0)),
        (longest, _) => Cell::millis(longest),
    })
    .showing(|dsq| Cell::millis(longest_ns(dsq)).display()),
];

fn longest_ns(dsq: &Dsq) -> Option<i64> {
    dsq.tasks.iter().filter_map(|task| task.runnable_age_ns).max()
}
