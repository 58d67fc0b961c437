//! `ktstr trace info`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use ktstr_replay::text::printable;
use ktstr_replay::trace::record::{IndexEntry, Loss, Manifest};
use ktstr_replay::trace::{Kind, Trace};
use ktstr_replay::units::HostNs;
use serde::Serialize;

use super::print;
use super::verify::{FaultInfo, missing};
use crate::cli::commands::CommandArgs;
use crate::cli::opened::what_follows;

/// What was recorded, on what, at the cost of which pauses, and what the file is made of. Reads no page.
#[derive(Args, Debug)]
pub(super) struct InfoArgs {
    /// The trace.
    trace: PathBuf,
    /// List every record too, with its offset, sizes and times.
    #[arg(long)]
    records: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl CommandArgs for InfoArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let trace = Trace::open(&self.trace)?;
        let info = if self.records { Info::with_records(&trace) } else { Info::of(&trace) };
        print(&info, self.json, Info::text)?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Serialize)]
pub(super) struct Info {
    #[serde(serialize_with = "crate::cli::out::path_as_text")]
    path: PathBuf,
    bytes: u64,
    format: String,
    oldest_reader: String,
    manifest: Option<Manifest>,
    finalized: bool,
    missing: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_end: Option<String>,
    faults: Vec<FaultInfo>,
    events: u64,
    samples: usize,
    checkpoints: usize,
    stored_pages: u64,
    /// Of the last checkpoint.
    left_out: Vec<LeftOutInfo>,
    /// Of the captures with a checkpoint after the first one, beyond what the machine itself took to stop and go on.
    pause_us: Option<PauseInfo>,
    judged: bool,
    /// Numbers of the run's further machines. All but the file's length is of the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    segments: Vec<u16>,
    recorded_host_ns: HostNs,
    kinds: Vec<KindInfo>,
    losses: Vec<LossInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<Vec<IndexEntry>>,
}

#[derive(Serialize)]
struct KindInfo {
    kind: String,
    records: u64,
    stored_bytes: u64,
    raw_bytes: u64,
}

#[derive(Serialize)]
struct PauseInfo {
    least: u64,
    median: u64,
    most: u64,
    captures: usize,
}

impl PauseInfo {
    fn of(trace: &Trace) -> Option<Self> {
        let samples = trace.samples().filter_map(Result::ok).filter(|sample| sample.checkpoint.is_some());
        let mut pauses: Vec<u64> =
            samples.skip(1).map(|sample| sample.pause_us.saturating_sub(sample.machine_us)).collect();
        pauses.sort_unstable();
        Some(Self {
            least: *pauses.first()?,
            median: *pauses.get(pauses.len() / 2)?,
            most: *pauses.last()?,
            captures: pauses.len(),
        })
    }
}

#[derive(Serialize)]
struct LeftOutInfo {
    why: &'static str,
    pages: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct LossInfo {
    host_ns: HostNs,
    kind: String,
    count: u64,
    detail: String,
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

fn kinds(records: &[IndexEntry]) -> Vec<KindInfo> {
    let mut by_kind: BTreeMap<(u16, u16), KindInfo> = BTreeMap::new();
    for record in records {
        let info = by_kind.entry((record.segment, record.kind)).or_insert_with(|| KindInfo {
            kind: record.kind_name(),
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
    pub(super) fn of(trace: &Trace) -> Self {
        let records = trace.records();
        let sum = |kind: Kind, key: usize| {
            let of_kind = records.iter().filter(|record| record.read_as() == Some(kind));
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
            after_end: whole.after_end.as_ref().map(what_follows),
            faults: trace.faults().iter().map(FaultInfo::from).collect(),
            events: sum(Kind::Events, 0),
            samples: trace.sample_count(),
            checkpoints: trace.checkpoints().len(),
            stored_pages: sum(Kind::PageChunk, 1),
            left_out: trace
                .left_out()
                .iter()
                .map(|part| LeftOutInfo { why: part.why.as_str(), pages: part.pages, bytes: part.bytes() })
                .collect(),
            pause_us: PauseInfo::of(trace),
            judged: records.iter().any(|record| record.read_as() == Some(Kind::Verdict)),
            segments: trace.segments(),
            recorded_host_ns: records.iter().map(|record| record.host_ns).max().unwrap_or_default(),
            kinds: kinds(trace.records_of_all()),
            losses,
            records: None,
        }
    }

    /// The same, with the list of records.
    pub(super) fn with_records(trace: &Trace) -> Self {
        let records = trace.records_of_all().to_vec();
        Self { records: Some(records), ..Self::of(trace) }
    }

    pub(super) fn text(&self) -> String {
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
                line("test", printable(&m.test.name));
                let scheduler = m.scheduler.as_ref().map_or("the kernel's own", |s| s.name.as_str());
                line("scheduler", printable(scheduler));
                line("kernel", printable(&m.kernel.release));
                let machine = &m.machine;
                line(
                    "machine",
                    printable(&format!(
                        "{} {}, {} ({} vCPUs), {} MiB",
                        machine.kind, machine.version, machine.topology, machine.cpus, machine.memory_mib
                    )),
                );
                if let Some(start) = &machine.start {
                    line("start", printable(&start.to_string()));
                }
                line("recorded", printable(&format!("{} by ktstr {}", m.started_at, m.ktstr_version)));
                line("taints", printable(&m.taints.join(", ")));
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
                self.recorded_host_ns.0 / 1_000_000,
                if self.judged { "judged" } else { "not judged yet" }
            ),
        );
        if !self.segments.is_empty() {
            let numbers: Vec<_> = self.segments.iter().map(u16::to_string).collect();
            let of_first = "this is of the first machine, `ktstr replay TRACE --segment N` tells of another";
            line("segments", format!("{} besides; {of_first}", numbers.join(", ")));
        }
        let left_out = self.left_out.iter();
        let left_out =
            left_out.map(|part| format!("{} {} pages ({} KiB)", part.why, part.pages, part.bytes >> 10));
        line("left out", left_out.collect::<Vec<_>>().join(", "));
        if let Some(PauseInfo { least, median, most, captures }) = &self.pause_us {
            let ms = |us: &u64| format!("{:.1} ms", *us as f64 / 1000.0);
            let (least, median, most) = (ms(least), ms(median), ms(most));
            line(
                "pauses",
                format!("{median} in the median of {captures} later checkpoints ({least} to {most})"),
            );
        }
        for what in &self.missing {
            line("missing", what.clone());
        }
        if let Some(after) = &self.after_end {
            line("after it", after.clone());
        }
        for fault in &self.faults {
            line("fault", printable(&fault.what));
        }
        for loss in &self.losses {
            line("loss", printable(&format!("{} x {}: {}", loss.count, loss.kind, loss.detail)));
        }
        let _ = writeln!(out, "\n{:<14} {:>9} {:>14} {:>14}", "kind", "records", "stored bytes", "raw bytes");
        for kind in &self.kinds {
            let KindInfo { kind, records, stored_bytes, raw_bytes } = kind;
            let _ = writeln!(out, "{kind:<14} {records:>9} {stored_bytes:>14} {raw_bytes:>14}");
        }
        if let Some(records) = &self.records {
            let _ = write!(out, "\n{}", record_table(records));
        }
        out
    }
}

/// A line for each record.
fn record_table(records: &[IndexEntry]) -> String {
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
            record.kind_name(),
            record.stored_len,
            record.raw_len,
            record.guest_ns.0 as f64 / 1e6
        );
    }
    out
}
