//! A trace in the forms that other tools read: JSON lines, CSV, and memory as an ELF core ([`vmcore`]).
//!
//! The first two have the events and the captures, with every global variable of the scheduler. What a trace says of itself is
//! `ktstr trace info --json`.

mod csv;
mod events;
mod series;
pub mod vmcore;

use std::io::{self, Write};

use serde_json::json;

use crate::run::Run;

pub use csv::{events_csv, series_csv};

/// Write the events and captures of a run as JSON lines: one object a line, each with `record` saying what it is
/// (`event` or `capture`), in the order of the guest's time. Times are in ns; `since_start_ns` counts from the begin of
/// the test's body.
///
/// # Errors
/// Those of `out`.
pub fn json_lines(run: &Run<'_>, out: &mut dyn Write) -> io::Result<()> {
    let events = run.events.iter().map(|event| (event.guest_ns, events::to_json(run, event)));
    let captures = run.samples.iter().map(|sample| (sample.guest_ns, series::to_json(run, sample)));
    let mut all: Vec<_> = events.chain(captures).collect();
    // Stable: what came first at the same time stays first.
    all.sort_by_key(|(at, _)| *at);
    for (_, line) in all {
        writeln!(out, "{line}")?;
    }
    let losses = run.losses.iter().map(|loss| {
        json!({
            "record": "loss",
            "host_ns": loss.host_ns,
            "kind": format!("{:?}", loss.kind),
            "count": loss.count,
            "detail": loss.detail,
        })
    });
    for line in losses {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
