//! Kinds of records: a row each, with the code, the name, the body and how large it may be. And the other bounds on what a
//! trace may make its reader do.

use std::fmt;

use super::body::Body;
use super::record::{
    Blob, Checkpoint, ClaimRecord, Clock, Commit, EventChunk, Index, Loss, Manifest, PageChunk, Sample,
    VerdictText,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Largest decoded body of any kind, in bytes; of a kind that is not known, too.
pub(crate) const MAX_RAW_BYTES: u64 = 64 * MIB;

/// Records of a trace at most.
pub(crate) const MAX_RECORDS: usize = 1 << 19;

/// Segments of a trace, the first aside, that are read.
pub(crate) const MAX_SEGMENTS: usize = 64;

/// Decoded bytes of all events of a trace at most: they are held in memory together.
pub(crate) const MAX_EVENT_BYTES: u64 = 256 << 20;

/// Decoded bytes of all samples of a trace at most: those who judge hold them together, too.
pub(crate) const MAX_SAMPLE_BYTES: u64 = 512 << 20;

/// Decoded bytes of all claims, losses or clocks of a trace at most.
pub(crate) const MAX_SMALL_BYTES: u64 = 64 << 20;

/// Tables between a checkpoint and its full table at most; the writer makes 15.
pub(crate) const MAX_PARENTS: usize = 64;

/// Runs of all tables of one checkpoint at most.
pub(crate) const MAX_RUNS: usize = 1 << 21;

/// Decoded page chunks that are kept, of 256 KiB each.
pub(crate) const CACHED_CHUNKS: usize = 128;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $code:literal, $name:literal, $body:ty, $max:expr;)*) => {
        /// A kind of record that this release reads.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Kind {
            $($(#[$doc])* $kind = $code,)*
        }

        impl Kind {
            /// All kinds, ascending by code.
            pub const ALL: [Self; [$($code),*].len()] = [$(Self::$kind),*];

            /// Largest decoded body, in bytes. A writer refuses to write more, a reader to allocate more.
            pub(crate) fn max_raw_bytes(self) -> u64 {
                match self {
                    $(Self::$kind => $max,)*
                }
            }

            /// Its name in reports and in JSON.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// The newest version of its body that this release reads.
            pub(crate) fn newest_version(self) -> u16 {
                match self {
                    $(Self::$kind => <$body as Body>::VERSION,)*
                }
            }
        }
    };
}

kinds! {
    /// What was run: the first record, JSON.
    Manifest = 1, "manifest", Manifest, 16 * MIB;
    /// Content-addressed bytes.
    Blob = 2, "blob", Blob, MAX_RAW_BYTES;
    /// Timed events.
    Events = 3, "events", EventChunk, 32 * MIB;
    /// A capture's maps, runqueues and registers.
    Sample = 4, "sample", Sample, 32 * MIB;
    /// Up to 64 pages of guest memory.
    PageChunk = 5, "page-chunk", PageChunk, MIB;
    /// Which pages guest memory was made of at one moment.
    Checkpoint = 6, "checkpoint", Checkpoint, 32 * MIB;
    /// A judgement that was asked for.
    Claim = 7, "claim", ClaimRecord, MIB;
    /// What the run was judged to be, JSON.
    Verdict = 8, "verdict", VerdictText, 16 * MIB;
    /// Something that should be there and is not.
    Loss = 9, "loss", Loss, MIB;
    /// Guest and host time, taken together.
    Clock = 10, "clock", Clock, 4 * KIB;
    /// Everything before it is whole.
    Commit = 11, "commit", Commit, 4 * KIB;
    /// Where every record is: the last one of a finished trace.
    Index = 12, "index", Index, MAX_RAW_BYTES;
}

/// A code that a later release will use, with its name: CPUs and devices of a saved machine, beside a checkpoint. This release has
/// no body for it: it names such records, skips and counts them.
const MACHINE_STATE: (u16, &str) = (13, "machine-state");

impl Kind {
    /// The kind of a code, if this release reads it.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The name of a code's kind, also of one that only later releases read.
    pub fn name_of(code: u16) -> Option<&'static str> {
        let reserved = || (code == MACHINE_STATE.0).then_some(MACHINE_STATE.1);
        Self::from_code(code).map(Self::name).or_else(reserved)
    }

    /// Its records are of the whole file, and of no segment.
    pub(crate) fn is_of_file(self) -> bool {
        matches!(self, Self::Commit | Self::Index)
    }

    /// The code in a record's header.
    pub fn code(self) -> u16 {
        self as u16
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
            assert!(kind.max_raw_bytes() <= MAX_RAW_BYTES);
        }
        assert_eq!(Kind::from_code(0), None);
        assert_eq!(Kind::from_code(13), None);
    }

    #[test]
    fn the_reserved_code_follows_those_that_are_read_and_has_a_name_of_its_own() {
        let read = Kind::ALL.iter().map(|kind| (kind.code(), kind.name()));
        let all: Vec<(u16, &str)> = read.chain([MACHINE_STATE]).collect();
        assert!(all.iter().zip(1..).all(|((code, _), expected)| *code == expected));
        let names: std::collections::BTreeSet<_> = all.iter().map(|(_, name)| name).collect();
        assert_eq!(names.len(), all.len());
        assert_eq!((Kind::name_of(13), Kind::name_of(14)), (Some("machine-state"), None));
    }
}
