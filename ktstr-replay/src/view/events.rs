//! The history of a run: what its CPUs did, step by step. It is no memory: a trace without checkpoints has it, too.

use serde_json::{Value as Json, json};

use super::Shown;
use crate::history::{HistoryLog, LoggedStep, MissingSteps, counted_steps, why_none};
use crate::run::Run;
use crate::text::{Align, clean, layout, seconds};
use crate::units::{Cpu, GuestNs};

/// Most steps that are shown at once.
const MOST: usize = 100_000;

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
#[error("no history was recorded: {why}")]
pub struct NoHistory {
    why: String,
}

impl NoHistory {
    /// Why, as the recorder said, if it did.
    fn of(run: &Run<'_>) -> Self {
        Self { why: clean(&why_none(&run.losses)) }
    }
}

impl EventFilter {
    fn takes(&self, run: &Run<'_>, log: &HistoryLog, step: &LoggedStep) -> bool {
        let at = run.since_start_ns(step.at);
        self.task.is_none_or(|pid| log.is_about(step, pid))
            && self.cpu.is_none_or(|cpu| step.cpu == cpu)
            && self.from.is_none_or(|from| at >= from)
            && self.to.is_none_or(|to| at <= to)
    }

    /// Whether steps that are missing may be some of those that it takes.
    fn misses(&self, run: &Run<'_>, missing: &MissingSteps) -> bool {
        let is_before = |at: Option<GuestNs>, end: Option<i64>| match (at, end) {
            (Some(at), Some(end)) => run.since_start_ns(at) < end,
            _ => false,
        };
        let is_behind = |at: Option<GuestNs>, end: Option<i64>| match (at, end) {
            (Some(at), Some(end)) => run.since_start_ns(at) > end,
            _ => false,
        };
        self.cpu.is_none_or(|cpu| missing.cpu == cpu)
            && !is_before(missing.until, self.from)
            && !is_behind(missing.after, self.to)
    }
}

/// Show the history, or a part of it.
///
/// # Errors
/// [`NoHistory`].
pub fn show_events(run: &Run<'_>, filter: &EventFilter) -> Result<Shown, NoHistory> {
    let log = run.history();
    if log.steps.is_empty() && log.missing.is_empty() {
        return Err(NoHistory::of(run));
    }
    let steps: Vec<&LoggedStep> = log.steps.iter().filter(|step| filter.takes(run, log, step)).collect();
    // A run may have millions, and each takes a hundred times its place in the trace when it is laid out.
    let more = steps.len().saturating_sub(MOST);
    let shown = steps.get(more..).unwrap_or_default();
    let missing: Vec<&MissingSteps> =
        log.missing.iter().filter(|missing| filter.misses(run, missing)).collect();
    let mut lines: Vec<String> =
        missing.iter().map(|missing| missing.words(|at| seconds(run.since_start_ns(at)))).collect();
    if log.senseless > 0 {
        lines.push(format!("{} that make no sense", counted_steps(log.senseless)));
    }
    lines.push(format!("{} of {}", steps.len(), counted_steps(log.steps.len() as u64)));
    if more > 0 {
        lines.push(format!("the last {MOST} of them follow; --from and --to ask for others"));
    }
    lines.extend(table(run, log, shown));
    let step = |step: &&LoggedStep| {
        let mut json = log.json(step);
        json["since_start_ns"] = run.since_start_ns(step.at).into();
        json
    };
    let json = json!({
        "events": shown.iter().map(step).collect::<Vec<_>>(),
        "before": more,
        "all": log.steps.len(),
        "missing": missing.iter().map(|missing| of_missing(missing)).collect::<Vec<_>>(),
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
        let s = run.since_start_ns(step.at) as f64 / 1e9;
        vec![format!("{s:.6}s"), step.cpu.to_string(), log.kind(step).to_owned(), clean(&log.words(step))]
    }));
    layout(&[Align::Right, Align::Right, Align::Left, Align::Left], &rows)
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
