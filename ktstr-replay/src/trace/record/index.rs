//! Where every record of a finished trace is.

use rkyv::{Archive, Deserialize, Serialize};

use crate::trace::body::archived_body;
use crate::trace::kind::Kind;

/// The index's body: one entry for each record before it, ascending by offset.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct IndexV1 {
    /// The entries.
    pub entries: Vec<IndexEntryV1>,
}

/// A record's place, and its header but for what is the same in all headers.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntryV1 {
    /// Offset of the record's header in the file, in bytes.
    pub offset: u64,
    /// Code of its kind.
    pub kind: u16,
    /// Version of its body.
    pub version: u16,
    /// Flags.
    pub flags: u16,
    /// Segment.
    pub segment: u16,
    /// Sequence number.
    pub sequence: u64,
    /// Length of its zstd frame.
    pub stored_len: u64,
    /// Length of its decoded body.
    pub raw_len: u64,
    /// Guest time.
    pub guest_ns: u64,
    /// Host time.
    pub host_ns: u64,
    /// Keys.
    pub keys: [u64; 2],
}

impl IndexEntryV1 {
    /// Its kind, if this release reads it: records of other segments than the first are none that it does.
    pub fn read_as(&self) -> Option<Kind> {
        Kind::from_code(self.kind).filter(|_| self.segment == 0)
    }

    /// In words: `sample`, `watch-fires`, `unknown (77)`, `sample (segment 1)`.
    pub fn kind_name(&self) -> String {
        let name = Kind::name_of(self.kind).map_or_else(|| format!("unknown ({})", self.kind), str::to_owned);
        if self.segment == 0 { name } else { format!("{name} (segment {})", self.segment) }
    }
}

archived_body!(IndexV1, Index, 1);

/// The current index.
pub type Index = IndexV1;
/// The current index entry.
pub type IndexEntry = IndexEntryV1;
