//! What is wrong with a trace, for people and programs.

use ktstr_replay::trace::{Completeness, Fault, Kind};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct FaultInfo {
    pub(super) offset: u64,
    kind: Option<u16>,
    sequence: Option<u64>,
    pub(super) what: String,
}

impl From<&Fault> for FaultInfo {
    fn from(fault: &Fault) -> Self {
        Self {
            offset: fault.offset,
            kind: fault.record.map(|(kind, _)| kind),
            sequence: fault.record.map(|(_, sequence)| sequence),
            what: fault.to_string(),
        }
    }
}

/// A line for each thing that the trace lacks.
pub(super) fn missing(whole: &Completeness) -> Vec<String> {
    let mut lines = Vec::new();
    if !whole.finalized {
        lines.push("it was not finished: it has no index, or a damaged one".to_owned());
    }
    if whole.uncommitted_bytes > 0 {
        lines.push(format!(
            "the last {} bytes come after the last commit mark and are not used; {} whole records are in them",
            whole.uncommitted_bytes, whole.uncommitted_records
        ));
    }
    if whole.absent_records > 0 {
        lines.push(format!("{} records that the numbering says were there", whole.absent_records));
    }
    for (kind, count) in &whole.unknown_kinds {
        let name = Kind::name_of(*kind).map(|name| format!(" ({name})")).unwrap_or_default();
        lines.push(format!("{count} records of kind {kind}{name} are of a newer release, and were skipped"));
    }
    if whole.other_segments > 0 {
        lines.push(format!(
            "{} records are of another machine of the run, and were skipped",
            whole.other_segments
        ));
    }
    if whole.newer_bodies > 0 {
        lines
            .push(format!("{} records have bodies of a newer release, and were skipped", whole.newer_bodies));
    }
    lines
}
