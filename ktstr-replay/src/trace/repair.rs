//! Making a finished trace of a damaged or unfinished one. The old file is only read.

use std::fs;
use std::path::Path;

use super::error::{Fault, TraceError, WriteError};
use super::header::HEADER_LEN;
use super::kind::Kind;
use super::reader::Trace;
use super::record::{Loss, LossKind};
use super::writer::{TraceWriter, WriterOptions};
use crate::units::HostNs;

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Records that are in the new trace.
    pub kept: u64,
    /// What could not be carried over, ascending by offset in the old trace.
    pub faults: Vec<Fault>,
    /// Whole records after the last commit mark, which were not carried over.
    pub uncommitted_records: u64,
}

/// Why a trace could not be repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The old trace cannot be opened.
    #[error("the trace cannot be repaired")]
    Open(#[from] TraceError),
    /// The new one cannot be written. Nothing is left of it.
    #[error("the repaired trace cannot be written")]
    Write(#[from] WriteError),
}

/// Write to `to`, which must not exist, everything that is intact in the trace `from`, and finish it.
///
/// Records are carried over as they are, but for their sequence numbers and commit marks. Loss records say what
/// was damaged or missing.
///
/// ```
/// use ktstr_replay::trace::{Trace, TraceWriter, record::Manifest, repair};
///
/// let folder = tempfile::tempdir()?;
/// let [cut, whole] = ["cut", "whole"].map(|name| folder.path().join(name));
/// drop(TraceWriter::create(&cut, &Manifest::default())?); // never finished
/// assert_eq!(repair(&cut, &whole)?.faults, []);
/// assert!(Trace::open(&whole)?.is_finalized());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`RepairError`]; `to` then does not exist.
pub fn repair(from: &Path, to: &Path) -> Result<Repaired, RepairError> {
    let trace = Trace::open(from)?;
    let writer = TraceWriter::without_manifest(to, trace.trace_id(), WriterOptions::default())?;
    carry_over(&trace, writer).map_err(|e| {
        // What is there is half a trace that nobody asked for; the error says why.
        let _ = fs::remove_file(to);
        e.into()
    })
}

fn carry_over(trace: &Trace, mut writer: TraceWriter) -> Result<Repaired, WriteError> {
    let mut kept = 0;
    let mut host_ns = HostNs(0);
    for entry in trace.records().iter().filter(|entry| entry.read_as() != Some(Kind::Commit)) {
        host_ns = host_ns.max(entry.host_ns);
        // A record that is damaged is noted in the trace.
        let Ok((header, record)) = trace.raw_record(entry) else { continue };
        writer.carry_over(header, &record[HEADER_LEN..])?;
        kept += 1;
    }
    let faults = trace.faults();
    let whole = trace.completeness();
    let mut losses: Vec<(u64, String)> = faults.iter().map(|fault| (1, format!("repair: {fault}"))).collect();
    if whole.uncommitted_records > 0 {
        let detail = "repair: whole records after the last commit mark".to_owned();
        losses.push((whole.uncommitted_records, detail));
    }
    if whole.absent_records > 0 {
        losses.push((whole.absent_records, "repair: records that the numbering says were there".to_owned()));
    }
    for (count, detail) in losses {
        writer.loss(&Loss { host_ns, kind: LossKind::Records, count, detail })?;
    }
    writer.finish()?;
    Ok(Repaired { kept, faults, uncommitted_records: whole.uncommitted_records })
}
