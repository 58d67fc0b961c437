//! Verdicts: what was found, how bad it is, and the exit code that says so.

mod check;
mod finding;

pub use check::ValueCheck;
pub use finding::{Because, Finding, Origin, Outcome};

use serde::{Deserialize, Serialize};

use crate::path::Number;

/// What a judgement of a run found.
///
/// ```
/// use ktstr_replay::claim;
/// use ktstr_replay::verdict::{Outcome, Verdict};
///
/// let mut v = Verdict::new();
/// let runs = [30, 12];
/// claim!(v, runs[0] - runs[1]).at_most(10).because("the cgroups have the same weight");
/// v.check("runs", runs[0]).between(1, 100);
/// assert_eq!((v.outcome(), v.exit_code()), (Outcome::Fail, 1));
/// assert_eq!(v.findings[0].summary, "18 is not <= 10");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct Verdict {
    /// What was found, in the order in which it was looked at.
    pub findings: Vec<Finding>,
    /// Inconclusive exits with 0.
    pub allow_inconclusive: bool,
    /// Which run it is of: the test's name and when the recording began. Empty: not of a whole run, or of a release
    /// that did not say.
    pub run: String,
}

/// A verdict as it is stored. The outcome is there for `jq`; a reader makes it anew.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Wire {
    outcome: Outcome,
    exit_code: u8,
    allow_inconclusive: bool,
    run: String,
    findings: Vec<Finding>,
}

impl From<Wire> for Verdict {
    fn from(wire: Wire) -> Self {
        Self { findings: wire.findings, allow_inconclusive: wire.allow_inconclusive, run: wire.run }
    }
}

impl From<Verdict> for Wire {
    fn from(verdict: Verdict) -> Self {
        Self {
            outcome: verdict.outcome(),
            exit_code: verdict.exit_code(),
            allow_inconclusive: verdict.allow_inconclusive,
            run: verdict.run,
            findings: verdict.findings,
        }
    }
}

impl Verdict {
    /// A verdict that has found nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The worst of what was found; a skip when nothing was checked.
    pub fn outcome(&self) -> Outcome {
        self.findings.iter().map(Finding::counts_as).max().unwrap_or_default()
    }

    /// 0 for pass and skip, 1 for fail, 2 for inconclusive (0 where that is allowed).
    pub fn exit_code(&self) -> u8 {
        match self.outcome() {
            Outcome::Inconclusive if self.allow_inconclusive => 0,
            outcome => outcome.exit_code(),
        }
    }

    /// Add a finding.
    pub fn add(&mut self, finding: Finding) -> Because<'_> {
        self.findings.push(finding);
        Because::last_of(&mut self.findings)
    }

    /// Look at a value: `v.check("share", share).at_least(0.4)`. The macro [`claim!`](crate::claim!) makes the label.
    pub fn check(&mut self, label: impl Into<String>, value: impl Into<Number>) -> ValueCheck<'_> {
        ValueCheck::new(self, label.into(), value.into())
    }

    /// Take over the findings of another verdict.
    pub fn merge(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.allow_inconclusive |= other.allow_inconclusive;
    }
}

/// Look at a value of a check, with its own text as the label: `claim!(v, a + b).at_least(3)`.
#[macro_export]
macro_rules! claim {
    ($verdict:expr, $value:expr $(,)?) => {
        $verdict.check(stringify!($value), $value)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(outcome: Outcome) -> Finding {
        Finding::new(Origin::Run, "it", outcome, "as found")
    }

    fn verdict(outcomes: &[Outcome]) -> Verdict {
        let mut verdict = Verdict::new();
        for outcome in outcomes {
            verdict.add(finding(*outcome));
        }
        verdict
    }

    #[test]
    fn the_worst_finding_decides() {
        use Outcome::{Fail, Inconclusive, Pass, Skip};
        for (found, outcome, code) in [
            (&[][..], Skip, 0),
            (&[Skip, Pass], Pass, 0),
            (&[Pass, Inconclusive, Pass], Inconclusive, 2),
            (&[Inconclusive, Fail, Pass], Fail, 1),
        ] {
            let verdict = verdict(found);
            assert_eq!((verdict.outcome(), verdict.exit_code()), (outcome, code), "{found:?}");
        }
    }

    #[test]
    fn allowed_inconclusive_exits_with_0_and_a_failure_does_not() {
        let mut allowed = verdict(&[Outcome::Inconclusive]);
        allowed.allow_inconclusive = true;
        assert_eq!((allowed.outcome(), allowed.exit_code()), (Outcome::Inconclusive, 0));
        allowed.add(finding(Outcome::Fail));
        assert_eq!(allowed.exit_code(), 1);
    }

    #[test]
    fn a_stored_verdict_reads_back_and_does_not_believe_its_own_outcome() {
        let verdict = verdict(&[Outcome::Pass, Outcome::Fail]);
        let mut json = serde_json::to_value(&verdict).unwrap();
        assert_eq!((&json["outcome"], &json["exit_code"]), (&"fail".into(), &1.into()));
        json["outcome"] = "pass".into();
        let read: Verdict = serde_json::from_value(json).unwrap();
        assert_eq!((read.outcome(), &read), (Outcome::Fail, &verdict));
    }

    #[test]
    fn value_checks_say_what_was_compared_and_why_it_matters() {
        let mut v = Verdict::new();
        let share = 0.25;
        claim!(v, share * 2.0).at_least(0.6).because("two workers share a CPU");
        assert_eq!(v.outcome(), Outcome::Fail);
        assert_eq!(v.findings[0].what, "share * 2.0");
        assert_eq!(v.findings[0].summary, "0.5 is not >= 0.6");
        claim!(v, share).at_most(1);
        assert_eq!(v.findings[1].summary, "0.25 <= 1");
        assert_eq!(v.findings[0].lines, ["because: two workers share a CPU"]);
    }

    #[test]
    fn each_comparison_of_a_value_can_hold_and_can_fail() {
        type Looks = fn(ValueCheck<'_>) -> Outcome;
        let looks: [(Looks, f64, f64); 9] = [
            (|c| c.at_least(3).outcome(), 3.0, 2.9),
            (|c| c.at_most(3).outcome(), 3.0, 3.1),
            (|c| c.gt(3).outcome(), 3.1, 3.0),
            (|c| c.lt(3).outcome(), 2.9, 3.0),
            (|c| c.eq(3).outcome(), 3.0, 3.1),
            (|c| c.ne(3).outcome(), 3.1, 3.0),
            (|c| c.between(1, 3).outcome(), 3.0, 3.1),
            (|c| c.near(3, 0.5).outcome(), 3.5, 3.6),
            (|c| c.is_finite().outcome(), 3.0, f64::INFINITY),
        ];
        for (i, (look, good, bad)) in looks.into_iter().enumerate() {
            let outcome = |value: f64| {
                let mut v = Verdict::new();
                look(v.check("x", value))
            };
            assert_eq!(outcome(good), Outcome::Pass, "{i}");
            assert_eq!(outcome(bad), Outcome::Fail, "{i}");
            assert_eq!(outcome(f64::NAN), Outcome::Fail, "NaN, {i}");
        }
    }
}
