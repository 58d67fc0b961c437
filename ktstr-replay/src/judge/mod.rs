//! Judging a whole trace: the run itself, its claims, its thresholds, its checks.
//!
//! **Invariant:** a verdict is a function of the trace. A check's closure sees the trace and nothing else, and
//! where it cannot be run (there is no test binary), what it found when it was last run is in the trace.

mod body;
mod checks;
mod claims;
mod expectation;
mod machine;
mod scheduler;
mod starved;
mod whole;

pub use checks::{Check, CheckFn, Checks};

use crate::claim::Claim;
use crate::run::Run;
use crate::verdict::Verdict;

impl Run<'_> {
    /// Judge the run: by the claims that were recorded, or by `claims` in their place.
    pub fn judge(&self, claims: Option<&[Claim]>, checks: Checks<'_>) -> Verdict {
        let mut verdict = Verdict::new();
        verdict.allow_inconclusive = self.manifest.test.allow_inconclusive;
        let machine = machine::judge(self);
        // A guest that died takes the scheduler with it; one that hangs may hang because of the scheduler.
        if machine.is_cause {
            verdict.findings.extend(machine.findings);
            verdict.findings.extend(scheduler::judge(self));
        } else {
            verdict.findings.extend(scheduler::judge(self));
            verdict.findings.extend(machine.findings);
        }
        verdict.findings.push(body::judge(self, verdict.outcome()));
        verdict.findings.extend(whole::judge(self));
        verdict.findings.extend(starved::judge(self));
        verdict.findings.extend(claims::judge(self, claims));
        verdict.findings.extend(checks::judge(self, checks));
        expectation::apply(self, &mut verdict);
        verdict
    }
}

#[cfg(test)]
mod tests;
