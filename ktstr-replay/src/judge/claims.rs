//! What the test asks of its trace: its claims, and its checks, which are closures that look at the trace.

use std::collections::{HashMap, HashSet};

use super::host_gaps;
use super::losses::LostMemory;
use crate::claim::Claim;
use crate::path::{Projection, SyntaxError};
use crate::run::Run;
use crate::series::{Column, Series};
use crate::trace::Trace;
use crate::trace::record::{CaptureKind, ClaimOrigin};
use crate::verdict::{Finding, Origin, Outcome, Verdict};

/// Events that all claims about events look at together: a trace may have half a million claims, and as many events as fill 256 MiB.
const MOST_LOOKS: u64 = 1 << 30;

/// Judge the recorded claims, or `given` in their place. Columns that claims share are made once.
pub(super) fn judge_claims(run: &Run<'_>, given: Option<&[Claim]>) -> Vec<Finding> {
    let claims: Vec<Result<Claim, Finding>> = match given {
        Some(claims) => claims.iter().cloned().map(Ok).collect(),
        None => {
            let data = run.claims.iter().filter(|c| c.origin == ClaimOrigin::Data);
            data.map(|c| c.text.parse().map_err(|e| unreadable(&c.text, &e))).collect()
        }
    };
    let known = || claims.iter().flatten();
    let columns = columns(run, &run.subject(), known().filter(|claim| !claim.is_of_events()));
    // A claim about events is about all captures, whatever they were taken for: those next to an event matter.
    let of_all = self::columns(run, &run.captures(), known().filter(|claim| claim.is_of_events()));
    let lost = LostMemory::of(run);
    let mut looks = MOST_LOOKS;
    let mut look = |claim: Claim| {
        if claim.is_of_events() {
            let Some(rest) = looks.checked_sub(run.timeline().size()) else {
                let why = "not judged: the claims before it have looked at as many events as is bearable";
                return Finding::new(Origin::Claim, claim.to_string(), Outcome::Inconclusive, why);
            };
            looks = rest;
            return of_events(run, &claim, &of_all, lost.as_ref());
        }
        let of: Vec<_> = claim.projections().into_iter().filter_map(|p| columns.get(p)).collect();
        let finding = Finding::of_claim(&claim, &claim.judge(&of), &of);
        match &lost {
            Some(lost) => lost.excuse(&of, finding, |columns| claim.judge(columns)),
            None => finding,
        }
    };
    claims.into_iter().map(|claim| claim.map_or_else(|finding| finding, &mut look)).collect()
}

/// What `claims` read of each sample of `series`.
fn columns<'c>(
    run: &Run<'_>,
    series: &Series,
    claims: impl Iterator<Item = &'c Claim>,
) -> HashMap<Projection, Column> {
    let mut seen = HashSet::new();
    let wanted: Vec<&Projection> =
        claims.flat_map(Claim::projections).filter(|projection| seen.insert(*projection)).collect();
    if wanted.is_empty() {
        return HashMap::new();
    }
    let columns = series.columns_with(run.trace, &wanted);
    columns.into_iter().map(|column| (column.projection.clone(), column)).collect()
}

fn of_events(
    run: &Run<'_>,
    claim: &Claim,
    columns: &HashMap<Projection, Column>,
    lost: Option<&LostMemory>,
) -> Finding {
    let columns: Vec<&Column> = claim.projections().into_iter().filter_map(|p| columns.get(p)).collect();
    let finding = Finding::of_claim(claim, &claim.judge_by(&columns, run.timeline()), &columns);
    match lost {
        Some(lost) => lost.excuse(&columns, finding, |columns| claim.judge_by(columns, run.timeline())),
        None => finding,
    }
}

