//! Payloads: whether each that the test names was run, how each run ended, and the checks of its metrics.
//!
//! Everything is out of the events: a run carries its own checks, so that it is judged the same wherever and whenever it is read.

mod metric;
mod ended;
#[cfg(test)]
mod tests;

pub(crate) use ended::how_it_ended;

use std::collections::BTreeMap;

use super::host_gaps::{self, HostGaps};
use crate::run::Run;
use crate::text::{counted, listed};
use crate::trace::record::{EventBody, PayloadEnd, PayloadRun};
use crate::units::{GuestNs, HostNs};
use crate::verdict::{Finding, Origin, Outcome};

/// The findings of all payloads: for each run one of the run itself and one for each of its checks.
pub(super) fn judge(run: &Run<'_>) -> Vec<Finding> {
    let (excuse, gaps) = (Excuse::of(run), HostGaps::of(run));
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, payload) in run.payloads() {
        *count.entry(&payload.name).or_default() += 1;
    }
    let mut findings = Vec::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (told, payload) in told(run) {
        let number = seen.entry(&payload.name).or_default();
        *number += 1;
        let who = match count.get(payload.name.as_str()) {
            Some(2..) => format!("payload {} #{number}", payload.name),
            _ => format!("payload {}", payload.name),
        };
        let mut of_run = vec![ended::judge(payload, &who)];
        of_run.extend(payload.checks.iter().filter_map(|check| metric::judge(payload, check, &who)));
        let reason = reason(payload, told, excuse, &gaps);
        for finding in of_run.iter_mut().filter(|finding| finding.outcome == Outcome::Fail) {
            match reason {
                None => {}
                Some(Reason::Of(outcome)) => finding.outcome = outcome,
                Some(Reason::HostGaps) => {
                    finding.outcome = Outcome::Inconclusive;
                    finding.lines.push(host_gaps::said(gaps.total_ns()));
                }
            }
        }
        findings.extend(of_run);
    }
    findings.extend(never_ran(run, &count, excuse));
    findings
}

/// When a run was told, by both clocks.
type Told = (GuestNs, HostNs);

fn told<'r>(run: &'r Run<'_>) -> impl Iterator<Item = (Told, &'r PayloadRun)> {
    run.events.iter().filter_map(|event| match &event.body {
        EventBody::Payload(payload) => Some(((event.guest_ns, event.host_ns), &**payload)),
        _ => None,
    })
}

/// What may be the reason of failures of payloads.
#[derive(Clone, Copy)]
enum Excuse {
    /// Not all of the run was recorded.
    Partial,
    /// The scheduler left, then.
    Left(GuestNs),
}

impl Excuse {
    fn of(run: &Run<'_>) -> Option<Self> {
        if run.is_partial() {
            return Some(Self::Partial);
        }
        run.scheduler_exit().map(|exit| Self::Left(exit.at_ns))
    }
}

/// Why a run's failures are none.
#[derive(Clone, Copy)]
enum Reason {
    /// They count as this.
    Of(Outcome),
    /// The host did not run the machine.
    HostGaps,
}

/// A payload that could not be started, or that exited by itself, did so whatever became of scheduler and host; one that had ended
/// before the scheduler left, too.
fn reason(payload: &PayloadRun, told: Told, excuse: Option<Excuse>, gaps: &HostGaps<'_>) -> Option<Reason> {
    if matches!(payload.end, PayloadEnd::NotStarted | PayloadEnd::Ended) {
        return None;
    }
    let ended_ns = payload.began_ns.saturating_add(payload.wall_ns);
    match excuse {
        Some(Excuse::Partial) => return Some(Reason::Of(Outcome::Inconclusive)),
        Some(Excuse::Left(at_ns)) if ended_ns >= at_ns.0 => return Some(Reason::Of(Outcome::Skip)),
        _ => {}
    }
    // The two clocks are as far apart as they were when the run was told.
    let (guest_ns, host_ns) = told;
    let ended = HostNs(host_ns.0.saturating_sub(guest_ns.0.saturating_sub(ended_ns)));
    let is_late = payload.end == PayloadEnd::TimedOut;
    (is_late && gaps.explain(ended, payload.wall_ns, payload.timeout_ns)).then_some(Reason::HostGaps)
}

/// Payloads that the test names and of which there is no run.
fn never_ran(run: &Run<'_>, count: &BTreeMap<&str, usize>, excuse: Option<Excuse>) -> Option<Finding> {
    let asked = run.manifest.test.asked.as_ref()?;
    let absent: Vec<&str> =
        asked.payloads.iter().map(String::as_str).filter(|name| !count.contains_key(name)).collect();
    let was_started = |name: &str| {
        run.events.iter().any(|event| match &event.body {
            EventBody::Op { name: op, detail } if op == RUN_PAYLOAD => is_start_of(detail, name),
            _ => false,
        })
    };
    let why = |name: &str| match was_started(name) {
        true => format!("payload {name} was started, and its end is not in the trace"),
        false => format!("payload {name} was never run"),
    };
    let found = match absent.as_slice() {
        [] => return None,
        [one] if was_started(one) => why(one),
        [one] => format!("{}: start it in the body, or take it off the test's attributes", why(one)),
        many => format!("of {} there is no run", counted(many.len(), "payload")),
    };
    // A body that failed did not come to all of them.
    let body_failed =
        run.body_result().is_none_or(|(error, failures)| error.is_some() || !failures.is_empty());
    let outcome = match excuse {
        Some(Excuse::Partial) => Outcome::Inconclusive,
        _ if body_failed => Outcome::Skip,
        _ => Outcome::Fail,
    };
    let lines = if absent.len() > 1 { listed(absent.into_iter().map(why).collect()) } else { Vec::new() };
    Some(Finding::new(Origin::Run, "payloads", outcome, found).with_lines(lines))
}

/// Name of the operation that the start of a payload is in the trace.
const RUN_PAYLOAD: &str = "run_payload";

/// Whether an operation's detail, as in `fio in cg_0, pid 7`, is the start of this payload.
fn is_start_of(detail: &str, name: &str) -> bool {
    let rest = detail.strip_prefix(name);
    rest.is_some_and(|rest| rest.starts_with(" in ") || rest.starts_with(", pid "))
}
