//! What differs between two traces: what was run, how it was judged, and the scheduler's variables and maps at captures
//! of the same name.
//!
//! The same pattern of a run differs in its counters each time; what is to be the same is up to the reader, who chooses
//! among [`Part`]s.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ktstr_replay::diff::{Part, diff};
//! use ktstr_replay::run::Run;
//! use ktstr_replay::trace::Trace;
//!
//! let traces = concat!(env!("CARGO_MANIFEST_DIR"), "/../traces/");
//! let steady = Trace::open(format!("{traces}steady.trace.zst").as_ref())?;
//! let stall = Trace::open(format!("{traces}stall.trace.zst").as_ref())?;
//! let found = diff(&Run::load(&steady), &Run::load(&stall), &[Part::Verdict]);
//! assert!(found.text().contains("outcome"));
//! # Ok(())
//! # }
//! ```

mod compare;

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::Serialize;

use crate::judge::CheckSource;
use crate::run::Run;
use crate::text::{printable, shorten};
use crate::verdict::Verdict;

/// Differences of each part that are shown.
const SHOWN: usize = 40;
/// Longest value, in characters.
const VALUE_CHARS: usize = 60;

/// The parts, from a name and a line of documentation each.
macro_rules! parts {
    ($($name:ident $text:literal: $doc:literal;)*) => {
        /// What can be compared.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Part {
            $(#[doc = $doc] $name,)*
        }

        impl Part {
            /// All of them, in the order in which they are shown.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name on a command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

parts! {
    Manifest "manifest": "What was run, on what.";
    Verdict "verdict": "The outcome, and that of each finding.";
    Variables "variables": "The scheduler's global variables.";
    Maps "maps": "The entries of its other maps.";
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no [`Part`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is none of {parts}", parts = Part::ALL.iter().map(|part| part.name()).collect::<Vec<_>>().join(", "))]
pub struct UnknownPart(String);

impl FromStr for Part {
    type Err = UnknownPart;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.iter().find(|part| part.name() == text);
        named.copied().ok_or_else(|| UnknownPart(text.to_owned()))
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
        compare::manifests(a.manifest(), b.manifest(), &mut diff.changes);
    }
    if parts.contains(&Part::Verdict) {
        compare::verdicts(&judged(a), &judged(b), &mut diff.changes);
    }
    if parts.contains(&Part::Variables) || parts.contains(&Part::Maps) {
        diff.captures = compare::captures(a, b, parts, &mut diff.changes);
    }
    diff
}

/// The verdict that is recorded, or what it would be.
fn judged(run: &Run<'_>) -> Verdict {
    run.recorded_verdict().unwrap_or_else(|| run.judge(None, CheckSource::Recorded))
}

impl Diff {
    /// The differences as text, at most 40 of each part.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for &part in Part::ALL {
            let of_part: Vec<_> = self.changes.iter().filter(|change| change.part == part).collect();
            if of_part.is_empty() {
                continue;
            }
            let _ = writeln!(out, "{part}: {} different", of_part.len());
            let mut capture = None;
            for change in of_part.iter().take(SHOWN) {
                if change.capture != capture {
                    capture.clone_from(&change.capture);
                    let _ = writeln!(out, "  at {}", printable(capture.as_deref().unwrap_or_default()));
                }
                let _ = writeln!(out, "  {}", line(change));
            }
            if of_part.len() > SHOWN {
                let _ = writeln!(out, "  and {} more; --json has all", of_part.len() - SHOWN);
            }
        }
        if out.is_empty() { String::from("no difference\n") } else { out }
    }
}

fn line(change: &Change) -> String {
    let side = |value: &Option<String>| match value {
        None => String::from("(none)"),
        Some(value) => shorten(&printable(value), VALUE_CHARS),
    };
    format!("{:<36}  {}  ->  {}", printable(&change.what), side(&change.a), side(&change.b))
}
