//! Payloads: whether each that the test names was run, how each run ended, and the checks of its metrics.
//!
//! Everything is out of the events: a run carries its own checks, so that it is judged the same wherever and whenever it is read.

mod metric;
mod ended;
#[cfg(test)]
mod tests;

pub(crate) use ended::how_it_ended;

use std::collections::BTreeMap;

use crate::run::Run;
use crate::text::{counted, listed};
use crate::trace::record::{PayloadEnd, PayloadRun};
use crate::verdict::{Finding, Origin, Outcome};

/// The findings of all payloads: for each run one of the run itself and one for each of its checks.
pub(super) fn judge(run: &Run<'_>) -> Vec<Finding> {
    let excused = excused(run);
    let mut findings = Vec::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let runs: Vec<&PayloadRun> = run.payloads().map(|(_, payload)| payload).collect();
    for payload in &runs {
        let number = seen.entry(&payload.name).or_default();
        *number += 1;
        let of_name = runs.iter().filter(|other| other.name == payload.name).count();
        let who = match of_name {
            1 => format!("payload {}", payload.name),
            _ => format!("payload {} #{number}", payload.name),
        };
        let mut of_run = vec![ended::judge(payload, &who)];
        of_run.extend(payload.checks.iter().filter_map(|check| metric::judge(payload, check, &who)));
        findings.extend(of_run.into_iter().map(|finding| excuse(finding, payload, excused)));
    }
    findings.extend(never_ran(run, &seen, excused));
    findings
}

/// What failures of payloads count as where something else is the reason of them.
fn excused(run: &Run<'_>) -> Option<Outcome> {
    if run.is_partial() {
        return Some(Outcome::Inconclusive);
    }
    run.scheduler_exit().map(|_| Outcome::Skip)
}

/// A payload that could not be started, or that exited by itself, did so whatever became of the scheduler.
fn excuse(mut finding: Finding, payload: &PayloadRun, excused: Option<Outcome>) -> Finding {
    let own = matches!(payload.end, PayloadEnd::NotStarted | PayloadEnd::Ended);
    if let Some(outcome) = excused.filter(|_| !own && finding.outcome == Outcome::Fail) {
        finding.outcome = outcome;
    }
    finding
}

/// Payloads that the test names and of which there is no run.
fn never_ran(run: &Run<'_>, seen: &BTreeMap<&str, usize>, excused: Option<Outcome>) -> Option<Finding> {
    let asked = run.manifest.test.asked.as_ref()?;
    let absent: Vec<String> = asked
        .payloads
        .iter()
        .filter(|name| !seen.contains_key(name.as_str()))
        .map(|name| format!("payload {name}"))
        .collect();
    let found = match absent.as_slice() {
        [] => return None,
        [one] => format!("{one} was never run: start it in the body, or take it off the test's attributes"),
        many => format!("{} were never run", counted(many.len(), "payload")),
    };
    // A body that failed did not come to all of them.
    let body_failed =
        run.body_result().is_none_or(|(error, failures)| error.is_some() || !failures.is_empty());
    let outcome = excused.unwrap_or(if body_failed { Outcome::Skip } else { Outcome::Fail });
    let lines = if absent.len() > 1 { listed(absent) } else { Vec::new() };
    Some(Finding::new(Origin::Run, "payloads", outcome, found).with_lines(lines))
}
