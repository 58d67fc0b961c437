//! Traces for tests, written by the real writer: a demo scheduler's run, made up value by value.
//!
//! Its BTF is `tests/data/demo.btf` (see the README there).

use std::path::Path;
use std::sync::OnceLock;

use crate::btf::{Kind, TypeId, Types};
use crate::claim::Claim;
use crate::judge::CheckSource;
use crate::run::Run;
use crate::trace::record::manifest::{KernelInfo, MachineInfo, SchedulerInfo, TestInfo};
use crate::trace::record::{
    BlobRole, CaptureKind, ClaimOrigin, ClaimRecord, Event, EventBody, GuestEnd, Loss, Manifest, MapContents,
    MapState, OutputSource, Sample, ScxState, Stage, StatsAnswer, Thresholds, WorkerDetail, WorkerReport,
    blob_id,
};
use crate::trace::{Trace, TraceWriter};
use crate::units::{Cpu, GuestNs, HostNs};
use crate::verdict::Outcome;

/// BTF of the demo scheduler.
pub const DEMO_BTF: &[u8] = include_bytes!("../../tests/data/demo.btf");
/// Guest time at which the body of these runs begins, in ms.
pub const BODY_MS: u64 = 2000;

const MS: u64 = 1_000_000;

/// A run under construction. Times are in ms since the body began.
pub struct TraceBuilder {
    /// What the trace says of itself.
    pub manifest: Manifest,
    events: Vec<Event>,
    samples: Vec<Sample>,
    claims: Vec<ClaimRecord>,
    losses: Vec<Loss>,
}

fn at_ns(at_ms: i64) -> u64 {
    u64::try_from(BODY_MS as i64 + at_ms).unwrap_or(0) * MS
}

impl TraceBuilder {
    /// No events, no samples, a whole manifest.
    pub fn new() -> Self {
        let manifest = Manifest {
            ktstr_version: "0.1.0".into(),
            started_at: "2026-11-22T12:00:00Z".into(),
            test: TestInfo {
                name: "demo::two_cgroups".into(),
                package: "ktstr-tests".into(),
                duration_ms: 5000,
                checkpoint: "every".into(),
                watchdog_timeout_ms: 5000,
                seed: 1,
                ..TestInfo::default()
            },
            scheduler: Some(SchedulerInfo {
                enable_timeout_ms: 30_000,
                name: "demo".into(),
                binary: "scx_demo".into(),
                args: vec!["--slice-us".into(), "5000".into()],
                xxh3: String::new(),
            }),
            kernel: KernelInfo { release: "7.3.4".into(), ..KernelInfo::default() },
            machine: MachineInfo {
                kind: "qemu".into(),
                version: "10.0.13".into(),
                topology: "1n1l2c1t".into(),
                cpus: 2,
                memory_mib: 512,
                ..MachineInfo::default()
            },
            taints: vec!["emulated".into()],
            skipped: None,
            repro: None,
            imported: None,
        };
        Self { manifest, events: Vec::new(), samples: Vec::new(), claims: Vec::new(), losses: Vec::new() }
    }

    /// A run that went well up to its body.
    pub fn begun() -> Self {
        Self::new()
            .stage(-1900, Stage::Booting, "")
            .stage(-400, Stage::Ready, "7.3.4")
            .stage(-300, Stage::JobUnpacked, "")
            .stage(-200, Stage::SchedulerStarted, "")
            .stage(-100, Stage::SchedulerEnabled, "demo")
            .capture("attach", CaptureKind::Attach, -50, [0; 3])
            .stage(0, Stage::BodyStarted, "")
    }

    /// ... and to its end, at 5 s.
    pub fn ended(self) -> Self {
        self.ended_at(5000)
    }

