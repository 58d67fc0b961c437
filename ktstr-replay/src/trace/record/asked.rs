//! What happens to watches and to probes alike.

use super::{ProbeNews, WatchNews};

/// Why a watch or a probe is not armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// What it is of is not there yet.
    Waiting,
    /// It was taken away, for good or until what it is of is there again.
    Disarmed,
    /// It cannot be had, and is given up.
    Refused,
}

macro_rules! away {
    ($($news:ident),*) => {$(
        impl $news {
            /// That it is not armed from now on, and why.
            #[must_use]
            pub fn away(&self) -> Option<(Away, &str)> {
                Some(match self {
                    Self::Waiting { why } => (Away::Waiting, why),
                    Self::Disarmed { why } => (Away::Disarmed, why),
                    Self::Refused { why } => (Away::Refused, why),
                    _ => return None,
                })
            }
        }

        impl From<(Away, String)> for $news {
            fn from((how, why): (Away, String)) -> Self {
                match how {
                    Away::Waiting => Self::Waiting { why },
                    Away::Disarmed => Self::Disarmed { why },
                    Away::Refused => Self::Refused { why },
                }
            }
        }
    )*};
}

away!(WatchNews, ProbeNews);
