//! Checks: closures of the test that look at the trace.

use crate::trace::Trace;
use crate::trace::record::ClaimOrigin;
use crate::verdict::{Finding, Origin, Outcome, Verdict};

use crate::run::Run;

/// What a check is: it sees the trace, and adds what it finds to a verdict.
pub type CheckFn<'c> =
    dyn Fn(&Trace, &mut Verdict) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + 'c;

/// A check with its label.
pub struct Check<'c> {
    /// What reports call it: the function's name.
    pub label: &'c str,
    /// The closure.
    pub run: &'c CheckFn<'c>,
}

/// Where the findings of checks come from.
#[derive(Clone, Copy)]
pub enum Checks<'c> {
    /// What was found when the checks were last run, from the recorded verdict: there is no test binary.
    Recorded,
    /// Run these now.
    Fresh(&'c [Check<'c>]),
}

pub(super) fn judge(run: &Run<'_>, checks: Checks<'_>) -> Vec<Finding> {
    match checks {
        Checks::Fresh(checks) => checks.iter().flat_map(|check| run_now(run, check)).collect(),
        Checks::Recorded => {
            let labels =
                run.claims.iter().filter(|c| c.origin == ClaimOrigin::Closure).map(|c| c.text.as_str());
            let recorded = run.recorded_verdict();
            labels.flat_map(|label| recall(recorded.as_ref(), label)).collect()
        }
    }
}

fn run_now(run: &Run<'_>, check: &Check<'_>) -> Vec<Finding> {
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

fn recall(recorded: Option<&Verdict>, label: &str) -> Vec<Finding> {
    let origin = Origin::Check(label.to_owned());
    let found: Vec<_> = recorded
        .iter()
        .flat_map(|v| &v.findings)
        .filter(|f| f.origin == origin)
        // Whether it was expected is for the judgement of the whole to say.
        .map(|f| Finding { expected: false, ..f.clone() })
        .collect();
    if found.is_empty() {
        let why = "was not run when the trace was recorded, and only the test itself can run it";
        return vec![Finding::new(origin, label, Outcome::Inconclusive, why)];
    }
    found
}