    /// The same, with a body that ended later or earlier, in ms after it began.
    pub fn ended_at(self, at_ms: i64) -> Self {
        self.event(at_ms, EventBody::Body { error: None, failures: Vec::new() })
            .stage(at_ms, Stage::BodyEnded, "")
            .stage(at_ms + 10, Stage::TestExited, "exited with status 0")
            .capture("end", CaptureKind::End, at_ms + 20, [1000, 1000, 3])
            .stage(at_ms + 200, Stage::SchedulerExited, "exited with status 0")
            .stage(at_ms + 210, Stage::PoweringOff, "")
            .event(at_ms + 300, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() })
    }

    /// A run whose scheduler the watchdog ejects at 1.5 s.
    pub fn stall() -> Self {
        Self::begun()
            .periodic(&[10, 20])
            .sample(stalled(1500, &[20, 30, 3]))
            .stage(1510, Stage::SchedulerExited, "exited with status 1")
            .event(1600, EventBody::Body { error: Some("the scheduler died".into()), failures: Vec::new() })
            .stage(1600, Stage::BodyEnded, "")
            .event(1700, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() })
    }

    /// An event.
    pub fn event(mut self, at_ms: i64, body: EventBody) -> Self {
        let at_ns = at_ns(at_ms);
        self.events.push(Event { guest_ns: GuestNs(at_ns), host_ns: HostNs(at_ns), body });
        self
    }

    /// The run reached a stage.
    pub fn stage(self, at_ms: i64, stage: Stage, detail: &str) -> Self {
        self.event(at_ms, EventBody::Stage { stage, detail: detail.into() })
    }

    /// A line of the kernel log.
    pub fn kmsg(self, at_ms: i64, level: u8, text: &str) -> Self {
        let kernel_ns = at_ns(at_ms);
        let sequence = self.events.len() as u64;
        self.event(at_ms, EventBody::Kmsg { level, sequence, kernel_ns, text: text.into() })
    }

    /// What the scheduler answered when it was asked for its statistics 10 ms after the last sample that was added, 5 ms later.
    pub fn stats(self, answer: Result<&str, &str>) -> Self {
        let taken = self.samples.last().expect("a sample was added");
        let (sample, taken_ms) = (taken.index, (taken.guest_ns.0 / MS) as i64 - BODY_MS as i64);
        let answer = StatsAnswer {
            sample,
            target: "top".into(),
            asked_ns: GuestNs(at_ns(taken_ms + 10)),
            line: answer.unwrap_or_default().into(),
            fault: answer.err().map(str::to_owned),
        };
        self.event(taken_ms + 15, EventBody::Stats(Box::new(answer)))
    }

    /// A line of output.
    pub fn output(self, at_ms: i64, source: OutputSource, text: &str) -> Self {
        self.event(at_ms, EventBody::Output { source, stderr: true, bytes: text.into() })
    }

    /// A worker's report.
    pub fn worker(self, report: WorkerReport) -> Self {
        self.event(5000, EventBody::Worker(report))
    }

    /// A worker's report, with what it measured besides.
    pub fn detailed_worker(self, report: WorkerReport, detail: WorkerDetail) -> Self {
        let detail = WorkerDetail { pid: report.pid, ..detail };
        self.worker(report).event(5000, EventBody::WorkerDetail(Box::new(detail)))
    }

    /// Something that the scenario did.
    pub fn op(self, at_ms: i64, name: &str, detail: &str) -> Self {
        self.event(at_ms, EventBody::Op { name: name.into(), detail: detail.into() })
    }

    /// A sample; its index is given.
    pub fn sample(mut self, mut sample: Sample) -> Self {
        sample.index = self.samples.len() as u32;
        self.manifest.test.num_snapshots += u32::from(sample.kind == CaptureKind::Periodic);
        self.samples.push(sample);
        self
    }

    /// A capture of the live scheduler; `values` are `nr_dispatched`, `nr_enqueued` and `stats.nr[2]`.
    pub fn capture(self, tag: &str, kind: CaptureKind, at_ms: i64, values: [u64; 3]) -> Self {
        self.sample(sample(tag, kind, at_ms, &values))
    }

    /// Periodic captures, one a half second, the first at 500 ms.
    pub fn periodic(mut self, values: &[u64]) -> Self {
        for (i, value) in values.iter().enumerate() {
            let at_ms = 500 * (i as i64 + 1);
            self =
                self.capture(&format!("periodic_{i:03}"), CaptureKind::Periodic, at_ms, [*value, *value, 3]);
        }
        self
    }

    /// A claim of the test.
    pub fn claim(mut self, text: &str) -> Self {
        self.claims.push(ClaimRecord { text: text.into(), origin: ClaimOrigin::Data });
        self
    }

    /// A check by a closure of the test.
    pub fn check(mut self, label: &str) -> Self {
        self.claims.push(ClaimRecord { text: label.into(), origin: ClaimOrigin::Closure });
        self
    }

    /// Whether there are checks by closures.
    pub fn has_checks(&self) -> bool {
        self.claims.iter().any(|c| c.origin == ClaimOrigin::Closure)
    }

    /// What the recorder could not keep.
    pub fn loss(mut self, loss: Loss) -> Self {
        self.losses.push(loss);
        self
    }

    /// The test asserts that no worker starved.
    pub fn not_starved(self) -> Self {
        self.limits(|limits| {
            limits.not_starved = true;
            limits.max_spread_pct = Some(15.0);
            limits.max_gap_ms = Some(2000);
            limits.min_share_pct = Some(50.0);
        })
    }

    /// The test sets limits.
    pub fn limits(mut self, set: impl FnOnce(&mut Thresholds)) -> Self {
        set(self.manifest.test.thresholds.get_or_insert_default());
        self
    }

    /// The test said nothing of sched_ext's watchdog.
    pub fn without_watchdog_timeout(mut self) -> Self {
        self.manifest.test.watchdog_timeout_ms = 0;
        self
    }

    /// The test expects the scheduler to fail.
    pub fn expect_err(mut self, contains: Option<&str>) -> Self {
        self.manifest.test.expect_err = true;
        self.manifest.test.expect_scx_error_contains = contains.map(str::to_owned);
        self
    }

    /// The scheduler's error is to match this pattern, too.
    pub fn expect_error_matches(mut self, pattern: &str) -> Self {
        self.manifest.test.expect_scx_error_matches = Some(pattern.to_owned());
        self
    }

    /// Everything but a verdict and the end of the file.
    pub fn writer(&self, path: &Path) -> TraceWriter {
        let mut writer = TraceWriter::create(path, &self.manifest).expect("the trace can be created");
        let id = writer.blob(BlobRole::ProgramBtf, DEMO_BTF).expect("the blob can be written");
        assert_eq!(id, blob_id(DEMO_BTF));
        for claim in &self.claims {
            writer.claim(claim).expect("the claim can be written");
        }
        writer.events(&self.events).expect("the events can be written");
        for sample in &self.samples {
            writer.sample(sample).expect("the sample can be written");
        }
        for loss in &self.losses {
            writer.loss(loss).expect("the loss can be written");
        }
        writer.commit().expect("the trace can be committed");
        writer
    }

    /// Write the trace, finished but not judged.
    pub fn write(&self, path: &Path) {
        self.writer(path).finish().expect("the trace can be finished");
    }

    /// Write the trace as a live run does: judged by `judge` from the unfinished file, then finished.
    pub fn write_judged<V: serde::Serialize>(&self, path: &Path, judge: impl FnOnce(&Trace) -> V) {
        let mut writer = self.writer(path);
        let verdict = judge(&Trace::open(path).expect("an unfinished trace opens"));
        writer.verdict(&verdict).expect("the verdict can be written");
        writer.finish().expect("the trace can be finished");
    }

    /// What judging the trace by this claim alone comes to: the outcome, and the words of the finding.
    pub fn judged_by(&self, text: &str) -> (Outcome, String) {
        let trace = self.trace();
        let claim: Claim = text.parse().expect("a claim");
        let verdict = Run::load(&trace).judge(Some(&[claim]), CheckSource::Recorded);
        let finding = verdict.findings.iter().find(|finding| finding.what == text).expect("its finding");
        (finding.outcome, format!("{}\n{}", finding.summary, finding.lines.join("\n")))
    }

    /// The trace, finished but not judged.
    pub fn trace(&self) -> Trace {
        self.open(|path| self.write(path))
    }

    /// The trace, judged as a live run is.
    pub fn judged_trace<V: serde::Serialize>(&self, judge: impl FnOnce(&Trace) -> V) -> Trace {
        self.open(|path| self.write_judged(path, judge))
    }

    fn open(&self, write: impl FnOnce(&Path)) -> Trace {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let path = dir.path().join("demo.trace.zst");
        write(&path);
        let bytes = std::fs::read(&path).expect("the trace can be read");
        Trace::from_bytes(bytes).expect("the trace opens")
    }
}

