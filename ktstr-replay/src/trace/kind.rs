//! Kinds of records, and how large a body of each may be.

use std::fmt;

/// A kind of record that this release knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Kind {
    /// What was run: the first record, JSON.
    Manifest = 1,
    /// Content-addressed bytes.
    Blob = 2,
    /// Timed events.
    Events = 3,
    /// A capture's maps, runqueues and registers.
    Sample = 4,
    /// Up to 64 pages of guest memory.
    PageChunk = 5,
    /// Which pages guest memory was made of at one moment.
    Checkpoint = 6,
    /// A judgement that was asked for.
    Claim = 7,
    /// What the run was judged to be, JSON.
    Verdict = 8,
    /// Something that should be there and is not.
    Loss = 9,
    /// Guest and host time, taken together.
    Clock = 10,
    /// Everything before it is whole.
    Commit = 11,
    /// Where every record is: the last one of a finished trace.
    Index = 12,
}

const MIB: u64 = 1 << 20;

impl Kind {
    /// All kinds, ascending by code.
    pub const ALL: [Self; 12] = [
        Self::Manifest,
        Self::Blob,
        Self::Events,
        Self::Sample,
        Self::PageChunk,
        Self::Checkpoint,
        Self::Claim,
        Self::Verdict,
        Self::Loss,
        Self::Clock,
        Self::Commit,
        Self::Index,
    ];

    /// The kind of a code, if this release knows it.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == code)
    }

    /// The name of a code's kind, or `unknown (CODE)`.
    pub fn name_of(code: u16) -> String {
        Self::from_code(code).map_or_else(|| format!("unknown ({code})"), |kind| kind.name().to_owned())
    }

    /// The code in a record's header.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// Largest decoded body, in bytes. A writer refuses to write more, a reader to allocate more.
    pub fn max_raw_bytes(self) -> u64 {
        match self {
            Self::Blob | Self::Index => 64 * MIB,
            Self::Events | Self::Sample | Self::Checkpoint => 32 * MIB,
            Self::Manifest | Self::Verdict => 16 * MIB,
            Self::PageChunk | Self::Claim | Self::Loss => MIB,
            Self::Clock | Self::Commit => 4096,
        }
    }

    /// Its name in reports and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Events => "events",
            Self::Sample => "sample",
            Self::PageChunk => "page-chunk",
            Self::Checkpoint => "checkpoint",
            Self::Claim => "claim",
            Self::Verdict => "verdict",
            Self::Loss => "loss",
            Self::Clock => "clock",
            Self::Commit => "commit",
            Self::Index => "index",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_and_zero_is_none() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(Kind::from_code(0), None);
        assert_eq!(Kind::from_code(13), None);
    }
}
