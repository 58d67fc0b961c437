//! What a sentence rests on: what stands in the trace, or what is concluded from it.

use serde::Serialize;

use crate::run::Run;
use crate::trace::record::Sample;

use super::SchedState;

/// What a sentence rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// It stands in these captures, by their tags, or in another record: `body`, `claim`.
    Seen(Vec<String>),
    /// It was concluded, and may be wrong where these do not tell all: what was looked at, and in which captures.
    Inferred(Vec<String>),
}

/// One sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sentence {
    /// Guest time since the body began, in ns; `None` for what is of the whole run.
    pub since_start_ns: Option<i64>,
    /// What it rests on.
    pub evidence: Evidence,
    /// The sentence.
    pub text: String,
}

impl Evidence {
    /// For people: `seen in periodic_001`, or `inferred`, which the premises follow elsewhere.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Seen(places) => match places.as_slice() {
                [] => "seen".to_owned(),
                [one] => format!("seen in {one}"),
                [one, two] => format!("seen in {one}, {two}"),
                [first, .., last] => format!("seen in {first} to {last}"),
            },
            Self::Inferred(_) => "inferred".to_owned(),
        }
    }

    /// The premises, for people; `None` where it was seen.
    #[must_use]
    pub(crate) fn premises(&self) -> Option<String> {
        match self {
            Self::Seen(_) => None,
            Self::Inferred(premises) => Some(format!("from: {}", premises.join("; "))),
        }
    }
}

impl Sentence {
    pub(super) fn at(since_start_ns: Option<i64>, evidence: Evidence, text: impl Into<String>) -> Self {
        Self { since_start_ns, evidence, text: text.into() }
    }

    /// What a capture shows.
    pub(super) fn seen(run: &Run<'_>, sample: &Sample, text: impl Into<String>) -> Self {
        Self::at(Some(run.since_start_ns(sample.guest_ns)), Evidence::Seen(vec![sample.tag.clone()]), text)
    }

    /// What the memory of a capture shows.
    pub(super) fn seen_at(state: &SchedState, text: impl Into<String>) -> Self {
        Self::at(state.moment(), Evidence::Seen(vec![state.tag.clone()]), text)
    }

    /// What several captures show, the first of which is at `state`.
    pub(super) fn seen_from(
        state: &SchedState,
        captures: impl IntoIterator<Item = String>,
        text: impl Into<String>,
    ) -> Self {
        Self::at(state.moment(), Evidence::Seen(captures.into_iter().collect()), text)
    }

    /// A conclusion about the time of `state`, or about what began there; `from` says what it rests on.
    pub(super) fn inferred(
        state: &SchedState,
        from: impl IntoIterator<Item = String>,
        text: impl Into<String>,
    ) -> Self {
        Self::at(state.moment(), Evidence::Inferred(from.into_iter().collect()), text)
    }
}
