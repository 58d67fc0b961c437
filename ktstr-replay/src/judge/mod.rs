//! Judging a whole trace: the run itself, its claims, its thresholds, its checks.
//!
//! **Invariant:** a verdict is a function of the trace. A check's closure sees the trace and nothing else, and
//! where it cannot be run (there is no test binary), what it found when it was last run is in the trace.

mod claims;
mod expectation;
mod not_enabled;
mod lifecycle;
mod starved;
#[cfg(test)]
mod tests;

pub use claims::{CheckFn, CheckSource, LabelledCheck};

use crate::claim::Claim;
use crate::run::Run;
use crate::verdict::Verdict;

impl Run<'_> {
    /// Judge the run: by the claims that were recorded, or by `claims` in their place.
    pub fn judge(&self, claims: Option<&[Claim]>, checks: CheckSource<'_>) -> Verdict {
        let mut verdict = Verdict::new();
        verdict.allow_inconclusive = self.manifest.test.allow_inconclusive;
        let machine = lifecycle::judge_machine(self);
        // A guest that died takes the scheduler with it; one that hangs may hang because of the scheduler.
        if machine.is_cause {
            verdict.findings.extend(machine.findings);
            verdict.findings.extend(lifecycle::judge_scheduler(self));
        } else {
            verdict.findings.extend(lifecycle::judge_scheduler(self));
            verdict.findings.extend(machine.findings);
        }
        verdict.findings.push(lifecycle::judge_body(self, verdict.outcome()));
        verdict.findings.extend(lifecycle::judge_trace(self));
        verdict.findings.extend(starved::judge(self));
        verdict.findings.extend(claims::judge_claims(self, claims));
        verdict.findings.extend(claims::judge_checks(self, checks));
        expectation::apply(self, &mut verdict);
        verdict
    }
}
