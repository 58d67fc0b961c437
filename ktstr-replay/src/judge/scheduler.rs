//! Whether the scheduler loaded, and whether it lived as long as it should.

use crate::text::seconds;
use crate::trace::record::{GuestEnd, OutputSource, Stage};
use crate::verdict::{Finding, Origin, Outcome};

use crate::run::Run;

/// Lines of a scheduler's output that are kept as evidence when it did not load: the end of a verifier's log. Kernels
/// from 7.3 on explain a rejection over some forty lines.
const OUTPUT_LINES: usize = 64;

pub(super) fn judge(run: &Run<'_>) -> Option<Finding> {
    if !run.has_scheduler() {
        return None;
    }
    let name = run.manifest.scheduler.as_ref().map_or("the scheduler", |s| s.name.as_str());
    if run.stage(Stage::SchedulerEnabled).is_none() {
        return Some(never_enabled(run, name));
    }
    let Some(exit) = run.scheduler_exit() else {
        let until = match run.end() {
            Some((GuestEnd::PoweredOff, _)) => "throughout",
            _ => "as far as the recording goes",
        };
        return Some(finding(Outcome::Pass, format!("{name} was enabled {until}")));
    };
    let at = seconds(run.since_start_ns(exit.at_ns));
    let mut found = format!("{name} died at {at}: {}", exit.title());
    if let Some(cause) = exit.cause() {
        found.push_str(": ");
        found.push_str(&cause);
    }
    let mut lines = Vec::new();
    if let Some(process) = &exit.process {
        lines.push(format!("process: {process}"));
    }
    Some(finding(Outcome::Fail, found).with_lines(lines))
}

fn never_enabled(run: &Run<'_>, name: &str) -> Finding {
    let exited = run.stage(Stage::SchedulerExited);
    if exited.is_none() && run.is_partial() {
        return finding(Outcome::Inconclusive, format!("nothing is recorded of {name} being enabled"));
    }
    if run.stage(Stage::SchedulerStarted).is_none() {
        return finding(Outcome::Fail, format!("{name} was never started"));
    }
    let how = match exited {
        Some((_, _, "")) => "its process ended".to_owned(),
        Some((_, _, detail)) => detail.to_owned(),
        None => {
            run.stage(Stage::InitFailed).map(|(_, _, detail)| detail).filter(|d| !d.is_empty()).map_or_else(
                || "its process ran, but sched_ext was not enabled in time".to_owned(),
                str::to_owned,
            )
        }
    };
    let output = run.output(OutputSource::Scheduler);
    let lines: Vec<_> = output.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    let from = lines.len().saturating_sub(OUTPUT_LINES);
    let mut evidence = vec![if lines.is_empty() {
        "it wrote nothing".to_owned()
    } else if from > 0 {
        format!("the end of what it wrote ({from} lines before it):")
    } else {
        "what it wrote:".to_owned()
    }];
    evidence.extend(lines.iter().skip(from).map(|l| format!("  {l}")));
    finding(Outcome::Fail, format!("{name} did not load: {how}")).with_lines(evidence)
}

fn finding(outcome: Outcome, summary: String) -> Finding {
    Finding::new(Origin::Run, "scheduler", outcome, summary)
}
