//! Judging a whole trace: the run itself, its claims, its thresholds, its checks.
//!
//! **Invariant:** a verdict is a function of the trace. A check's closure sees the trace and nothing else, and
//! where it cannot be run (there is no test binary), what it found when it was last run is in the trace.

mod claims;
mod complete;
mod expectation;
mod host_gaps;
mod lifecycle;
mod losses;
mod not_enabled;
mod payloads;
mod refusal;
mod scheduler;
mod skipped;
mod splats;
mod sub_schedulers;
mod thresholds;
mod watches;
mod probes;
#[cfg(test)]
mod tests;

pub use claims::{CheckFn, CheckSource, LabelledCheck, broken_for_good};
pub(crate) use payloads::how_it_ended;
pub(crate) use splats::without_text as splat_without_text;

use crate::claim::Claim;
use crate::run::Run;
use crate::verdict::Verdict;

impl Run<'_> {
    /// The guest died of a fault of the emulator: nothing can be said of the test, and it is worth another run.
    pub fn emulator_failed(&self) -> bool {
        lifecycle::is_emulators_fault(self)
    }

    /// Judge the run: by the claims that were recorded, or by `claims` in their place.
    pub fn judge(&self, claims: Option<&[Claim]>, checks: CheckSource<'_>) -> Verdict {
        let mut verdict = Verdict::new();
        verdict.allow_inconclusive = self.manifest.test.allow_inconclusive;
        verdict.run = self.identity();
        if let Some(why) = &self.manifest.skipped {
            verdict.findings.extend(skipped::judge(self, why, claims));
            return verdict;
        }
        if self.manifest.imported.is_some() {
            verdict.findings.extend(skipped::judge_core(self, claims));
            return verdict;
        }
        let machine = lifecycle::judge_machine(self);
        // A guest that died takes the scheduler with it; one that hangs may hang because of the scheduler.
        if machine.is_cause {
            verdict.findings.extend(machine.findings);
            verdict.findings.extend(scheduler::judge(self));
        } else {
            verdict.findings.extend(scheduler::judge(self));
            verdict.findings.extend(machine.findings);
        }
        verdict.findings.extend(sub_schedulers::judge(self));
        verdict.findings.push(lifecycle::judge_body(self, verdict.outcome()));
        let ran = verdict.outcome();
        verdict.findings.extend(splats::judge(self));
        verdict.findings.extend(lifecycle::judge_trace(self));
        verdict.findings.extend(complete::judge_captures(self, ran));
        verdict.findings.extend(complete::judge_workers(self, ran));
        verdict.findings.extend(losses::judge(self));
        verdict.findings.extend(thresholds::judge(self));
        verdict.findings.extend(payloads::judge(self));
        verdict.findings.extend(watches::judge(self));
        verdict.findings.extend(probes::judge(self));
        verdict.findings.extend(claims::judge_claims(self, claims));
        verdict.findings.extend(claims::judge_checks(self, checks));
        verdict.findings.extend(lifecycle::unfounded_end(self, &verdict));
        verdict.findings.extend(complete::judge_asked(self, &verdict, claims.is_none()));
        lifecycle::apply_cut(self, &mut verdict);
        host_gaps::apply(self, &mut verdict);
        expectation::apply(self, &mut verdict);
        verdict
    }
}
