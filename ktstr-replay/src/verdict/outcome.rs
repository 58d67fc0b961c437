//! How bad a finding is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How bad a finding is, from harmless to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing was looked at.
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
