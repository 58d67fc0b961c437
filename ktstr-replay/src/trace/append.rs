//! Putting the trace of another machine of the same run behind that of the first, as a segment of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{TraceError, WriteError};
use super::header::HEADER_LEN;
use super::kind::{Kind, MAX_SEGMENTS};
use super::reader::Trace;
use super::record::Manifest;
use super::unfinished::part_name;
use super::writer::{Labels, TraceWriter, WriterOptions};

/// Why a trace could not be put behind another. The first is as it was, then.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// One of the two cannot be opened.
    #[error("a trace cannot be opened")]
    Open(#[from] TraceError),
    /// The new file cannot be written.
    #[error("the joined trace cannot be written")]
    Write(#[from] WriteError),
    /// The first has as many segments as are read.
    #[error("the trace has {MAX_SEGMENTS} further machines already")]
    Full,
    /// The first would lose what cannot be read of it.
    #[error("the trace is not whole: {0} of its records cannot be read")]
    NotWhole(u64),
    /// The new file could not take the place of the first.
    #[error("the joined trace could not take the place of {}", .path.display())]
    Place {
        /// The first.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Put the trace `more`, of one machine, behind the finished trace `to`, as its next segment; the segment's number.
///
/// `describe` may change the manifest that it brings. Records are carried over as they are otherwise; one of `more` that is damaged,
/// or not committed, is left out. The new file takes the place of `to` when it is whole; `more` is only read.
///
/// ```
/// use ktstr_replay::trace::record::Manifest;
/// use ktstr_replay::trace::{Trace, TraceWriter, append_segment};
///
/// let folder = tempfile::tempdir()?;
/// let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
/// for (path, ktstr_version) in [(&first, "1"), (&second, "2")] {
///     let manifest = Manifest { ktstr_version: ktstr_version.to_owned(), ..Manifest::default() };
///     TraceWriter::create(path, &manifest)?.finish()?;
/// }
/// assert_eq!(append_segment(&first, &second, |_| {})?, 1);
///
/// let trace = Trace::open(&first)?;
/// assert_eq!(trace.manifest()?.ktstr_version, "1");
/// let segment = trace.segment(1).expect("a segment");
/// assert_eq!(segment.manifest()?.ktstr_version, "2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`AppendError`]; `to` is as it was.
pub fn append_segment(
    to: &Path,
    more: &Path,
    describe: impl FnOnce(&mut Manifest),
) -> Result<u16, AppendError> {
    let (first, second) = (Trace::open(to)?, Trace::open(more)?);
    let segments = first.segments();
    if segments.len() >= MAX_SEGMENTS {
        return Err(AppendError::Full);
    }
    let number = segments.last().map_or(Some(1), |last| last.checked_add(1)).ok_or(AppendError::Full)?;
    let mut manifest = second.manifest()?.clone();
    describe(&mut manifest);
    let part = part_name(to);
    let written = || -> Result<u64, WriteError> {
        let mut writer = TraceWriter::without_manifest(&part, first.trace_id(), WriterOptions::default())?;
        let mut lost = first.completeness().uncommitted_records;
        for machine in first.machines() {
            writer.begin_segment(machine.segment_number());
            let all = machine.records().iter().filter(|entry| !entry.is_of_file()).count() as u64;
            lost += all.saturating_sub(carry_over(&machine, &mut writer, |_| true)?);
        }
        writer.begin_segment(number);
        writer.body(&manifest, Labels::default())?;
        carry_over(&second, &mut writer, |kind| kind != Some(Kind::Manifest))?;
        writer.finish()?;
        Ok(lost)
    };
    let result = written().map_err(AppendError::from).and_then(|lost| match lost {
        0 => fs::rename(&part, to).map_err(|source| AppendError::Place { path: to.to_owned(), source }),
        lost => Err(AppendError::NotWhole(lost)),
    });
    if result.is_err() {
        // Nobody asked for half of it.
        let _ = fs::remove_file(&part);
    }
    result.map(|()| number)
}

/// Write the intact records of those kinds.
pub(super) fn carry_over(
    trace: &Trace,
    writer: &mut TraceWriter,
    wanted: impl Fn(Option<Kind>) -> bool,
) -> Result<u64, WriteError> {
    let mut kept = 0;
    for entry in trace.records().iter().filter(|entry| !entry.is_of_file() && wanted(entry.read_as())) {
        // A record that is damaged is noted in the trace.
        let Ok((header, record)) = trace.raw_record(entry) else { continue };
        writer.carry_over(header, &record[HEADER_LEN..])?;
        kept += 1;
    }
    Ok(kept)
}