/// A recorded claim that is broken by values which the trace has already, so that nothing that is still to come can make it hold:
/// for a run that is on. A value that is missing may still come, as the scheduler's statistics do after their capture.
pub fn broken_for_good(run: &Run<'_>) -> Option<Claim> {
    // The failure may be one of those that are expected, together with an error of the scheduler that is still to come.
    let test = &run.manifest.test;
    if test.expect_scx_error_contains.is_some() || test.expect_scx_error_matches.is_some() {
        return None;
    }
    // What claims are about is not there yet: `subject` would take the captures of the ends in its place.
    if test.num_snapshots > 0 && !run.taken().any(|sample| sample.kind == CaptureKind::Periodic) {
        return None;
    }
    let series = run.subject();
    let data = run.claims.iter().filter(|c| c.origin == ClaimOrigin::Data);
    let mut claims = data.filter_map(|c| c.text.parse::<Claim>().ok()).filter(Claim::fails_for_good);
    claims.find(|claim| {
        // At the end such a failure is inconclusive, and the rest of the run may still tell.
        if host_gaps::excuse(run, claim) {
            return false;
        }
        let columns = series.columns_with(run.trace, &claim.projections());
        let judgement = claim.judge(&columns.iter().collect::<Vec<_>>());
        let has_values = |at: usize| {
            columns.iter().all(|column| column.points.get(at).is_some_and(|point| point.value.is_ok()))
        };
        judgement.outcome == Outcome::Fail
            && judgement.offenders.iter().any(|offender| has_values(offender.at))
    })
}

/// A recorded claim that does not parse, as in a trace of a newer release.
fn unreadable(text: &str, error: &SyntaxError) -> Finding {
    let lines = error.render().lines().map(str::to_owned).collect();
    Finding::new(Origin::Claim, text, Outcome::Fail, "error: this release cannot read the claim")
        .with_lines(lines)
}

/// What a check is: it sees the trace, and adds what it finds to a verdict.
pub type CheckFn<'c> =
    dyn Fn(&Trace, &mut Verdict) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + 'c;

/// A check of the test, with its label.
pub struct LabelledCheck<'c> {
    /// What reports call it: the function's name.
    pub label: &'c str,
    /// The closure.
    pub run: &'c CheckFn<'c>,
}

/// Where the findings of a run's checks come from.
#[derive(Clone, Copy)]
pub enum CheckSource<'c> {
    /// What was found when the checks were last run, from the recorded verdict: there is no test binary.
    Recorded,
    /// Run these now.
    Fresh(&'c [LabelledCheck<'c>]),
}

pub(super) fn judge_checks(run: &Run<'_>, checks: CheckSource<'_>) -> Vec<Finding> {
    match checks {
        CheckSource::Fresh(checks) => checks.iter().flat_map(|check| run_now(run, check)).collect(),
        CheckSource::Recorded => {
            let recorded = run.recorded_verdict();
            let mut by_label: HashMap<&str, Vec<&Finding>> = HashMap::new();
            for finding in recorded.iter().flat_map(|verdict| &verdict.findings) {
                if let Origin::Check(label) = &finding.origin {
                    by_label.entry(label).or_default().push(finding);
                }
            }
            // All that a label found is recalled at once: a trace may have it any number of times.
            let mut seen = HashSet::new();
            let closures = run.claims.iter().filter(|c| c.origin == ClaimOrigin::Closure);
            let labels = closures.map(|c| c.text.as_str()).filter(|label| seen.insert(*label));
            labels
                .flat_map(|label| recall(by_label.get(label).map(Vec::as_slice).unwrap_or_default(), label))
                .collect()
        }
    }
}

fn run_now(run: &Run<'_>, check: &LabelledCheck<'_>) -> Vec<Finding> {
    let mut verdict = Verdict::new();
    let result = (check.run)(run.trace, &mut verdict);
    let origin = Origin::Check(check.label.to_owned());
    let mut findings = verdict.findings;
    for finding in &mut findings {
        finding.origin = origin.clone();
    }
    if let Err(e) = result {
        findings.push(Finding::new(origin, check.label, Outcome::Fail, format!("error: {}", chain(&*e))));
    } else if findings.is_empty() {
        findings.push(Finding::new(origin, check.label, Outcome::Pass, "found nothing amiss"));
    }
    findings
}

/// An error with its sources.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn recall(recorded: &[&Finding], label: &str) -> Vec<Finding> {
    if recorded.is_empty() {
        let why = "was not run when the trace was recorded, and only the test itself can run it";
        let origin = Origin::Check(label.to_owned());
        return vec![Finding::new(origin, label, Outcome::Inconclusive, why)];
    }
    // Whether it was expected is for the judgement of the whole to say.
    recorded.iter().map(|found| Finding { expected: false, ..(*found).clone() }).collect()
}
