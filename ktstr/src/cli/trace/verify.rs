//! `ktstr trace verify`.

use std::fmt::Write as _;
use std::path::PathBuf;

use ktstr_replay::text::printable;
use ktstr_replay::trace::Trace;
use serde::Serialize;

use super::fault::{FaultInfo, missing};

#[derive(Serialize)]
pub(super) struct Verified {
    path: PathBuf,
    pub(super) clean: bool,
    records: u64,
    pub(super) faults: Vec<FaultInfo>,
    missing: Vec<String>,
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
        let verdict = if self.clean {
            "finished and intact"
        } else {
            "not whole; `ktstr trace repair` makes a new file"
        };
        let _ = writeln!(out, "{}: {} records, {verdict}", self.path.display(), self.records);
        out
    }
}
