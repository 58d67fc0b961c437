//! `ktstr trace`: what a trace file is made of, whether it is whole, and making it so.

mod vmcore;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use ktstr_replay::trace::record::{IndexEntry, Loss, Manifest};
use ktstr_replay::trace::{Completeness, Fault, Kind, Trace, repair};
use serde::Serialize;
use vmcore::{Exported, VmcoreArgs};

/// Look at a trace file, verify it, or repair it.
#[derive(Args, Clone, Debug)]
pub struct TraceArgs {
    #[command(subcommand)]
    command: TraceCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum TraceCommand {
    /// What was recorded, on what, and what the file is made of. Reads headers, manifest and losses only.
    Info {
        /// The trace.
        trace: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read every record and name each fault with its offset. Exits with 1 if there is one, or if the trace is
    /// unfinished.
    Verify {
        /// The trace.
        trace: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write what is intact of a damaged or unfinished trace to a new file. The old one is only read.
    Repair {
        /// The trace.
        trace: PathBuf,
        /// The new file; it must not exist.
        to: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write what was recorded in the form of another tool.
    Export {
        /// The trace.
        trace: PathBuf,
        #[command(flatten)]
        vmcore: VmcoreArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Run `ktstr trace`.
///
/// # Errors
/// When the trace cannot be opened, or the new one not be written.
pub fn run(args: &TraceArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        TraceCommand::Info { trace, json } => {
            let info = Info::of(&Trace::open(trace)?);
            print(&info, *json, Info::text)?;
            Ok(ExitCode::SUCCESS)
        }
        TraceCommand::Verify { trace, json } => {
            let result = Verified::of(&Trace::open(trace)?);
            print(&result, *json, Verified::text)?;
            Ok(ExitCode::from(u8::from(!result.clean)))
        }
        TraceCommand::Repair { trace, to, json } => {
            let result = RepairedTrace::make(trace, to)?;
            print(&result, *json, RepairedTrace::text)?;
            Ok(ExitCode::SUCCESS)
        }
        TraceCommand::Export { trace, vmcore, json } => {
            print(&Exported::make(trace, vmcore)?, *json, Exported::text)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn print<T: Serialize>(value: &T, json: bool, text: impl Fn(&T) -> String) -> anyhow::Result<()> {
    let mut out = if json { serde_json::to_string_pretty(value)? } else { text(value) };
    if json {
        out.push('\n');
    }
    std::io::stdout().lock().write_all(out.as_bytes()).context("the output could not be written")
}

/// Text of a trace, which may come from anyone, for a terminal: control characters are shown, not sent.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[derive(Serialize)]
struct Info {
    path: PathBuf,
    bytes: u64,
    format: String,
    oldest_reader: String,
    manifest: Option<Manifest>,
    finalized: bool,
    missing: Vec<String>,
    faults: Vec<FaultInfo>,
    events: u64,
    samples: usize,
    checkpoints: usize,
    stored_pages: u64,
    judged: bool,
    recorded_host_ns: u64,
    kinds: Vec<KindInfo>,
    losses: Vec<LossInfo>,
}

#[derive(Serialize)]
struct KindInfo {
    kind: String,
    records: u64,
    stored_bytes: u64,
    raw_bytes: u64,
}

#[derive(Serialize)]
struct LossInfo {
    host_ns: u64,
    kind: String,
    count: u64,
    detail: String,
}

#[derive(Serialize)]
struct FaultInfo {
    offset: u64,
    kind: Option<u16>,
    sequence: Option<u64>,
    what: String,
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

impl From<Loss> for LossInfo {
    fn from(loss: Loss) -> Self {
        Self {
            host_ns: loss.host_ns,
            kind: format!("{:?}", loss.kind),
            count: loss.count,
            detail: loss.detail,
        }
    }
}

/// A line for each thing that the trace lacks.
fn missing(whole: &Completeness) -> Vec<String> {
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
        lines.push(format!("{count} records of kind {kind} are of a newer release, and were skipped"));
    }
    if whole.newer_bodies > 0 {
        lines
            .push(format!("{} records have bodies of a newer release, and were skipped", whole.newer_bodies));
    }
    lines
}

fn kind_name(code: u16) -> String {
    Kind::from_code(code).map_or_else(|| format!("unknown ({code})"), |kind| kind.name().to_owned())
}

fn kinds(records: &[IndexEntry]) -> Vec<KindInfo> {
    let mut by_kind: BTreeMap<u16, KindInfo> = BTreeMap::new();
    for record in records {
        let info = by_kind.entry(record.kind).or_insert_with(|| KindInfo {
            kind: kind_name(record.kind),
            records: 0,
            stored_bytes: 0,
            raw_bytes: 0,
        });
        info.records += 1;
        info.stored_bytes = info.stored_bytes.saturating_add(record.stored_len);
        info.raw_bytes = info.raw_bytes.saturating_add(record.raw_len);
    }
    by_kind.into_values().collect()
}

impl Info {
    fn of(trace: &Trace) -> Self {
        let records = trace.records();
        let sum = |kind: Kind, key: usize| {
            let of_kind = records.iter().filter(|record| record.kind == kind.code());
            of_kind.fold(0u64, |sum, record| sum.saturating_add(record.keys[key]))
        };
        let losses = trace.losses().into_iter().map(LossInfo::from).collect();
        let whole = trace.completeness();
        Self {
            path: trace.path().to_owned(),
            bytes: trace.len_bytes(),
            format: trace.stamp().written.to_string(),
            oldest_reader: trace.stamp().oldest_reader.to_string(),
            manifest: trace.manifest().ok().cloned(),
            finalized: whole.finalized,
            missing: missing(&whole),
            faults: trace.faults().iter().map(FaultInfo::from).collect(),
            events: sum(Kind::Events, 0),
            samples: trace.sample_count(),
            checkpoints: trace.checkpoints().len(),
            stored_pages: sum(Kind::PageChunk, 1),
            judged: records.iter().any(|record| record.kind == Kind::Verdict.code()),
            recorded_host_ns: records.iter().map(|record| record.host_ns).max().unwrap_or(0),
            kinds: kinds(records),
            losses,
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: String| {
            if !value.is_empty() {
                let _ = writeln!(out, "{name:<12} {value}");
            }
        };
        let whole = if self.finalized { "finished" } else { "unfinished" };
        line(
            "trace",
            format!("{}, {} bytes, format {}, {whole}", self.path.display(), self.bytes, self.format),
        );
        match &self.manifest {
            None => line("manifest", "damaged: what was recorded is not known".to_owned()),
            Some(m) => {
                line("test", plain(&m.test.name));
                let scheduler = m.scheduler.as_ref().map_or("the kernel's own", |s| s.name.as_str());
                line("scheduler", plain(scheduler));
                line("kernel", plain(&m.kernel.release));
                let machine = &m.machine;
                line(
                    "machine",
                    plain(&format!(
                        "{} {}, {} ({} vCPUs), {} MiB",
                        machine.kind, machine.version, machine.topology, machine.cpus, machine.memory_mib
                    )),
                );
                line("recorded", plain(&format!("{} by ktstr {}", m.started_at, m.ktstr_version)));
                line("taints", plain(&m.taints.join(", ")));
            }
        }
        line(
            "holds",
            format!(
                "{} events, {} samples, {} checkpoints of {} stored pages, over {} ms; {}",
                self.events,
                self.samples,
                self.checkpoints,
                self.stored_pages,
                self.recorded_host_ns / 1_000_000,
                if self.judged { "judged" } else { "not judged yet" }
            ),
        );
        for what in &self.missing {
            line("missing", what.clone());
        }
        for fault in &self.faults {
            line("fault", plain(&fault.what));
        }
        for loss in &self.losses {
            line("loss", plain(&format!("{} x {}: {}", loss.count, loss.kind, loss.detail)));
        }
        let _ = writeln!(out, "\n{:<14} {:>9} {:>14} {:>14}", "kind", "records", "stored bytes", "raw bytes");
        for kind in &self.kinds {
            let KindInfo { kind, records, stored_bytes, raw_bytes } = kind;
            let _ = writeln!(out, "{kind:<14} {records:>9} {stored_bytes:>14} {raw_bytes:>14}");
        }
        out
    }
}

#[derive(Serialize)]
struct Verified {
    path: PathBuf,
    clean: bool,
    records: u64,
    faults: Vec<FaultInfo>,
    missing: Vec<String>,
}

impl Verified {
    fn of(trace: &Trace) -> Self {
        let verification = trace.verify();
        Self {
            path: trace.path().to_owned(),
            clean: verification.is_clean(),
            records: verification.records,
            faults: verification.faults.iter().map(FaultInfo::from).collect(),
            missing: missing(&verification.completeness),
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for fault in &self.faults {
            let _ = writeln!(out, "fault: {}", plain(&fault.what));
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

#[derive(Serialize)]
struct RepairedTrace {
    from: PathBuf,
    to: PathBuf,
    kept_records: u64,
    faults: Vec<FaultInfo>,
    uncommitted_records: u64,
}

impl RepairedTrace {
    fn make(from: &Path, to: &Path) -> anyhow::Result<Self> {
        let repaired = repair(from, to)?;
        Ok(Self {
            from: from.to_owned(),
            to: to.to_owned(),
            kept_records: repaired.kept,
            faults: repaired.faults.iter().map(FaultInfo::from).collect(),
            uncommitted_records: repaired.uncommitted_records,
        })
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for fault in &self.faults {
            let _ = writeln!(out, "not carried over: {}", plain(&fault.what));
        }
        if self.uncommitted_records > 0 {
            let _ = writeln!(
                out,
                "not carried over: {} records after the last commit mark",
                self.uncommitted_records
            );
        }
        let _ = writeln!(out, "{}: {} records", self.to.display(), self.kept_records);
        out
    }
}

#[cfg(test)]
mod tests {
    use ktstr_replay::trace::TraceWriter;
    use ktstr_replay::trace::record::LossKind;

    use super::*;

    fn written(dir: &Path, finish: bool) -> PathBuf {
        let path = dir.join(if finish { "finished.trace.zst" } else { "killed.trace.zst" });
        let mut manifest = Manifest { taints: vec!["emulated".to_owned()], ..Manifest::default() };
        manifest.test.name = "demo::\x1b[31mred".to_owned();
        let mut writer = TraceWriter::create(&path, &manifest).unwrap();
        let loss = Loss { host_ns: 1, kind: LossKind::Kmsg, count: 3, detail: "ring full".to_owned() };
        writer.loss(&loss).unwrap();
        if finish {
            writer.finish().unwrap();
        }
        path
    }

    #[test]
    fn info_tells_taints_losses_and_sizes_and_sends_no_control_characters() {
        let dir = tempfile::tempdir().unwrap();
        let info = Info::of(&Trace::open(&written(dir.path(), true)).unwrap());
        let text = info.text();
        for expected in ["emulated", "3 x Kmsg: ring full", "finished", "demo::\\u{1b}[31mred", "\nloss "] {
            assert!(text.contains(expected), "no {expected:?} in:\n{text}");
        }
        assert!(!text.contains('\x1b'));
        let json = serde_json::to_value(&info).unwrap();
        assert_eq!(json["kinds"][0]["kind"], "manifest");
        assert_eq!(json["losses"][0]["count"], 3);
        assert_eq!(json["manifest"]["taints"][0], "emulated");
    }

    #[test]
    fn verify_fails_for_an_unfinished_trace_and_passes_for_its_repair() {
        let dir = tempfile::tempdir().unwrap();
        let killed = written(dir.path(), false);
        let verify = |trace: &Path| {
            run(&TraceArgs { command: TraceCommand::Verify { trace: trace.to_owned(), json: true } }).unwrap()
        };
        assert_eq!(verify(&killed), ExitCode::FAILURE);
        assert!(Verified::of(&Trace::open(&killed).unwrap()).text().contains("not finished"));
        let to = dir.path().join("repaired.trace.zst");
        let repaired = RepairedTrace::make(&killed, &to).unwrap();
        assert_eq!(repaired.kept_records, 2);
        assert_eq!(verify(&to), ExitCode::SUCCESS);
        assert!(RepairedTrace::make(&killed, &to).is_err(), "the file exists now");
    }

    #[test]
    fn verify_names_a_fault_with_its_offset() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), true);
        let loss = Trace::open(&path).unwrap().records().iter().find(|r| r.kind == 9).unwrap().offset;
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[loss as usize + 130] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let verified = Verified::of(&Trace::open(&path).unwrap());
        assert_eq!(verified.faults[0].offset, loss);
        assert!(verified.text().contains(&format!("loss record 2 at offset {loss}: its checksum")));
        assert!(!verified.clean);
    }
}
