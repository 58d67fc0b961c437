//! The verdict: each outcome stays as it was recorded, in words that the redacted trace itself gives.

use super::REDACTED;
use crate::verdict::{Finding, Verdict};

/// `recorded` in the words of `fresh`, a judgement of the redacted trace.
pub(in crate::slim) fn redacted_verdict(recorded: Verdict, fresh: &Verdict) -> Verdict {
    let Verdict { findings, allow_inconclusive, run } = recorded;
    let reworded = |finding: Finding| {
        let Finding { origin, what, outcome, expected, .. } = finding;
        let same = fresh
            .findings
            .iter()
            .find(|other| (&other.origin, &other.what, other.outcome) == (&origin, &what, outcome));
        let (summary, lines) = match same {
            Some(same) => (same.summary.clone(), same.lines.clone()),
            None => (REDACTED.to_owned(), Vec::new()),
        };
        Finding { origin, what, outcome, expected, summary, lines }
    };
    Verdict { findings: findings.into_iter().map(reworded).collect(), allow_inconclusive, run }
}