impl Default for TraceBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// A sample. `values`: `nr_dispatched`, `nr_enqueued`, `stats.nr[2]`; without values there are no maps.
pub fn sample(tag: &str, kind: CaptureKind, at_ms: i64, values: &[u64]) -> Sample {
    Sample {
        scx: Some(ScxState { state: "enabled".into(), ops_name: Some("demo".into()), ..ScxState::default() }),
        maps: if values.is_empty() { Vec::new() } else { maps(values) },
        pause_us: 700,
        machine_us: 500,
        ..Sample::new(0, tag, kind, GuestNs(at_ns(at_ms)), HostNs(at_ns(at_ms)))
    }
}

/// A placeholder.
pub fn missed(tag: &str, kind: CaptureKind, at_ms: i64, why: &str) -> Sample {
    Sample { missed: Some(why.into()), scx: None, ..sample(tag, kind, at_ms, &[]) }
}

/// A sample at the exit of a scheduler that the watchdog ejected.
pub fn stalled(at_ms: i64, values: &[u64]) -> Sample {
    let mut sample = sample("scheduler_exit", CaptureKind::SchedulerExit, at_ms, values);
    sample.scx = Some(ScxState {
        state: "disabled".into(),
        ops_name: Some("demo".into()),
        exit_kind: 1026,
        exit_kind_name: Some("SCX_EXIT_ERROR_STALL".into()),
        exit_reason: Some("runnable task stall".into()),
        exit_message: Some("burner[103] failed to run for 5.104s".into()),
        exit_dump: Some("CPU states\n----------\n\nCPU 0   : nr_run=3 flags=0x1\n".into()),
        ..ScxState::default()
    });
    sample
}

