//! The kernel's dump of a scheduler's end, whole. It is text of the kernel's and no memory: a trace without checkpoints has it, too.

use serde_json::json;

use super::Shown;
use crate::run::{Dump, Run, SchedulerExit};
use crate::text::{clean, printable, seconds};

/// There is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum NoDump {
    /// No scheduler ended.
    #[error("the kernel made no dump: the scheduler did not end while the test ran")]
    NoExit,
    /// One ended, and its dump is not there.
    #[error("the kernel's dump is not in the trace: the scheduler ended with {0}")]
    NotRecorded(String),
}

/// Show the dump that the kernel made when the scheduler ended.
///
/// # Errors
/// [`NoDump`].
pub fn show_dump(run: &Run<'_>) -> Result<Shown, NoDump> {
    let exit = run.scheduler_exit().ok_or(NoDump::NoExit)?;
    let dump = exit.dump.as_deref().filter(|dump| !dump.is_empty());
    let dump = dump.ok_or_else(|| NoDump::NotRecorded(clean(&SchedulerExit::in_words(exit))))?;
    let mut lines =
        vec![format!("{} ({})", printable(&exit.in_words()), seconds(run.since_start_ns(exit.at_ns)))];
    lines.push(String::new());
    // Whole: no line is made shorter.
    lines.extend(dump.lines().map(printable));
    let json = json!({
        "since_start_ns": run.since_start_ns(exit.at_ns),
        "kind": exit.kind_name,
        "cut": Dump::parse(dump).cut,
        "dump": dump,
    });
    Ok(Shown { lines, json })
}
