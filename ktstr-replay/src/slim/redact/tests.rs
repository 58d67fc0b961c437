//! Marks are planted wherever a text can be in a trace of a real kernel, and looked for in whatever can be had of the
//! redacted one.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::CHANNELS;
use super::memory::constant_frames;
use crate::judge::CheckSource;
use crate::kernel::{KernelProfile, KernelView};
use crate::memory::Memory;
use crate::run::{Checkpoints, Run};
use crate::slim::{Dropped, KeepPages, SlimOptions, slim};
use crate::trace::record::manifest::{KernelInfo, MachineInfo, ReproAttempt, ReproInfo, SchedulerInfo};
use crate::trace::record::{
    Blob, BlobRole, Event, EventBody, EventChunk, Loss, LossKind, Manifest, MapContents, MapState, Metric,
    OutputSource, PAGE_BYTES, PageState, PayloadRun, ProbeEvent, ProbeHit, ProbeNews, ProbeReturn,
    ProbeValue, Sample, Stage, StatsAnswer, WatchEvent, WatchFire, WatchNews, WorkerReport, blob_id,
};
use crate::trace::writer::{Labels, TraceWriter, WriterOptions};
use crate::trace::{CaptureBase, CapturedCheckpoint, Kind, PageBatch, Trace};
use crate::units::{GuestNs, GuestPhys, HostNs};
use crate::verdict::{Finding, Origin, Outcome, Verdict};
use crate::view::View;
use crate::{diff, export, report, why};

/// Every mark begins so; what follows says where it was planted.
const MARK: &str = "QLEAK";
/// A short argument: it is looked for as a word of its own.
const SHORT: &str = "zq7v";
/// A mark in a name, which is kept.
const NAME: &str = "QNAME";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces/stall.trace.zst")
}

fn mark(place: &str) -> String {
    format!("{MARK}-{place}")
}

fn marked_manifest(old: &Manifest) -> Manifest {
    let mut manifest = old.clone();
    manifest.test.package = format!("{NAME}-package");
    manifest.scheduler = Some(SchedulerInfo {
        args: vec!["--mode".into(), mark("scheduler-arg"), format!("--name={SHORT}")],
        ..manifest.scheduler.unwrap_or_default()
    });
    manifest.kernel = KernelInfo {
        asked: mark("kernel-asked"),
        cmdline: format!("console=ttyS0 who={} {SHORT}", mark("kernel-argument")),
        config: Some(mark("kernel-config-origin")),
        ..manifest.kernel
    };
    manifest.machine = MachineInfo {
        why: mark("machine-why"),
        version: format!("QEMU 10.0.13 ({})", mark("machine-version")),
        ..manifest.machine
    };
    manifest.taints.push(mark("taint"));
    let attempt = ReproAttempt { ended: mark("repro-ended"), ..ReproAttempt::default() };
    manifest.repro = Some(ReproInfo { attempts: vec![attempt], targets: vec![format!("{NAME}_probed")] });
    manifest
}

