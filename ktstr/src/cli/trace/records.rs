//! The list of records that `ktstr trace info --records` prints: headers, nothing decoded.

use std::fmt::Write as _;

use ktstr_replay::trace::record::IndexEntry;
use serde::Serialize;

/// A record's header. `kind` is the code; what the keys are depends on it (docs/trace-format.md).
#[derive(Serialize)]
pub(super) struct RecordInfo {
    offset: u64,
    kind: u16,
    version: u16,
    flags: u16,
    segment: u16,
    sequence: u64,
    stored_len: u64,
    raw_len: u64,
    guest_ns: u64,
    host_ns: u64,
    keys: [u64; 2],
    #[serde(skip)]
    kind_name: String,
}

impl From<&IndexEntry> for RecordInfo {
    fn from(entry: &IndexEntry) -> Self {
        let IndexEntry {
            offset,
            kind,
            version,
            flags,
            segment,
            sequence,
            stored_len,
            raw_len,
            guest_ns,
            host_ns,
            keys,
        } = *entry;
        let kind_name = entry.kind_name();
        Self {
            offset,
            kind,
            version,
            flags,
            segment,
            sequence,
            stored_len,
            raw_len,
            guest_ns,
            host_ns,
            keys,
            kind_name,
        }
    }
}

/// A line for each record.
pub(super) fn record_table(records: &[RecordInfo]) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:>9} {:>12} {:<14} {:>12} {:>12} {:>12}",
        "sequence", "offset", "kind", "stored bytes", "raw bytes", "guest ms"
    );
    for record in records {
        let _ = writeln!(
            out,
            "{:>9} {:>12} {:<14} {:>12} {:>12} {:>12.3}",
            record.sequence,
            record.offset,
            record.kind_name,
            record.stored_len,
            record.raw_len,
            record.guest_ns as f64 / 1e6
        );
    }
    out
}
