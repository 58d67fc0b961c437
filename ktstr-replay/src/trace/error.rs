//! What can go wrong with a trace.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::body::BodyError;
use super::format::TooNew;
use super::kind::Kind;

/// Why a trace, or something in it, could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file could not be opened or read.
    #[error("the trace {} could not be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not a trace.
    #[error("{} is not a ktstr trace: it {found}", path.display())]
    NotATrace {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        found: String,
    },
    /// A newer release wrote it.
    #[error("{} cannot be read", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Which formats, and which release reads it.
        #[source]
        source: TooNew,
    },
    /// A record is there and damaged.
    #[error("{0}")]
    Damaged(Fault),
    /// The trace has no such record.
    #[error("the trace has no {what}; it has {have}")]
    Missing {
        /// What was asked for.
        what: String,
        /// What there is of the kind.
        have: String,
    },
}

/// Something wrong at one place of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: offset in the file, in bytes.
    pub offset: u64,
    /// Kind and sequence number of the record there, where its header can be read.
    pub record: Option<(u16, u64)>,
    /// What is wrong.
    pub why: FaultKind,
}

/// What is wrong at one place of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// No record header where one should be.
    #[error("no valid record header; the next {skipped} bytes were skipped")]
    Header {
        /// Bytes up to the next valid header, or to the end.
        skipped: u64,
    },
    /// The file ends in the middle of a record.
    #[error("the file ends {missing} bytes before the record does")]
    Truncated {
        /// Bytes that are missing.
        missing: u64,
    },
    /// The header that is there is not the one that the index says.
    #[error("the record there is not the one that the index names")]
    NotAsIndexed,
    /// The zstd frame's checksum in the header does not agree.
    #[error("its checksum does not match")]
    Checksum,
    /// The body cannot be decoded.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The body contradicts its header, itself or another record.
    #[error("{0}")]
    Content(String),
    /// The file could not be read there.
    #[error("it could not be read: {0}")]
    Io(String),
    /// The tail or the index is damaged, so that the headers were scanned.
    #[error("the index cannot be used ({0}); record headers were scanned instead")]
    Index(String),
    /// More records than any trace has.
    #[error("more than {0} records; the rest is not read")]
    TooMany(usize),
}

impl Fault {
    /// What the machines of a trace have, ascending by offset: what was found when the file was opened is known to each of them.
    pub(crate) fn in_order(mut faults: Vec<Self>) -> Vec<Self> {
        faults.sort_by_key(|fault| fault.offset);
        faults.dedup();
        faults
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.record {
            Some((kind, sequence)) => match Kind::name_of(kind) {
                Some(kind) => write!(f, "{kind} record {sequence} at offset {}: {}", self.offset, self.why),
                None => write!(f, "record {sequence} of kind {kind} at offset {}: {}", self.offset, self.why),
            },
            None => write!(f, "at offset {}: {}", self.offset, self.why),
        }
    }
}

/// Why something could not be written to a trace.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file could not be made.
    #[error("the trace {} could not be created", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A write failed. The trace ends after the last whole record, and may be written on.
    #[error("the trace could not be written at offset {offset}")]
    Io {
        /// Where.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A body could not be encoded.
    #[error("a {kind} record could not be written")]
    Body {
        /// Of which kind.
        kind: Kind,
        /// Why.
        #[source]
        source: BodyError,
    },
    /// A checkpoint builds on one that was not written.
    #[error("the checkpoint before this one was not written; capture all pages again (base `Zero`)")]
    NoBase,
    /// A captured checkpoint contradicts itself.
    #[error("the captured checkpoint is not usable: {0}")]
    BadCapture(String),
    /// The trace has as many records as one may have.
    #[error("the trace has {0} records, the most that a trace can have")]
    Full(usize),
}
