//! Making a finished trace of a damaged or unfinished one. The old file is only read.

use std::fs;
use std::path::{Path, PathBuf};

use super::append;
use super::error::{Fault, TraceError, WriteError};
use super::reader::{AfterEnd, Trace};
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
    /// Bytes after the trace's end that are no trace, and were not carried over.
    pub junk_bytes: u64,
    /// What came of the trace that followed in the same file, where two were joined: its new file.
    pub next: Option<Box<(PathBuf, Repaired)>>,
}

/// Traces in one file at most.
const MAX_JOINED: usize = 256;

/// Why a trace could not be repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The old trace cannot be opened.
    #[error("the trace cannot be repaired")]
    Open(#[from] TraceError),
    /// The new one cannot be written. Nothing is left of it.
    #[error("the repaired trace cannot be written")]
    Write(#[from] WriteError),
    /// More traces were joined than are taken apart.
    #[error("more than {0} traces are joined in the file; split it first")]
    TooManyJoined(usize),
}

/// Write to `to`, which must not exist, everything that is intact in the trace `from`, and finish it.
///
/// Records are carried over as they are, but for their sequence numbers and commit marks. Loss records say what
/// was damaged or missing. Of several traces in one file each becomes a file: `new.trace.zst`, `new-2.trace.zst`, ...
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
    let mut made = Vec::new();
    repair_all(&Trace::open(from)?, to, 1, &mut made).inspect_err(|_| {
        // The files made so far are incomplete; the error says why.
        for path in made {
            let _ = fs::remove_file(path);
        }
    })
}

/// Repair the trace that is the `number`th of its file, counted from 1, and those that follow it. `made` are the files that were
/// made, also on an error.
fn repair_all(
    trace: &Trace,
    to: &Path,
    number: usize,
    made: &mut Vec<PathBuf>,
) -> Result<Repaired, RepairError> {
    if number > MAX_JOINED {
        return Err(RepairError::TooManyJoined(MAX_JOINED));
    }
    let path = if number == 1 { to.to_owned() } else { numbered(to, number) };
    let writer = TraceWriter::without_manifest(&path, trace.trace_id(), WriterOptions::default())?;
    made.push(path);
    let mut repaired = carry_over(trace, writer)?;
    if let Some(next) = trace.next_in_file() {
        let of_next = repair_all(&next?, to, number + 1, made)?;
        repaired.next = Some(Box::new((numbered(to, number + 1), of_next)));
    }
    Ok(repaired)
}

/// What the names of traces end with.
const SUFFIX: &str = ".trace.zst";

/// `new-2.trace.zst` of `new.trace.zst`. Names of tests have dots, too.
fn numbered(to: &Path, number: usize) -> PathBuf {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let (stem, rest) = match name.find(SUFFIX).or_else(|| name.rfind('.')) {
        Some(dot) if dot > 0 => name.split_at(dot),
        _ => (&*name, ""),
    };
    to.with_file_name(format!("{stem}-{number}{rest}"))
}

fn carry_over(trace: &Trace, mut writer: TraceWriter) -> Result<Repaired, WriteError> {
    let mut kept = 0;
    let mut host_ns = HostNs(0);
    let mut faults = Vec::new();
    for machine in trace.machines() {
        writer.begin_segment(machine.segment_number());
        host_ns = machine.records().iter().map(|entry| entry.host_ns).fold(host_ns, HostNs::max);
        kept += append::carry_over(&machine, &mut writer, |_| true)?;
        faults.extend(machine.faults());
    }
    let faults = Fault::in_order(faults);
    writer.begin_segment(0);
    let whole = trace.completeness();
    let mut losses: Vec<(u64, String)> = faults.iter().map(|fault| (1, format!("repair: {fault}"))).collect();
    if whole.uncommitted_records > 0 {
        let detail = "repair: whole records after the last commit mark".to_owned();
        losses.push((whole.uncommitted_records, detail));
    }
    if whole.absent_records > 0 {
        losses.push((whole.absent_records, "repair: records that the numbering says were there".to_owned()));
    }
    if whole.unread_segments > 0 {
        losses.push((whole.unread_segments, "repair: records of more machines than are read".to_owned()));
    }
    for (count, detail) in losses {
        writer.loss(&Loss { host_ns, kind: LossKind::Records, count, detail })?;
    }
    writer.finish()?;
    let junk = |after: AfterEnd| if after.is_trace { after.skipped } else { after.bytes };
    let junk_bytes = whole.after_end.map_or(0, junk);
    Ok(Repaired { kept, faults, uncommitted_records: whole.uncommitted_records, junk_bytes, next: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_stands_before_what_every_trace_is_called() {
        for (name, expected) in [
            ("a/new.trace.zst", "a/new-2.trace.zst"),
            ("sched.stall.trace.zst", "sched.stall-2.trace.zst"),
            ("new", "new-2"),
            ("new.zst", "new-2.zst"),
            (".hidden", ".hidden-2"),
        ] {
            assert_eq!(numbered(Path::new(name), 2), Path::new(expected));
        }
    }
}
