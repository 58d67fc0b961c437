//! What differs between two traces: what was run, how it was judged, and the scheduler's variables and maps at captures
//! of the same name.
//!
//! The same pattern of a run differs in its counters each time; what is to be the same is up to the reader, who chooses
//! among [`Part`]s.

mod captures;
mod manifest;
mod maps;
mod text;
mod verdict;

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::judge::Checks;
use crate::run::Run;
use crate::verdict::Verdict;

/// What can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What was run, on what.
    Manifest,
    /// The outcome, and that of each finding.
    Verdict,
    /// The scheduler's global variables.
    Variables,
    /// The entries of its other maps.
    Maps,
}

impl Part {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Manifest, Self::Verdict, Self::Variables, Self::Maps];

    /// Its name on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Verdict => "verdict",
            Self::Variables => "variables",
            Self::Maps => "maps",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no [`Part`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is none of manifest, verdict, variables and maps")]
pub struct UnknownPart(String);

impl FromStr for Part {
    type Err = UnknownPart;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|part| part.name() == text).ok_or_else(|| UnknownPart(text.to_owned()))
    }
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Of what kind it is.
    pub part: Part,
    /// The capture it is of, by its tag, with a number where a tag repeats: `periodic_001`, `mark#2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<String>,
    /// What it is: a key of the manifest, a finding, a variable, `MAP[KEY]`.
    pub what: String,
    /// In the first trace; `None` where it has no such thing.
    pub a: Option<String>,
    /// In the second one.
    pub b: Option<String>,
}

/// All that differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Each difference.
    pub changes: Vec<Change>,
    /// Captures that were compared.
    pub captures: usize,
}

/// Compare two runs in these parts.
#[must_use]
pub fn diff(a: &Run<'_>, b: &Run<'_>, parts: &[Part]) -> Diff {
    let mut diff = Diff::default();
    if parts.contains(&Part::Manifest) {
        manifest::compare(a.manifest(), b.manifest(), &mut diff.changes);
    }
    if parts.contains(&Part::Verdict) {
        verdict::compare(&judged(a), &judged(b), &mut diff.changes);
    }
    if parts.contains(&Part::Variables) || parts.contains(&Part::Maps) {
        diff.captures = captures::compare(a, b, parts, &mut diff.changes);
    }
    diff
}

/// The verdict that is recorded, or what it would be.
fn judged(run: &Run<'_>) -> Verdict {
    run.recorded_verdict().unwrap_or_else(|| run.judge(None, Checks::Recorded))
}

/// Differences between two lists of named texts, by name.
fn compare_named(
    part: Part,
    capture: Option<&str>,
    a: impl IntoIterator<Item = (String, String)>,
    b: impl IntoIterator<Item = (String, String)>,
    changes: &mut Vec<Change>,
) {
    let mut b: std::collections::BTreeMap<_, _> = b.into_iter().collect();
    let mut change = |what, a, b| {
        let capture = capture.map(str::to_owned);
        changes.push(Change { part, capture, what, a, b });
    };
    for (what, a) in a {
        match b.remove(&what) {
            Some(b) if b == a => {}
            b => change(what, Some(a), b),
        }
    }
    for (what, b) in b {
        change(what, None, Some(b));
    }
}