/// An event of every kind that has a text.
fn marked_events(at: &Event) -> Vec<Event> {
    let payload = PayloadRun {
        name: format!("{NAME}-payload"),
        program: mark("payload-program"),
        package: mark("payload-package"),
        args: vec![mark("payload-arg")],
        fault: Some(mark("payload-fault")),
        stdout_tail: mark("payload-stdout"),
        stderr_tail: mark("payload-stderr"),
        metrics: vec![Metric { path: mark("payload-metric"), value: 1.0 }],
        metrics_fault: Some(mark("payload-metrics-fault")),
        ..PayloadRun::default()
    };
    let line = serde_json::json!({"args": {"resp": {"busy": 0.5, "name": mark("stats-text")}}}).to_string();
    let stats = StatsAnswer {
        target: "top".into(),
        line: line.into_bytes(),
        fault: Some(mark("stats-fault")),
        ..StatsAnswer::default()
    };
    let no_json = StatsAnswer { line: mark("stats-no-json").into_bytes(), ..stats.clone() };
    let worker = WorkerReport {
        cgroup: "cg_0".into(),
        work: "spin_wait".into(),
        fault: Some(mark("worker-fault")),
        ..WorkerReport::default()
    };
    let mut bodies = vec![
        EventBody::Console(mark("console").into_bytes()),
        EventBody::Kmsg { level: 4, sequence: 1, kernel_ns: 1, text: mark("kmsg") },
        EventBody::PhaseBegin { index: 9, name: format!("{NAME}-phase") },
        EventBody::PhaseEnd { index: 9 },
        EventBody::Op { name: "write_file".into(), detail: mark("op-write-file") },
        EventBody::Op { name: EventBody::TEMPLATE.into(), detail: mark("op-template") },
        EventBody::Op { name: EventBody::MENDED.into(), detail: mark("op-mended") },
        EventBody::Op { name: "add_cgroup".into(), detail: format!("{NAME}-cgroup") },
        EventBody::Worker(worker),
        EventBody::Body { error: Some(mark("body-error")), failures: vec![mark("body-failure")] },
        EventBody::Stats(Box::new(stats)),
        EventBody::Stats(Box::new(no_json)),
        EventBody::Payload(Box::new(payload)),
    ];
    let fire = WatchFire {
        number: 1,
        place: format!("{NAME}_store+0x1d/0x80"),
        source: Some(mark("watch-source")),
        comm: format!("{NAME}-comm"),
        stack: vec![format!("{NAME}_store+0x1d/0x80"), mark("watch-stack")],
        ..WatchFire::default()
    };
    for what in [
        WatchNews::Waiting { why: mark("watch-waiting") },
        WatchNews::Disarmed { why: mark("watch-disarmed") },
        WatchNews::Refused { why: mark("watch-refused") },
        WatchNews::Fired(Box::new(fire)),
    ] {
        bodies.push(EventBody::Watch(Box::new(WatchEvent { watch: 0, target: format!("bss.{NAME}"), what })));
    }
    let hit = ProbeHit {
        number: 1,
        comm: format!("{NAME}-comm"),
        values: vec![
            ProbeValue::Int(7),
            ProbeValue::Text(mark("probe-text")),
            ProbeValue::Unread { why: mark("probe-unread") },
        ],
        caller: format!("{NAME}_caller+0x1d/0x80"),
        source: Some(mark("probe-source")),
        ..ProbeHit::default()
    };
    let back = ProbeReturn {
        number: 1,
        value: Some(ProbeValue::Text(mark("probe-returned"))),
        ..ProbeReturn::default()
    };
    for what in [
        ProbeNews::Waiting { why: mark("probe-waiting") },
        ProbeNews::Armed { at: 1, place: mark("probe-place"), names: vec![format!("{NAME}->pid")] },
        ProbeNews::Disarmed { why: mark("probe-disarmed") },
        ProbeNews::Refused { why: mark("probe-refused") },
        ProbeNews::Hit(Box::new(hit)),
        ProbeNews::Returned(Box::new(back)),
    ] {
        bodies.push(EventBody::Probe(Box::new(ProbeEvent {
            probe: 0,
            target: format!("{NAME}_probed"),
            what,
        })));
    }
    for source in [OutputSource::Scheduler, OutputSource::Test, OutputSource::Init] {
        let bytes = mark(&format!("output-{source:?}")).into_bytes();
        bodies.push(EventBody::Output { source, stderr: false, bytes });
    }
    for stage in [
        Stage::Booting,
        Stage::Restored,
        Stage::Ready,
        Stage::JobUnpacked,
        Stage::SchedulerStarted,
        Stage::SchedulerEnabled,
        Stage::SchedulerExited,
        Stage::BodyStarted,
        Stage::BodyEnded,
        Stage::TestExited,
        Stage::PoweringOff,
        Stage::StartRetried,
        Stage::InitFailed,
        Stage::SchedulerRestarted,
    ] {
        bodies.push(EventBody::Stage { stage, detail: mark(&format!("stage-{stage:?}")) });
    }
    bodies.into_iter().map(|body| Event { body, ..at.clone() }).collect()
}

/// Overwrite the middle of a long enough text, and say whether there was room.
fn overwrite(bytes: &mut [u8], text: &str) -> bool {
    let Some(room) = bytes.get_mut(..text.len()) else { return false };
    room.copy_from_slice(text.as_bytes());
    true
}

