//! What became of a watch or a probe.

/// What became of a watch or a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskedEnd {
    /// It could not be had, and why.
    Refused(String),
    /// It was never armed, and why.
    NeverArmed(String),
    /// It was armed, and no store fired it, or there was no call.
    NothingSeen,
    /// It fired, or there were calls.
    Seen,
}

impl AskedEnd {
    /// Of one that was given up or is away for these reasons.
    pub(crate) fn of(refused: Option<&str>, away: Option<&str>, armed: bool, seen: bool) -> Self {
        match (refused, armed, seen) {
            (Some(why), ..) => Self::Refused(why.to_owned()),
            (None, false, _) => {
                Self::NeverArmed(away.unwrap_or("the run ended before it was looked at").to_owned())
            }
            (None, true, false) => Self::NothingSeen,
            (None, true, true) => Self::Seen,
        }
    }

    /// Why it was not armed, if it never was.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Refused(why) | Self::NeverArmed(why) => Some(why),
            Self::NothingSeen | Self::Seen => None,
        }
    }

    /// The same as a person reads it.
    pub(crate) fn in_words(&self) -> Option<String> {
        let how = match self {
            Self::Refused(_) => "could not be armed",
            _ => "was never armed",
        };
        self.why().map(|why| format!("{how}: {why}"))
    }
}
