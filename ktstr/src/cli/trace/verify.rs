//! `ktstr trace verify`, and what is wrong with a trace for all commands.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use ktstr_replay::text::printable;
use ktstr_replay::trace::{Completeness, Fault, Kind, Trace};
use serde::Serialize;

use super::print;
use crate::cli::commands::CommandArgs;
use crate::cli::opened::what_follows;

/// Read every record and name each fault with its offset. Exits with 1 if there is one, or if the trace is unfinished.
#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    /// The trace.
    pub(super) trace: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl CommandArgs for VerifyArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let result = Verified::of(&Trace::open(&self.trace)?);
        print(&result, self.json, Verified::text)?;
        Ok(ExitCode::from(u8::from(!result.clean)))
    }
}

#[derive(Serialize)]
pub(super) struct Verified {
    #[serde(serialize_with = "crate::cli::out::path_as_text")]
    path: PathBuf,
    pub(super) clean: bool,
    records: u64,
    pub(super) faults: Vec<FaultInfo>,
    missing: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_end: Option<String>,
}

impl Verified {
    pub(super) fn of(trace: &Trace) -> Self {
        let verification = trace.verify();
        Self {
            path: trace.path().to_owned(),
            clean: verification.is_clean(),
            records: verification.records,
            faults: verification.faults.iter().map(FaultInfo::from).collect(),
            missing: missing(&verification.completeness),
            after_end: verification.completeness.after_end.as_ref().map(what_follows),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for fault in &self.faults {
            let _ = writeln!(out, "fault: {}", printable(&fault.what));
        }
        for what in &self.missing {
            let _ = writeln!(out, "missing: {what}");
        }
        if let Some(after) = &self.after_end {
            let _ = writeln!(out, "note: {after}");
        }
        let verdict = if self.clean {
            "finished and intact"
        } else {
            "not whole; `ktstr trace repair` makes a new file"
        };
        let _ = writeln!(out, "{}: {} records, {verdict}", self.path.display(), self.records);
        out
    }
}

/// What is wrong with a trace, at one place of it.
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
    if whole.unread_segments > 0 {
        lines.push(format!(
            "{} records are of more machines of the run than are read, and were skipped",
            whole.unread_segments
        ));
    }
    if whole.newer_bodies > 0 {
        lines
            .push(format!("{} records have bodies of a newer release, and were skipped", whole.newer_bodies));
    }
    lines
}
