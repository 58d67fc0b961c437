//! How it was judged.

use super::{Change, Part, compare_named};
use crate::verdict::Verdict;

pub(super) fn compare(a: &Verdict, b: &Verdict, changes: &mut Vec<Change>) {
    compare_named(Part::Verdict, None, outcomes(a), outcomes(b), changes);
}

/// The outcome of the whole, then that of each finding.
fn outcomes(verdict: &Verdict) -> Vec<(String, String)> {
    let whole = (String::from("outcome"), verdict.outcome().to_string());
    let findings = verdict.findings.iter();
    let findings = findings.map(|finding| (finding.what.clone(), finding.outcome.to_string()));
    std::iter::once(whole).chain(findings).collect()
}
