//! Going through the old trace, record by record.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::checkpoints::Checkpoints;
use super::error::SlimError;
use super::options::{Dropped, SlimOptions};
use crate::trace::Kind;
use crate::trace::Trace;
use crate::trace::header::{HEADER_LEN, Header};
use crate::trace::record::{EventChunk, IndexEntry, Loss, LossKind, Manifest, Sample};
use crate::trace::writer::{Labels, TraceWriter, WriterOptions};
use crate::trace::{Fault, WriteError};

/// In place of a command line that is not to be told.
const REDACTED: &str = "(redacted)";

/// What became of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slimmed {
    /// Length of the old file, in bytes.
    pub from_bytes: u64,
    /// Length of the new file, in bytes.
    pub to_bytes: u64,
    /// Checkpoints that were kept.
    pub checkpoints: usize,
    /// What was dropped on purpose: how many events or checkpoints.
    pub dropped: BTreeMap<Dropped, u64>,
    /// What was damaged and could not be carried over, ascending by offset in the old trace.
    pub faults: Vec<Fault>,
}

/// Write the trace `from` as `options` say to `to`, which must not exist.
///
/// The new file appears whole, after it was read back, or not at all.
///
/// # Errors
/// [`SlimError`]; `to` then does not exist.
pub fn slim(from: &Path, to: &Path, options: &SlimOptions) -> Result<Slimmed, SlimError> {
    let trace = Trace::open(from)?;
    if to.symlink_metadata().is_ok() {
        return Err(SlimError::Exists(to.to_owned()));
    }
    let part = part_name(to);
    let result = write(&trace, &part, options).and_then(|slimmed| {
        let again = Trace::open(&part)?.verify();
        match again.faults.first() {
            Some(fault) => Err(SlimError::Damaged(fault.to_string())),
            None => place(&part, to).map(|()| slimmed),
        }
    });
    // Placed, it has two names; else nobody asked for it.
    let _ = fs::remove_file(&part);
    result
}

/// Where the new trace is written before it has its name: beside it, so that it is on the same disk.
fn part_name(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(format!(".part-{}", std::process::id()));
    to.with_file_name(name)
}

/// Give the file its name, unless there is a file of that name by now.
fn place(part: &Path, to: &Path) -> Result<(), SlimError> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AlreadyExists => SlimError::Exists(to.to_owned()),
        _ => SlimError::Place { path: to.to_owned(), source },
    };
    fs::hard_link(part, to).or_else(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => Err(failed(source)),
        // A file system without links.
        _ => fs::rename(part, to).map_err(failed),
    })
}

fn write(trace: &Trace, to: &Path, options: &SlimOptions) -> Result<Slimmed, SlimError> {
    let writer_options = WriterOptions { level: options.level, ..WriterOptions::default() };
    let mut checkpoints = Checkpoints::new(trace, options)?;
    let mut writer = TraceWriter::without_manifest(to, trace.trace_id(), writer_options)?;
    let mut dropped: BTreeMap<Dropped, u64> = BTreeMap::new();
    let mut host_ns = 0;
    for entry in trace.records() {
        host_ns = host_ns.max(entry.host_ns);
        match entry.read_as() {
            Some(Kind::Commit | Kind::Index | Kind::PageChunk) => {}
            Some(Kind::Manifest) if options.redact => {
                let Ok(manifest) = trace.decode::<Manifest>(entry) else { continue };
                writer.body(&redacted(manifest), labels(entry))?;
            }
            Some(Kind::Events) if !options.drop.is_empty() => {
                let Ok(mut chunk) = trace.decode::<EventChunk>(entry) else { continue };
                chunk.events.retain(|event| match options.drops(&event.body) {
                    Some(sort) => {
                        *dropped.entry(sort).or_default() += 1;
                        false
                    }
                    None => true,
                });
                writer.events(&chunk.events)?;
            }
            Some(Kind::Checkpoint) => {
                let Ok(index) = u32::try_from(entry.keys[0]) else { continue };
                match checkpoints.next(index, options) {
                    Ok(Some(captured)) => {
                        writer.checkpoint(&captured)?;
                    }
                    Ok(None) => *dropped.entry(Dropped::Checkpoints).or_default() += 1,
                    // Damaged: noted in the trace.
                    Err(SlimError::Read(_)) => {
                        checkpoints.kept.remove(&index);
                        checkpoints.renumber();
                    }
                    Err(error) => return Err(error),
                }
            }
            Some(Kind::Sample) => {
                let Ok(mut sample) = trace.decode::<Sample>(entry) else { continue };
                sample.checkpoint = sample.checkpoint.and_then(|old| checkpoints.kept.get(&old).copied());
                writer.sample(&sample)?;
            }
            // Whatever only newer releases read is carried over as it is.
            None => carry_over(trace, entry, &mut writer)?,
            Some(kind) => match trace.raw_body(entry) {
                Ok(raw) => writer.append(&raw, kind, entry.version, labels(entry))?,
                Err(_) => continue,
            },
        }
    }
    let faults = trace.faults();
    for (sort, count) in &dropped {
        let kind = if *sort == Dropped::Checkpoints { LossKind::Pages } else { LossKind::Records };
        let what = if *sort == Dropped::Checkpoints { "" } else { " events" };
        let detail = format!("{sort}{what} dropped on purpose, by `ktstr trace slim`");
        writer.loss(&Loss { host_ns, kind, count: *count, detail })?;
    }
    let absent = trace.completeness().absent_records;
    if absent > 0 {
        let detail = "slim: records that the numbering says were there".to_owned();
        writer.loss(&Loss { host_ns, kind: LossKind::Records, count: absent, detail })?;
    }
    for fault in &faults {
        let detail = format!("slim: {fault}");
        writer.loss(&Loss { host_ns, kind: LossKind::Records, count: 1, detail })?;
    }
    writer.finish()?;
    let to_bytes = Trace::open(to)?.len_bytes();
    let checkpoints = checkpoints.kept.len();
    Ok(Slimmed { from_bytes: trace.len_bytes(), to_bytes, checkpoints, dropped, faults })
}

fn labels(entry: &IndexEntry) -> Labels {
    Labels { flags: entry.flags, keys: entry.keys, time: Some((entry.guest_ns, entry.host_ns)) }
}

fn carry_over(trace: &Trace, entry: &IndexEntry, writer: &mut TraceWriter) -> Result<(), WriteError> {
    // A record that is damaged is noted in the trace.
    let Ok(record) = trace.raw_record(entry) else { return Ok(()) };
    let Some((header, body)) = record.split_first_chunk::<HEADER_LEN>() else { return Ok(()) };
    Header::parse(header).map_or(Ok(()), |header| writer.carry_over(header, body))
}

fn redacted(mut manifest: Manifest) -> Manifest {
    manifest.kernel.cmdline = REDACTED.to_owned();
    if let Some(scheduler) = &mut manifest.scheduler
        && !scheduler.args.is_empty()
    {
        scheduler.args = vec![REDACTED.to_owned()];
    }
    manifest
}