fn marked_sample(mut sample: Sample, new_types: &dyn Fn([u8; 16]) -> [u8; 16]) -> Sample {
    sample.faults.push(mark("sample-fault"));
    if sample.missed.is_some() {
        sample.missed = Some(mark("sample-missed"));
    }
    if let Some(scx) = &mut sample.scx {
        scx.exit_message = Some(mark("scx-message"));
        scx.exit_dump = Some(mark("scx-dump"));
    }
    if let Some(vcpu) = sample.vcpus.first_mut() {
        vcpu.gpr[3] = u64::from_le_bytes(*b"QLEAK-rg");
        vcpu.gpr[4] = 7;
        vcpu.gpr[5] = u64::from_le_bytes(*b"zq7v\0\0\0\0");
    }
    for map in &mut sample.maps {
        map.btf = map.btf.map(new_types);
        if map.name.ends_with(".data")
            && let MapContents::Array { values } = &mut map.contents
            // `exit_format`, which is "%s".
            && let Some(at) = values.windows(3).position(|three| three == b"%s\0")
        {
            values[at..at + 2].copy_from_slice(b"Q7");
        }
    }
    let untyped = |id, name: &str, contents| MapState {
        id,
        name: name.into(),
        map_type: 1,
        key_size: 32,
        value_size: 32,
        max_entries: 1,
        btf: None,
        key_type_id: 0,
        value_type_id: 0,
        contents,
    };
    let padded = |text: &str| format!("{text:\0<32}").into_bytes();
    let hash = MapContents::Hash { keys: padded(&mark("map-key")), values: padded(&mark("map-value")) };
    sample.maps.push(untyped(900, "leaky", hash));
    let short = MapContents::Array { values: padded(SHORT) };
    sample.maps.push(untyped(901, "leaky_short", short));
    let unread = MapContents::Unread { why: mark("map-unread") };
    sample.maps.push(untyped(902, "leaky_unread", unread));
    sample
}

/// Plant marks in pages of kernel memory: in its log, in zeros between objects, over the border of two pages.
/// Nothing is written to `constant` frames of a kernel.
fn mark_memory(pages: &mut [(u64, [u8; PAGE_BYTES])], constant: &HashSet<u64>) -> usize {
    let mut planted = 0;
    for nth in 0..pages.len() {
        let gfn = pages[nth].0;
        if constant.contains(&gfn) {
            continue;
        }
        let next_begins_free = |pages: &[(u64, [u8; PAGE_BYTES])]| {
            pages.get(nth + 1).is_some_and(|(next, page)| {
                *next == gfn + 1 && !constant.contains(next) && page[..32].iter().all(|b| *b == 0)
            })
        };
        let page = &mut pages[nth].1;
        // A line of the log, wherever it is.
        let log = b"Command line: ";
        if let Some(at) = page.windows(log.len()).position(|window| window == log) {
            planted += usize::from(overwrite(&mut page[at + log.len()..], &mark("mem-log")));
        }
        // Far from what is used.
        let is_free = |at: &usize| page[*at..at + 512].iter().all(|byte| *byte == 0);
        if let Some(at) = (0..PAGE_BYTES - 512).step_by(64).find(is_free) {
            overwrite(&mut page[at + 240..], &mark(&format!("mem-{gfn:x}")));
            overwrite(&mut page[at + 300..], SHORT);
            planted += 1;
        }
        if page[PAGE_BYTES - 32..].iter().all(|byte| *byte == 0) && next_begins_free(pages) {
            let text = mark("border");
            let (first, second) = text.split_at(text.len() / 2);
            overwrite(&mut pages[nth].1[PAGE_BYTES - first.len()..], first);
            overwrite(&mut pages[nth + 1].1, second);
            planted += 1;
        }
    }
    planted
}

