//! What a pattern found out about its columns.

use crate::verdict::Outcome;

/// The result of holding a claim against columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Pass, fail or inconclusive.
    pub outcome: Outcome,
    /// One line: what was found.
    pub summary: String,
    /// The points that broke it, ascending.
    pub offenders: Vec<Offender>,
    /// What was left out of the judgement, and why.
    pub notes: Vec<String>,
}

/// A point that broke a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offender {
    /// Its position in the column.
    pub at: usize,
    /// What is wrong with it.
    pub why: String,
}

impl Judgement {
    /// Fail when anything offends, else what `rest` says.
    pub(super) fn new(outcome: Outcome, summary: impl Into<String>) -> Self {
        Self { outcome, summary: summary.into(), offenders: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn inconclusive(summary: impl Into<String>) -> Self {
        Self::new(Outcome::Inconclusive, summary)
    }

    pub(super) fn noting(mut self, notes: Vec<String>) -> Self {
        self.notes = notes;
        self
    }

    /// Fail for these points.
    pub(super) fn broken(offenders: Vec<Offender>, summary: impl Into<String>) -> Self {
        Self { outcome: Outcome::Fail, summary: summary.into(), offenders, notes: Vec::new() }
    }
}

impl Offender {
    pub(super) fn new(at: usize, why: impl Into<String>) -> Self {
        Self { at, why: why.into() }
    }
}
