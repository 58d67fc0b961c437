//! Runs that were not made.

use super::claims::judge_claims;
use crate::claim::Claim;
use crate::run::Run;
use crate::verdict::{Finding, Origin, Outcome};

/// The manifest says that the test was not run, and `why`. It has no recording then; and nothing can be said of what is `asked` now.
pub(super) fn judge(run: &Run<'_>, why: &str, asked: Option<&[Claim]>) -> Vec<Finding> {
    let mut findings = vec![Finding::new(Origin::Run, "skipped", Outcome::Skip, why)];
    if !run.events.is_empty() || run.samples.iter().next().is_some() || !run.losses.is_empty() {
        let found = "the trace says that the test was not run, and has a recording of it";
        findings.push(Finding::new(Origin::Run, "recording", Outcome::Fail, found));
    }
    let unknown = |claim: &Claim| {
        Finding::new(Origin::Claim, claim.to_string(), Outcome::Inconclusive, "the test was not run")
    };
    findings.extend(asked.unwrap_or_default().iter().map(unknown));
    findings
}

/// The trace is of a core file: there was no test. Claims can be asked of its one moment.
pub(super) fn judge_core(run: &Run<'_>, asked: Option<&[Claim]>) -> Vec<Finding> {
    let found = "it is of a core file, of which no test is known";
    let mut findings = vec![Finding::new(Origin::Run, "import", Outcome::Skip, found)];
    findings.extend(judge_claims(run, asked));
    findings
}