/// The golden trace with marks in it; how many are in its memory.
fn plant(to: &Path) -> usize {
    let old = Trace::open(&golden()).unwrap();
    let mut writer = TraceWriter::without_manifest(to, old.trace_id(), WriterOptions::default()).unwrap();
    let mut planted = 0;
    let mut ids = std::collections::HashMap::new();
    let profile = KernelProfile::of_trace(&old).unwrap();
    for entry in old.records() {
        let labels =
            Labels { flags: entry.flags, keys: entry.keys, time: Some((entry.guest_ns, entry.host_ns)) };
        match entry.read_as().unwrap() {
            Kind::Manifest => writer.body(&marked_manifest(old.manifest().unwrap()), labels).unwrap(),
            Kind::Blob => {
                let mut blob = old.decode::<Blob>(entry).unwrap();
                if blob.role == BlobRole::ProgramBtf {
                    // A source line, as the compiler puts it there.
                    let types = crate::btf::Types::parse(blob.bytes.clone()).unwrap();
                    let names = super::names_of(&types);
                    let strings = &mut blob.bytes[types.strings()];
                    let line =
                        strings.split_mut(|byte| *byte == 0).find(|s| s.len() > 20 && !names.contains(&**s));
                    overwrite(line.expect("a string that is no name"), &mark("source-line"));
                    ids.insert(blob.id, blob_id(&blob.bytes));
                }
                writer.blob(blob.role, &blob.bytes).unwrap();
            }
            Kind::Events => {
                let chunk = old.decode::<EventChunk>(entry).unwrap();
                if chunk.events.iter().any(|event| matches!(event.body, EventBody::End { .. })) {
                    writer.events(&marked_events(&chunk.events[0])).unwrap();
                }
                let events = chunk.events.into_iter().map(|mut event| {
                    if let EventBody::End { detail, .. } = &mut event.body {
                        *detail = mark("end");
                    }
                    event
                });
                writer.events(&events.collect::<Vec<_>>()).unwrap();
            }
            Kind::Checkpoint => {
                let memory = old.checkpoint_memory(u32::try_from(entry.keys[0]).unwrap()).unwrap();
                let info = memory.info();
                let mut pages = Vec::new();
                let mut left_out = Vec::new();
                for run in memory.table().runs() {
                    for gfn in run.gfn..run.gfn + u64::from(run.count) {
                        match memory.table().get(gfn) {
                            PageState::Stored(_) => {
                                let mut page = [0; PAGE_BYTES];
                                memory.read(GuestPhys(gfn * PAGE_BYTES as u64), &mut page).unwrap();
                                pages.push((gfn, page));
                            }
                            PageState::LeftOut(why) => left_out.push((gfn..gfn + 1, why)),
                            PageState::Zero => {}
                        }
                    }
                }
                let constant = constant_frames(&KernelView::new(&profile, &memory));
                planted += mark_memory(&mut pages, &constant);
                let mut batch = PageBatch::default();
                pages.iter().for_each(|(gfn, page)| batch.push(*gfn, page));
                let captured = CapturedCheckpoint {
                    sample: info.sample,
                    guest_ns: info.guest_ns,
                    host_ns: info.host_ns,
                    ram: memory.ram().to_vec(),
                    base: CaptureBase::Zero,
                    changed: vec![batch],
                    zeroed: Vec::new(),
                    left_out,
                };
                writer.checkpoint(&captured).unwrap();
            }
            Kind::Sample => {
                let sample = old.decode::<Sample>(entry).unwrap();
                writer.sample(&marked_sample(sample, &|id| ids.get(&id).copied().unwrap_or(id))).unwrap();
            }
            Kind::Verdict => {
                let mut verdict: Verdict =
                    serde_json::from_str(&old.verdict_json().unwrap().unwrap()).unwrap();
                verdict.findings[0].summary = mark("verdict-summary");
                verdict.findings[0].lines.push(mark("verdict-line"));
                let check = Origin::Check(format!("{NAME}-check"));
                verdict.findings.push(Finding::new(check, "it holds", Outcome::Fail, mark("verdict-check")));
                writer.verdict(&verdict).unwrap();
            }
            Kind::Commit | Kind::PageChunk | Kind::Index => {}
            kind => writer.append(&old.raw_body(entry).unwrap(), kind, entry.version, labels).unwrap(),
        }
    }
    let config = format!("CONFIG_A=y\nCONFIG_LOCALVERSION=\"{}\"\n", mark("kernel-config"));
    writer.blob(BlobRole::KernelConfig, config.as_bytes()).unwrap();
    for detail in [mark("loss"), format!("{} on purpose", mark("loss-on-purpose"))] {
        writer.loss(&Loss { host_ns: HostNs(1), kind: LossKind::Kmsg, count: 3, detail }).unwrap();
    }
    // A kind that only later releases read, and a later version of a body.
    for (kind, version) in [(13, 1), (Kind::Claim.code(), 9)] {
        let (mut header, _) = old.raw_record(&old.records()[1]).unwrap();
        let body = mark(&format!("later-{kind}")).into_bytes();
        let stored = zstd::bulk::compress(&body, 1).unwrap();
        header.kind = kind;
        header.version = version;
        (header.stored_len, header.raw_len) = (stored.len() as u64, body.len() as u64);
        header.body_xxh3 = xxhash_rust::xxh3::xxh3_64(&stored);
        (header.guest_ns, header.host_ns) = (GuestNs(0), HostNs(0));
        writer.carry_over(header, &stored).unwrap();
    }
    writer.finish().unwrap();
    planted
}

