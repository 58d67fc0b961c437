//! One finding of a verdict, and how bad it is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One check of a run, and what it found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Where it comes from.
    pub origin: Origin,
    /// The claim's text, the check's label, or the part of the run.
    pub what: String,
    /// How bad it is.
    pub outcome: Outcome,
    /// The test expects this failure, so that it does not count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expected: bool,
    /// One line: what was found.
    pub summary: String,
    /// The evidence: offending samples, notes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

/// Where a finding comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The run itself: machine, scheduler, body, expectation.
    Run,
    /// A claim, which any reader can judge again.
    Claim,
    /// A threshold over worker reports.
    Threshold,
    /// A closure of the test, by label; only the test binary can run it again.
    Check(String),
}

impl Finding {
    /// A finding without evidence.
    pub fn new(
        origin: Origin,
        what: impl Into<String>,
        outcome: Outcome,
        summary: impl Into<String>,
    ) -> Self {
        Self {
            origin,
            what: what.into(),
            outcome,
            expected: false,
            summary: summary.into(),
            lines: Vec::new(),
        }
    }

    /// With this evidence.
    pub(crate) fn with_lines(mut self, lines: Vec<String>) -> Self {
        self.lines = lines;
        self
    }

    /// Its part in the verdict: a failure that the test expects is none.
    pub(crate) fn counts_as(&self) -> Outcome {
        if self.expected { Outcome::Pass } else { self.outcome }
    }
}

/// A finding that was just added, to be explained.
#[derive(Debug)]
pub struct Because<'v> {
    finding: Option<&'v mut Finding>,
}

impl<'v> Because<'v> {
    pub(super) fn last_of(findings: &'v mut [Finding]) -> Self {
        Self { finding: findings.last_mut() }
    }

    /// Say why this was looked at; shown when it does not hold.
    pub fn because(mut self, reason: impl AsRef<str>) -> Self {
        if let Some(finding) = &mut self.finding {
            finding.lines.push(format!("because: {}", reason.as_ref()));
        }
        self
    }

    /// What was found.
    pub fn outcome(&self) -> Outcome {
        self.finding.as_ref().map_or(Outcome::Skip, |f| f.outcome)
    }
}

/// How bad a finding is, from harmless to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing was checked.
    #[default]
    Skip,
    /// It holds.
    Pass,
    /// A measurement could not be taken; never a breach.
    Inconclusive,
    /// It does not hold.
    Fail,
}

impl Outcome {
    /// 0 pass or skip, 1 fail, 2 inconclusive.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Skip | Self::Pass => 0,
            Self::Fail => 1,
            Self::Inconclusive => 2,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Skip => "SKIP",
            Self::Pass => "PASS",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::Fail => "FAIL",
        })
    }
}
