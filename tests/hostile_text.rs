//! A trace of which every string tells the terminal to do something and begins a line of its own: none of it gets there.

use std::path::{Path, PathBuf};

use ktstr_replay::trace::record::{
    BlobRole, ClaimOrigin, ClaimRecord, Event, EventBody, History, HistoryStep, HistoryTask, HistoryWhat,
    LongWait, Loss, MapContents, ProbeEvent, ProbeHit, ProbeNews, ProbeReturn, ProbeTotals, ProbeValue,
    Sample, SchedulerMaps, StatsAnswer, WaitLimit, WatchEvent, WatchFire, WatchNews, WatchTotals, blob_id,
};
use ktstr_replay::trace::{CaptureBase, CapturedCheckpoint, PageBatch, Trace, TraceWriter};
use ktstr_replay::units::{Cpu, GuestNs, HostNs};
use ktstr_tests::{Printed, READINGS, json_of, run_reading};
use serde_json::Value;

/// What a terminal obeys: colours, a title, C1 controls; a text that runs backwards; and a line that looks like ours.
const EVIL: &str = "\u{1b}[31mred\u{1b}]0;title\u{7}\u{9b}2J\u{7f}\u{202e}\r\n>>>FORGED";
/// How a forged line would begin.
const FORGED: &str = ">>>FO";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces").join(format!("{name}.trace.zst"))
}

fn evil(text: &mut String) {
    text.push_str(EVIL);
}

fn evil_option(text: &mut Option<String>) {
    evil(text.get_or_insert_default());
}