/// Where `word` is in `bytes`. Cores have hundreds of megabytes.
fn places<'b>(bytes: &'b [u8], word: &'b str) -> impl Iterator<Item = usize> + 'b {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let at = from + bytes.get(from..)?.iter().position(|byte| *byte == word.as_bytes()[0])?;
            from = at + 1;
            if bytes[at..].starts_with(word.as_bytes()) {
                return Some(at);
            }
        }
    })
}

/// The marks in `bytes`, by what follows [`MARK`].
fn marks(bytes: &[u8]) -> BTreeSet<String> {
    let is_of_word = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'-';
    let word = |at: usize| bytes[at + MARK.len()..].iter().take(28).take_while(is_of_word);
    places(bytes, MARK).map(|at| word(at).map(|byte| char::from(*byte)).collect()).collect()
}

/// Everything that can be had of a trace: its bytes, its views, its exports.
fn everything(path: &Path) -> Vec<(String, Vec<u8>)> {
    let file = std::fs::read(path).unwrap();
    let mut all = vec![("decompressed".to_owned(), zstd::stream::decode_all(&file[..]).unwrap())];
    all.push(("file".to_owned(), file));
    let trace = Trace::open(path).unwrap();
    let run = Run::load(&trace);
    let verdict = run.recorded_verdict().unwrap();
    let again = run.judge(None, CheckSource::Recorded);
    all.push(("report".to_owned(), report::render(&run, &verdict).into_bytes()));
    all.push(("report of a new judgement".to_owned(), report::render(&run, &again).into_bytes()));
    all.push(("verdicts".to_owned(), serde_json::to_vec(&(&verdict, &again)).unwrap()));
    if let Ok(explained) = why::explain(&run, &verdict) {
        all.push(("why".to_owned(), explained.render().into_bytes()));
    }
    all.push(("diff".to_owned(), diff::diff(&run, &run, diff::Part::ALL).text().into_bytes()));
    let mut out = Vec::new();
    export::json_lines(&run, &mut out).unwrap();
    export::series_csv(&run, &mut out).unwrap();
    export::events_csv(&run, &mut out).unwrap();
    all.push(("export".to_owned(), out));
    let Ok(checkpoints) = Checkpoints::of(&run) else { return all };
    let infos = checkpoints.all();
    for (nth, info) in [infos.first(), infos.last()].into_iter().flatten().enumerate() {
        let checkpoint = checkpoints.open(*info).unwrap();
        if nth == 1 {
            let core = path.with_extension("core");
            export::vmcore::write_vmcore(&checkpoint, &core).unwrap();
            all.push(("core".to_owned(), std::fs::read(&core).unwrap()));
            std::fs::remove_file(core).unwrap();
        }
        let maps = run.trace.samples().filter_map(Result::ok).flat_map(|sample| sample.maps);
        let ids: BTreeSet<u32> = maps.map(|map| map.id).collect();
        let of_maps = ids.into_iter().map(|id| View::Map { wanted: id.to_string(), follow: true });
        for view in View::plain().into_iter().chain(of_maps) {
            let Ok(shown) = view.show(&checkpoint) else { continue };
            let json = serde_json::to_string(&shown.json).unwrap();
            all.push((format!("{view} of {nth}"), (shown.lines.join("\n") + &json).into_bytes()));
        }
    }
    all
}

fn has_word(bytes: &[u8], word: &str) -> bool {
    places(bytes, word).next().is_some()
}

/// Every mark is in the trace that was made, so that it is seen when it is gone.
const PLANTED: [&str; 28] = [
    "body-error",
    "border",
    "console",
    "end",
    "kernel-argument",
    "kernel-config",
    "kmsg",
    "later-13",
    "loss",
    "machine-why",
    "map-key",
    "map-unread",
    "map-value",
    "mem-log",
    "op-mended",
    "output-Scheduler",
    "payload-stdout",
    "rg",
    "sample-fault",
    "sample-missed",
    "scheduler-arg",
    "scx-dump",
    "scx-message",
    "source-line",
    "stage-StartRetried",
    "stats-text",
    "taint",
    "verdict-check",
];

