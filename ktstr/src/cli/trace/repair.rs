//! `ktstr trace repair`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use ktstr_replay::text::printable;
use ktstr_replay::trace::{Repaired, repair};
use serde::Serialize;

use super::print;
use super::verify::FaultInfo;
use crate::cli::commands::CommandArgs;

/// Write what is intact of a damaged or unfinished trace to a new file. The old one is only read.
#[derive(Args, Debug)]
pub(super) struct RepairArgs {
    /// The trace.
    trace: PathBuf,
    /// The new file; it must not exist.
    to: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl CommandArgs for RepairArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        print(&RepairedTrace::make(&self.trace, &self.to)?, self.json, RepairedTrace::text)?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Serialize)]
pub(super) struct RepairedTrace {
    #[serde(serialize_with = "crate::cli::out::path_as_text")]
    from: PathBuf,
    #[serde(serialize_with = "crate::cli::out::path_as_text")]
    to: PathBuf,
    pub(super) kept_records: u64,
    faults: Vec<FaultInfo>,
    uncommitted_records: u64,
    #[serde(skip_serializing_if = "is_zero")]
    junk_bytes: u64,
    /// What came of the trace that followed it in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Box<RepairedTrace>>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl RepairedTrace {
    pub(super) fn make(from: &Path, to: &Path) -> anyhow::Result<Self> {
        Ok(Self::of(from, to, repair(from, to)?))
    }

    fn of(from: &Path, to: &Path, repaired: Repaired) -> Self {
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            kept_records: repaired.kept,
            faults: repaired.faults.iter().map(FaultInfo::from).collect(),
            uncommitted_records: repaired.uncommitted_records,
            junk_bytes: repaired.junk_bytes,
            next: repaired.next.map(|next| {
                let (path, next) = *next;
                Box::new(Self::of(from, &path, next))
            }),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for fault in &self.faults {
            let _ = writeln!(out, "not carried over: {}", printable(&fault.what));
        }
        if self.uncommitted_records > 0 {
            let _ = writeln!(
                out,
                "not carried over: {} records after the last commit mark",
                self.uncommitted_records
            );
        }
        if self.junk_bytes > 0 {
            let _ = writeln!(out, "not carried over: {} bytes after the trace's end", self.junk_bytes);
        }
        let _ = writeln!(out, "{}: {} records", self.to.display(), self.kept_records);
        if let Some(next) = &self.next {
            out.push_str("of the trace that follows it in the file:\n");
            out.push_str(&next.text());
        }
        out
    }
}