/// Every string of a JSON value, words that mean something to the reader aside.
fn evil_json(value: &mut Value) {
    match value {
        Value::String(text) => evil(text),
        Value::Array(values) => values.iter_mut().for_each(evil_json),
        Value::Object(members) => {
            let values = members.iter_mut().filter(|(key, _)| !matches!(key.as_str(), "origin" | "outcome"));
            values.for_each(|(_, value)| evil_json(value));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn evil_event(event: &mut Event) {
    match &mut event.body {
        EventBody::Console(bytes) | EventBody::Output { bytes, .. } => {
            bytes.extend_from_slice(EVIL.as_bytes())
        }
        EventBody::Kmsg { text, .. } => evil(text),
        EventBody::Stage { detail, .. } | EventBody::End { detail, .. } => evil(detail),
        EventBody::PhaseBegin { name, .. } => evil(name),
        EventBody::PhaseEnd { .. } => {}
        EventBody::Op { name, detail } => [name, detail].into_iter().for_each(evil),
        EventBody::Worker(report) => {
            [&mut report.cgroup, &mut report.work].into_iter().for_each(evil);
            evil_option(&mut report.fault);
        }
        EventBody::WorkerDetail(detail) => evil(&mut detail.policy),
        EventBody::Payload(run) => {
            [&mut run.name, &mut run.program, &mut run.cgroup].into_iter().for_each(evil);
            [&mut run.stdout_tail, &mut run.stderr_tail].into_iter().for_each(evil);
            run.args.iter_mut().for_each(evil);
            [&mut run.fault, &mut run.metrics_fault].into_iter().for_each(evil_option);
            run.metrics.iter_mut().for_each(|metric| evil(&mut metric.path));
            run.declared
                .iter_mut()
                .for_each(|metric| [&mut metric.path, &mut metric.unit].into_iter().for_each(evil));
        }
        EventBody::Stats(answer) => {
            evil(&mut answer.target);
            // One that has a fault has no answer.
            if let Some(fault) = &mut answer.fault {
                evil(fault);
            }
        }
        EventBody::Watch(event) => {
            evil(&mut event.target);
            match &mut event.what {
                WatchNews::Asked { when, .. } => evil_option(when),
                WatchNews::Waiting { why } | WatchNews::Disarmed { why } | WatchNews::Refused { why } => {
                    evil(why)
                }
                WatchNews::Fired(fire) => {
                    [&mut fire.place, &mut fire.comm].into_iter().for_each(evil);
                    fire.stack.iter_mut().for_each(evil);
                    evil_option(&mut fire.source);
                    if let Some((_, name)) = &mut fire.phase {
                        evil(name);
                    }
                }
                WatchNews::Armed { .. } | WatchNews::Totals(_) => {}
            }
        }
        EventBody::LongWait(wait) => evil(&mut wait.comm),
        EventBody::History(history) => {
            history.tasks.iter_mut().for_each(|task| evil(&mut task.comm));
            history.names.iter_mut().for_each(evil);
        }
        EventBody::Probe(event) => {
            evil(&mut event.target);
            match &mut event.what {
                ProbeNews::Asked { .. } | ProbeNews::Totals(_) => {}
                ProbeNews::Waiting { why } | ProbeNews::Disarmed { why } | ProbeNews::Refused { why } => {
                    evil(why)
                }
                ProbeNews::Armed { place, names, .. } => {
                    evil(place);
                    names.iter_mut().for_each(evil);
                }
                ProbeNews::Hit(hit) => {
                    [&mut hit.comm, &mut hit.caller].into_iter().for_each(evil);
                    evil_option(&mut hit.source);
                    hit.values.iter_mut().for_each(evil_value);
                }
                ProbeNews::Returned(back) => back.value.iter_mut().for_each(evil_value),
            }
        }
        EventBody::SchedulerMaps(maps) => {
            [&mut maps.scheduler, &mut maps.cgroup].into_iter().for_each(evil);
        }
        EventBody::Body { error, failures } => {
            evil_option(error);
            failures.push(EVIL.to_owned());
        }
    }
}

fn evil_value(value: &mut ProbeValue) {
    match value {
        ProbeValue::Text(text) | ProbeValue::Unread { why: text } => evil(text),
        ProbeValue::Int(_) | ProbeValue::Pointer(_) => {}
    }
}

/// Answers of a statistics server, of which the golden trace has none.
fn evil_stats() -> Vec<Event> {
    let line = serde_json::json!({ "errno": 0, "args": { "resp": { EVIL: EVIL, "nr": 1 } } }).to_string();
    let answer = |(sample, fault)| {
        let (target, line) = ("top".to_owned(), line.clone().into_bytes());
        let body =
            EventBody::Stats(Box::new(StatsAnswer { sample, target, asked_ns: GuestNs(1), line, fault }));
        Event { guest_ns: GuestNs(2), host_ns: HostNs(2), body }
    };
    [(0, None), (1, Some(String::new()))].map(answer).into()
}

/// All that can be told of a probe, of which the golden trace has none either.
fn evil_probes() -> Vec<Event> {
    let text = |text: &str| text.to_owned();
    let hit = ProbeHit {
        number: 1,
        values: vec![ProbeValue::Int(1), ProbeValue::Text(text("t")), ProbeValue::Unread { why: text("w") }],
        caller: text("f"),
        source: Some(text("a.c:1: x")),
        ..ProbeHit::default()
    };
    let back = ProbeReturn { number: 1, value: Some(ProbeValue::Text(text("r"))), ..ProbeReturn::default() };
    let names = ["a", "b", "c"].map(text).to_vec();
    let news = [
        ProbeNews::Asked { max_hits: 1, by_body: true },
        ProbeNews::Waiting { why: text("why") },
        ProbeNews::Armed { at: 1, place: text("f"), names },
        ProbeNews::Hit(Box::new(hit)),
        ProbeNews::Returned(Box::new(back)),
        ProbeNews::Disarmed { why: text("why") },
        ProbeNews::Refused { why: text("why") },
        ProbeNews::Totals(ProbeTotals::default()),
    ];
    // The last of them is given up, so that its calls are shown for another one.
    let told = (0..2).flat_map(|probe| news.iter().cloned().map(move |what| (probe, what)));
    let told = told.filter(|(probe, what)| *probe == 0 || !matches!(what, ProbeNews::Refused { .. }));
    told.map(|(probe, what)| {
        let body = EventBody::Probe(Box::new(ProbeEvent { probe, target: text("x"), what }));
        let mut event = Event { guest_ns: GuestNs(2), host_ns: HostNs(2), body };
        evil_event(&mut event);
        event
    })
    .collect()
}

/// All that can be told of a watch, which the golden trace has none of.
fn evil_watches() -> Vec<Event> {
    let fire = WatchFire {
        number: 1,
        place: "f".to_owned(),
        source: Some("a.c:1: x".to_owned()),
        stack: vec!["f".to_owned()],
        phase: Some((0, "p".to_owned())),
        ..WatchFire::default()
    };
    let why = || String::from("why");
    let news = [
        WatchNews::Asked {
            when: Some("new > 1".to_owned()),
            max_fires: 64,
            min_interval_ns: 0,
            by_body: true,
        },
        WatchNews::Waiting { why: why() },
        WatchNews::Armed { at: 1, bytes: 8, value: 0 },
        WatchNews::Fired(Box::new(fire)),
        WatchNews::Disarmed { why: why() },
        WatchNews::Refused { why: why() },
        WatchNews::Totals(WatchTotals::default()),
    ];
    let told = news.into_iter().map(|what| {
        let body = EventBody::Watch(Box::new(WatchEvent { watch: 0, target: "x".to_owned(), what }));
        let mut event = Event { guest_ns: GuestNs(2), host_ns: HostNs(2), body };
        evil_event(&mut event);
        event
    });
    told.collect()
}

/// Waits of all kinds, of which the golden trace has none.
fn evil_waits() -> Vec<Event> {
    let wait = |limit| {
        let (comm, cpu) = ("waits".to_owned(), Some(Cpu(1)));
        let (limit_ns, waited_ns) = (2_000_000_000, 1_000_000_000);
        let wait = LongWait { limit, limit_ns, waited_ns, pid: Some(7), comm, cpu, sample: Some(1) };
        let body = EventBody::LongWait(Box::new(wait));
        Event { guest_ns: GuestNs(2), host_ns: HostNs(2), body }
    };
    [WaitLimit::Watchdog, WaitLimit::CheckIn, WaitLimit::Gap].map(wait).into()
}

/// Two schedulers, of which the one below has the maps that the golden trace's only scheduler has.
fn evil_schedulers(stall: &Trace) -> Vec<Event> {
    let sample =
        stall.samples().flatten().find(|sample| !sample.maps.is_empty()).expect("a sample with maps");
    let maps: Vec<u32> = sample.maps.iter().map(|map| map.id).collect();
    let one = |level, maps| {
        let (scheduler, cgroup) = ("s".to_owned(), format!("/{level}"));
        let body = EventBody::SchedulerMaps(Box::new(SchedulerMaps { scheduler, level, cgroup, maps }));
        Event { guest_ns: GuestNs(1), host_ns: HostNs(1), body }
    };
    vec![one(0, maps.iter().take(1).copied().collect()), one(1, maps)]
}

/// A history in which one task, the golden trace's stalled one, waits for long, and all else that it can name.
fn evil_history() -> Event {
    let task = |pid| HistoryTask { pid, prio: 120, comm: "t".to_owned() };
    let step = |after_ns, what| HistoryStep { after_ns, what };
    let (prev, next) = (0, 1);
    let history = History {
        overwritten: 1,
        tasks: vec![task(1), task(2)],
        names: vec!["n".to_owned()],
        steps: vec![
            step(0, HistoryWhat::Switch { prev, state: 0, next }),
            step(1, HistoryWhat::SchedExt { name: 0, by: 1, count: 1 }),
            step(1 << 40, HistoryWhat::Switch { prev: next, state: 1, next: prev }),
        ],
        ..History::default()
    };
    Event { guest_ns: GuestNs(2), host_ns: HostNs(2), body: EventBody::History(Box::new(history)) }
}

/// Names inside of BTF keep their length, as other names lie behind them.
fn evil_btf(btf: &[u8]) -> Vec<u8> {
    let mut btf = btf.to_vec();
    for (name, evil) in
        [(&b"\0nr_dispatched\0"[..], &b"\0nr_\x1b[7m\n>>>FO\0"[..]), (b"\0phase\0", b"\0p\x1b[7m\0")]
    {
        assert_eq!(name.len(), evil.len());
        let found = btf.windows(name.len()).position(|window| window == name);
        let found = found.unwrap_or_else(|| panic!("no {name:?} in the BTF"));
        btf[found..found + name.len()].copy_from_slice(evil);
    }
    btf
}

fn evil_sample(sample: &mut Sample, checkpoint: Option<u32>) {
    evil(&mut sample.tag);
    sample.faults.push(EVIL.to_owned());
    sample.phase = Some((0, EVIL.to_owned()));
    sample.checkpoint = checkpoint;
    if let Some(scx) = &mut sample.scx {
        evil(&mut scx.state);
        let texts = [&mut scx.ops_name, &mut scx.exit_kind_name, &mut scx.exit_reason, &mut scx.exit_message];
        texts.into_iter().for_each(evil_option);
        evil_option(&mut scx.exit_dump);
    }
    for cpu in &mut sample.cpus {
        evil_option(&mut cpu.curr_comm);
    }
    // The scheduler's variables are found by the names of their maps; the others may have any.
    for map in sample.maps.iter_mut().filter(|map| !map.name.starts_with("scx_demo.")) {
        evil(&mut map.name);
        map.contents = MapContents::Unread { why: EVIL.to_owned() };
    }
}

/// The golden stall with evil strings everywhere, and a checkpoint whose kernel says evil things too.
fn write_evil(path: &Path) {
    let stall = Trace::open(&golden("stall")).expect("the golden trace");
    let mut manifest = serde_json::to_value(stall.manifest().expect("a manifest")).expect("JSON");
    // Performance mode was not asked for.
    manifest["machine"]["performance"] =
        serde_json::json!([{ "what": "x", "in_force": true, "detail": "x" }, { "what": "x", "detail": "x" }]);
    evil_json(&mut manifest);
    let manifest = serde_json::from_value(manifest).expect("a manifest");
    let mut writer = TraceWriter::create(path, &manifest).expect("a trace");
    let release = format!("OSRELEASE=7.3{EVIL}\n{EVIL}=1\n");
    writer.blob(BlobRole::Vmcoreinfo, release.as_bytes()).expect("a blob");
    let old = stall.blobs(BlobRole::ProgramBtf);
    let mut renamed = Vec::new();
    for id in old {
        let btf = evil_btf(&stall.blob(&id).expect("BTF"));
        writer.blob(BlobRole::ProgramBtf, &btf).expect("a blob");
        renamed.push((id, blob_id(&btf)));
    }
    assert!(!renamed.is_empty(), "the golden trace has no BTF");
    for mut claim in stall.claims() {
        writer.claim(&claim).expect("a claim");
        evil(&mut claim.text);
        writer.claim(&claim).expect("a claim");
    }
    writer.claim(&ClaimRecord { text: EVIL.to_owned(), origin: ClaimOrigin::Closure }).expect("a claim");
    let mut events = stall.events();
    events.extend(evil_stats());
    events.extend(evil_watches());
    events.extend(evil_waits());
    events.push(evil_history());
    events.extend(evil_probes());
    events.extend(evil_schedulers(&stall));
    events.iter_mut().for_each(evil_event);
    writer.events(&events).expect("events");
    let mut page = PageBatch::with_capacity(1);
    page.push(1, &[7; 4096]);
    let checkpoint = CapturedCheckpoint {
        sample: Some(0),
        guest_ns: GuestNs(0),
        host_ns: HostNs(0),
        ram: std::iter::once(0..1 << 20).collect(),
        base: CaptureBase::Zero,
        changed: vec![page],
        zeroed: Vec::new(),
        left_out: Vec::new(),
    };
    writer.checkpoint(&checkpoint).expect("a checkpoint");
    for (nth, sample) in stall.samples().enumerate() {
        let mut sample = sample.expect("a sample");
        evil_sample(&mut sample, (nth == 0).then_some(0));
        for map in &mut sample.maps {
            map.btf = renamed.iter().find(|(old, _)| Some(*old) == map.btf).map(|(_, new)| *new);
        }
        writer.sample(&sample).expect("a sample");
    }
    for mut loss in stall.losses() {
        evil(&mut loss.detail);
        writer.loss(&loss).expect("a loss");
    }
    let detail = EVIL.to_owned();
    let loss =
        Loss { host_ns: HostNs(1), kind: ktstr_replay::trace::record::LossKind::Capture, count: 1, detail };
    writer.loss(&loss).expect("a loss");
    let verdict = stall.verdict_json().expect("a verdict").expect("a verdict");
    let mut verdict: Value = serde_json::from_str(&verdict).expect("JSON");
    evil_json(&mut verdict);
    verdict["findings"][0]["origin"] = serde_json::json!({ "check": EVIL });
    writer.verdict(&verdict).expect("a verdict");
    writer.finish().expect("an end");
}

/// Characters that terminals obey or that mislead, newlines and tabs aside.
fn harmful(text: &str) -> Option<char> {
    text.chars().find(|c| (c.is_control() && !matches!(c, '\n' | '\t')) || *c == '\u{202e}')
}

#[test]
fn no_string_of_a_trace_reaches_the_terminal_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("evil.trace.zst");
    write_evil(&path);
    let steady = golden("steady");
    let mut told = 0;
    for (form, args) in READINGS {
        // JSON lines are the one thing that `export` prints without another option.
        for json in [false, true] {
            if (json && *form == Printed::Other) || (!json && *form == Printed::Lines) {
                continue;
            }
            let ended = run_reading(args, json, &path, &steady);
            if json {
                json_of(*form, args, &ended);
            }
            for text in [&ended.stdout, &ended.stderr] {
                assert_eq!(harmful(text), None, "{args:?}: {ended:?}");
                // A quoted cell of CSV has the lines that its text has.
                let forged =
                    text.lines().find(|line| line.starts_with(FORGED)).filter(|_| *form != Printed::Other);
                assert_eq!(forged, None, "{args:?}: {ended}");
            }
            told += usize::from(ended.stdout.contains("red") || ended.stderr.contains("red"));
        }
    }
    // That they are not there is not because nothing is.
    assert!(told >= 15, "{told} of {} readings tell of it", READINGS.len());
}

/// The evil strings are in the JSON as they are in the trace, and written so that a terminal is safe.
#[test]
fn json_has_the_strings_themselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("evil.trace.zst");
    write_evil(&path);
    let info = run_reading(&["trace", "info", "TRACE"], true, &path, &path);
    assert!(
        info.stdout.contains("\\u001b") && info.stdout.contains("\\u009b") && info.stdout.contains("\\u202e")
    );
    let info: Value = serde_json::from_str(&info.stdout).expect("JSON");
    assert_eq!(info["manifest"]["test"]["name"], format!("stall{EVIL}"));
}
