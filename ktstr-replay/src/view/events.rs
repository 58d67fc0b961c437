//! The history of a run: what its CPUs did, step by step. It is no memory: a trace without checkpoints has it, too.

use serde_json::{Value as Json, json};

use super::Shown;
use crate::history::{HistoryLog, LoggedStep, MissingSteps};
use crate::run::Run;
use crate::text::{Align, clean, counted, layout, seconds};
use crate::units::Cpu;

/// Which steps are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Those about this task: that switch to or from it, wake or move it.
    pub task: Option<u32>,
    /// Those of this CPU.
    pub cpu: Option<Cpu>,
    /// Those from this time on, in ns since the body began.
    pub from: Option<i64>,
    /// Those up to this time, likewise.
    pub to: Option<i64>,
}

/// There is nothing to show.
#[derive(Debug, thiserror::Error)]
#[error(
    "no history was recorded: the test has `history = false`, its kernel has no tracing, or the trace is of an older release"
)]
pub struct NoHistory;

impl EventFilter {
    fn takes(&self, run: &Run<'_>, log: &HistoryLog, step: &LoggedStep) -> bool {
        let at = run.since_start_ns(step.at);
        self.task.is_none_or(|pid| log.is_about(step, pid))
            && self.cpu.is_none_or(|cpu| step.cpu == cpu)
            && self.from.is_none_or(|from| at >= from)
            && self.to.is_none_or(|to| at <= to)
    }
}

/// Show the history, or a part of it.
///
/// # Errors
/// [`NoHistory`].
pub fn show_events(run: &Run<'_>, filter: &EventFilter) -> Result<Shown, NoHistory> {
    let log = HistoryLog::of(&run.events);
    if log.steps.is_empty() && log.missing.is_empty() {
        return Err(NoHistory);
    }
    let steps: Vec<&LoggedStep> = log.steps.iter().filter(|step| filter.takes(run, &log, step)).collect();
    let mut lines: Vec<String> = log.missing.iter().map(|missing| said(run, missing)).collect();
    if log.senseless > 0 {
        lines.push(format!("{} that make no sense", counted_steps(log.senseless)));
    }
    lines.push(format!("{} of {}", steps.len(), counted_steps(log.steps.len() as u64)));
    lines.extend(table(run, &log, &steps));
    let step = |step: &&LoggedStep| {
        let mut json = log.json(step);
        json["since_start_ns"] = run.since_start_ns(step.at).into();
        json
    };
    let json = json!({
        "events": steps.iter().map(step).collect::<Vec<_>>(),
        "all": log.steps.len(),
        "missing": log.missing.iter().map(of_missing).collect::<Vec<_>>(),
        "senseless": log.senseless,
    });
    Ok(Shown { lines, json })
}

/// The steps as a table, for the report as well.
pub(crate) fn table(run: &Run<'_>, log: &HistoryLog, steps: &[&LoggedStep]) -> Vec<String> {
    if steps.is_empty() {
        return Vec::new();
    }
    let mut rows = vec![["time", "CPU", "event", ""].map(str::to_owned).to_vec()];
    rows.extend(steps.iter().map(|step| {
        let us = run.since_start_ns(step.at) as f64 / 1e9;
        vec![format!("{us:.6}s"), step.cpu.to_string(), log.kind(step).to_owned(), clean(&log.words(step))]
    }));
    layout(&[Align::Right, Align::Right, Align::Left, Align::Left], &rows)
}

fn counted_steps(count: u64) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), "step")
}

/// What is missing, in words.
fn said(run: &Run<'_>, missing: &MissingSteps) -> String {
    let time = |at| seconds(run.since_start_ns(at));
    let place = match (missing.after, missing.until) {
        (Some(after), Some(until)) => format!(" between {} and {}", time(after), time(until)),
        (None, Some(until)) => format!(" before {}", time(until)),
        (Some(after), None) => format!(" after {}", time(after)),
        (None, None) => String::new(),
    };
    let parts =
        [(missing.overwritten, "overwritten by the kernel"), (missing.left_out, "more than a trace keeps")];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, why)| format!("{} {why}", counted_steps(count)))
        .collect();
    format!("missing of CPU {}{place}: {}", missing.cpu, parts.join(", "))
}

fn of_missing(missing: &MissingSteps) -> Json {
    json!({
        "cpu": missing.cpu,
        "after_ns": missing.after,
        "until_ns": missing.until,
        "overwritten": missing.overwritten,
        "left_out": missing.left_out,
    })
}