fn types() -> &'static Types {
    static TYPES: OnceLock<Types> = OnceLock::new();
    TYPES.get_or_init(|| Types::parse(DEMO_BTF).expect("the fixture is valid BTF"))
}

fn id(kind: Kind, name: &str) -> u32 {
    types().find(kind, name).unwrap_or(TypeId(0)).0
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The maps of `scx_demo`, as far as tests need them.
fn maps(values: &[u64]) -> Vec<MapState> {
    let value = |i: usize| values.get(i).copied().unwrap_or_default();
    let map = |id: u32, name: &str, map_type, sizes: (u32, u32), types: (u32, u32), contents| MapState {
        id,
        name: name.into(),
        map_type,
        key_size: sizes.0,
        value_size: sizes.1,
        max_entries: 1,
        btf: Some(blob_id(DEMO_BTF)),
        key_type_id: types.0,
        value_type_id: types.1,
        contents,
    };
    // nr_dispatched, nr_enqueued, stats { nr[3], max_ns }.
    let bss = words(&[value(0), value(1), 1, 2, value(2), 900]);
    let data = words(&[5_000_000]);
    let u32_id = id(Kind::Int, "unsigned int");
    let task = id(Kind::Struct, "task_ctx");
    let keys = [103u32, 104].iter().flat_map(|k| k.to_le_bytes()).collect();
    vec![
        map(1, "demo.bss", 2, (4, 48), (0, id(Kind::Datasec, ".bss")), MapContents::Array { values: bss }),
        map(2, "demo.data", 2, (4, 8), (0, id(Kind::Datasec, ".data")), MapContents::Array { values: data }),
        map(
            3,
            "tasks",
            1,
            (4, 16),
            (u32_id, task),
            MapContents::Hash { keys, values: words(&[value(0) * 10, 7, value(0) * 20, 9]) },
        ),
        map(
            4,
            "cpu_ctx",
            6,
            (4, 16),
            (u32_id, task),
            MapContents::PerCpuArray {
                cpus: vec![Cpu(0), Cpu(1)],
                values: words(&[1, value(0), 2, value(1)]),
            },
        ),
    ]
}