#[test]
fn no_mark_is_left_of_a_redacted_trace() {
    let dir = tempfile::tempdir().unwrap();
    let marked = dir.path().join("marked.trace.zst");
    let in_memory = plant(&marked);
    assert!(in_memory > 20, "only {in_memory} marks in memory");
    let before = everything(&marked);
    let found: BTreeSet<String> = before.iter().flat_map(|(_, bytes)| marks(bytes)).collect();
    // A mark may be followed by other text.
    let is_there = |place: &str| found.iter().any(|mark| mark.starts_with(&format!("-{place}")));
    let lacking: Vec<_> = PLANTED.iter().filter(|place| !is_there(place)).collect();
    assert!(lacking.is_empty(), "these marks were not planted: {lacking:?}; there are {found:?}");
    for (what, least) in [("report", 1), ("core", 5), ("export", 10), ("dmesg of 1", 1)] {
        let here = before.iter().find(|(name, _)| name == what).map(|(_, bytes)| marks(bytes).len());
        assert!(here >= Some(least), "{what} has {here:?} marks");
    }

    for (name, options) in [
        ("plain", SlimOptions { level: 1, redact: true, ..SlimOptions::default() }),
        ("read", SlimOptions { level: 1, redact: true, pages: KeepPages::Read, ..SlimOptions::default() }),
        ("all", SlimOptions { level: 1, redact: true, pages: KeepPages::All, ..SlimOptions::default() }),
        (
            "dropped",
            SlimOptions { level: 1, redact: true, drop: Dropped::ALL.to_vec(), ..SlimOptions::default() },
        ),
    ] {
        let to = dir.path().join(format!("{name}.trace.zst"));
        slim(&marked, &to, &options).unwrap();
        assert!(Trace::open(&to).unwrap().verify().is_clean());
        for (what, bytes) in everything(&to) {
            let left = marks(&bytes);
            assert!(left.is_empty(), "{name}: {what} still has {left:?}");
            assert!(!has_word(&bytes, SHORT), "{name}: {what} still has the short argument");
        }
    }
}

#[test]
fn what_a_redacted_trace_is_for_is_still_there() {
    let dir = tempfile::tempdir().unwrap();
    let (marked, to) = (dir.path().join("marked.trace.zst"), dir.path().join("redacted.trace.zst"));
    plant(&marked);
    slim(&marked, &to, &SlimOptions { level: 1, redact: true, ..SlimOptions::default() }).unwrap();
    let (old, new) = (Trace::open(&marked).unwrap(), Trace::open(&to).unwrap());
    let (before, after) = (Run::load(&old), Run::load(&new));
    let verdicts = [&before, &after].map(|run| run.recorded_verdict().unwrap());
    let outcomes =
        |verdict: &Verdict| verdict.findings.iter().map(|f| (f.what.clone(), f.outcome)).collect::<Vec<_>>();
    assert_eq!(outcomes(&verdicts[0]), outcomes(&verdicts[1]));
    let worded = verdicts[1].findings.iter().filter(|f| f.summary != super::REDACTED).count();
    assert!(worded >= 4, "{:?}", verdicts[1]);
    // Names are kept, and numbers.
    let text = everything(&to).into_iter().find(|(name, _)| name == "decompressed").unwrap().1;
    for kept in ["package", "phase", "cgroup", "payload", "check"] {
        assert!(has_word(&text, &format!("{NAME}-{kept}")), "{kept}");
    }
    assert_eq!(new.samples().count(), old.samples().count());
    assert!(new.samples().map(Result::unwrap).any(|sample| sample.vcpus.iter().any(|cpu| cpu.gpr[4] == 7)));
    let column = |run: &Run<'_>| {
        let column = run.columns(&["nr_dispatched".parse().unwrap()]);
        column[0].usable().map(|(at, _, value)| (at, value.to_string())).collect::<Vec<_>>()
    };
    assert!(column(&before).len() > 1);
    assert_eq!(column(&before), column(&after));
    // So is what the kernel did, down to the words; its log alone is blank.
    for view in [View::Tasks, View::Runqueues, View::Dsqs, View::Stacks, View::Cgroups, View::CpuTime] {
        let lines = [&before, &after].map(|run| {
            let checkpoints = Checkpoints::of(run).unwrap();
            view.show(&checkpoints.at(None).unwrap()).unwrap().lines
        });
        assert!(lines[0].len() > 2, "{view}");
        assert_eq!(lines[0], lines[1], "{view}");
    }
}

#[test]
fn the_documentation_lists_every_channel() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/checkpoints.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    for channel in CHANNELS {
        let row =
            format!("| {} | {} | {} |", channel.what, channel.place, channel.may_still_hold.unwrap_or("-"));
        assert!(docs.contains(&row), "docs/checkpoints.md has no line\n{row}");
    }
}
