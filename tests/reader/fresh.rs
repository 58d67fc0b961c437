//! A trace with a record of every kind and a value of every variant, as it is written and as it is to be read.

use std::path::Path;

use ktstr_replay::memory::LeftOut;
use ktstr_replay::trace::record::{
    BlobRole, CaptureKind, ClaimOrigin, ClaimRecord, Clock, CpuState, DeclaredMetric, Event, EventBody,
    GuestEnd, Latencies, Loss, LossKind, Manifest, MapContents, MapState, Metric, MetricCheck, NodePages,
    OutputSource, PAGE_BYTES, PayloadEnd, PayloadOutput, PayloadRun, Polarity, Sample, ScxState, Stage,
    StatsAnswer, VcpuRegs, WorkerDetail, WorkerReport,
};
use ktstr_replay::trace::{CaptureBase, CapturedCheckpoint, PageBatch, TraceWriter};
use ktstr_replay::units::{Cpu, GuestNs, HostNs};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_128;

/// More than one full table.
pub const CHECKPOINTS: u32 = 18;

const LONG: &str = "a text of more bytes than fit where it stands: \u{e4}\u{4e16}";

/// Write it.
pub fn write(path: &Path, finish: bool) {
    let mut manifest = Manifest { ktstr_version: "0.1.0".to_owned(), ..Manifest::default() };
    manifest.test.name = LONG.to_owned();
    manifest.taints.push("emulated".to_owned());
    let mut writer = TraceWriter::create(path, &manifest).expect("a trace");
    writer.blob(BlobRole::Vmcoreinfo, b"OSRELEASE=7.3.4\n").expect("a blob");
    writer.clock(&Clock { guest_ns: GuestNs(10), host_ns: HostNs(20) }).expect("a clock");
    writer
        .claim(&ClaimRecord { text: "final(x >= 1)".to_owned(), origin: ClaimOrigin::Closure })
        .expect("a claim");
    writer.events(&events()).expect("events");
    for index in 0..CHECKPOINTS {
        writer.checkpoint(&checkpoint(index)).expect("a checkpoint");
    }
    writer.sample(&sample()).expect("a sample");
    let loss = Loss { host_ns: HostNs(7000), kind: LossKind::Kmsg, count: 2, detail: "ring full".to_owned() };
    writer.loss(&loss).expect("a loss");
    writer.verdict(&json!({ "outcome": "pass" })).expect("a verdict");
    writer.commit().expect("a commit");
    if finish {
        writer.finish().expect("an end");
    }
}

fn page(seed: u32) -> [u8; PAGE_BYTES] {
    std::array::from_fn(|i| if i % 128 < 8 { (seed as usize * 31 + i) as u8 } else { 0 })
}

/// 300 pages in two ranges, of which each checkpoint changes some, zeroes one and leaves out some.
fn checkpoint(index: u32) -> CapturedCheckpoint {
    let mut batch = PageBatch::with_capacity(80);
    let pages = if index == 0 { 80 } else { 3 };
    for i in 0..pages {
        batch.push(u64::from(20 + index + i), &page(index * 100 + i));
    }
    CapturedCheckpoint {
        sample: Some(0),
        guest_ns: GuestNs(5000),
        host_ns: HostNs(6000),
        ram: vec![0..200 << 12, 1 << 20..(1 << 20) + (100 << 12)],
        base: if index == 0 { CaptureBase::Zero } else { CaptureBase::Previous },
        changed: vec![batch],
        zeroed: std::iter::once(u64::from(index)..u64::from(index) + 1).collect(),
        left_out: vec![(260..270, LeftOut::KernelText), (270..271 + u64::from(index), LeftOut::User)],
    }
}

fn events() -> Vec<Event> {
    let bodies = [
        EventBody::Console(b"line\n".to_vec()),
        EventBody::Kmsg { level: 6, sequence: 1 << 40, kernel_ns: 9, text: LONG.to_owned() },
        EventBody::Output { source: OutputSource::Test, stderr: true, bytes: Vec::new() },
        EventBody::Stage { stage: Stage::InitFailed, detail: String::new() },
        EventBody::PhaseBegin { index: 3, name: "exactly8".to_owned() },
        EventBody::PhaseEnd { index: u32::MAX },
        EventBody::Op { name: "op".to_owned(), detail: "nine byte".to_owned() },
        EventBody::Worker(WorkerReport {
            index: 1,
            cgroup: "cg_0".to_owned(),
            cpus_used: vec![Cpu(0), Cpu(70_000)],
            fault: Some(LONG.to_owned()),
            max_gap_at_ns: u64::MAX,
            ..WorkerReport::default()
        }),
        EventBody::WorkerDetail(Box::new(WorkerDetail {
            pid: 7,
            policy: "Fifo(10)".to_owned(),
            is_thread: true,
            wakes: Latencies { total: 3, sum_ns: 1 << 40, max_ns: 5, samples_ns: vec![5, 4] },
            node_pages: vec![NodePages { node: 1, pages: 9 }],
            cross_node_migrations: Some(2),
            ..WorkerDetail::default()
        })),
        EventBody::Payload(Box::new(PayloadRun {
            name: "fio".to_owned(),
            args: vec!["--json".to_owned(), LONG.to_owned()],
            end: PayloadEnd::TimedOut,
            exit_code: Some(-3),
            output: PayloadOutput::Json,
            stderr_tail: LONG.to_owned(),
            metrics: vec![Metric { path: "a.b".to_owned(), value: -0.5 }],
            declared: vec![DeclaredMetric {
                path: "a.b".to_owned(),
                polarity: Polarity::LowerBetter,
                unit: "ns".to_owned(),
            }],
            checks: vec![
                MetricCheck::Min { path: "m".to_owned(), limit: 1.25 },
                MetricCheck::Max { path: "m".to_owned(), limit: 1e300 },
                MetricCheck::Range { path: "m".to_owned(), low: -2.0, high: 2.0 },
                MetricCheck::Exists { path: LONG.to_owned() },
                MetricCheck::ExitCode { code: -1 },
            ],
            ..PayloadRun::default()
        })),
        EventBody::Body { error: None, failures: vec!["one".to_owned(), LONG.to_owned()] },
        EventBody::End { end: GuestEnd::Interrupted, detail: "x".repeat(300) },
        EventBody::Stats(Box::new(StatsAnswer {
            sample: 3,
            target: "top".to_owned(),
            asked_ns: GuestNs(1 << 40),
            line: b"{\"errno\":0}".to_vec(),
            fault: Some(LONG.to_owned()),
        })),
    ];
    let event = |(i, body)| Event { guest_ns: GuestNs(i), host_ns: HostNs(2 * i), body };
    (0..).zip(bodies).map(event).collect()
}

/// The events in the reader's form.
pub fn events_as_read() -> Value {
    let bodies = [
        json!({ "Console": bytes(b"line\n") }),
        json!({ "Kmsg": { "level": 6, "sequence": 1u64 << 40, "kernel_ns": 9, "text": LONG } }),
        json!({ "Output": { "source": "Test", "stderr": true, "bytes": bytes(b"") } }),
        json!({ "Stage": { "stage": "InitFailed", "detail": "" } }),
        json!({ "PhaseBegin": { "index": 3, "name": "exactly8" } }),
        json!({ "PhaseEnd": { "index": u32::MAX } }),
        json!({ "Op": { "name": "op", "detail": "nine byte" } }),
        json!({ "Worker": {
            "index": 1, "pid": 0, "cgroup": "cg_0", "work": "", "work_units": 0, "iterations": 0, "cpu_ns": 0, "wall_ns": 0,
            "max_gap_ns": 0, "max_gap_at_ns": u64::MAX, "run_delay_ns": 0, "migrations": 0, "cpus_used": [0, 70_000],
            "fault": LONG,
        } }),
        json!({ "WorkerDetail": {
            "pid": 7, "policy": "Fifo(10)", "is_thread": true, "max_off_cpu_ns": 0, "minor_faults": 0, "major_faults": 0,
            "voluntary_switches": 0, "involuntary_switches": 0,
            "wakes": { "total": 3, "sum_ns": 1u64 << 40, "max_ns": 5, "samples_ns": [5, 4] },
            "timers": { "total": 0, "sum_ns": 0, "max_ns": 0, "samples_ns": [] },
            "node_pages": [{ "node": 1, "pages": 9 }], "cross_node_migrations": 2,
        } }),
        json!({ "Payload": {
            "name": "fio", "program": "", "package": "", "args": ["--json", LONG], "cgroup": "", "pid": 0, "began_ns": 0,
            "wall_ns": 0, "cpu_ns": 0, "timeout_ns": 0, "end": "TimedOut", "exit_code": -3, "signal": null, "fault": null,
            "output": "Json", "stdout_bytes": 0, "stderr_bytes": 0, "stdout_tail": "", "stderr_tail": LONG,
            "metrics": [{ "path": "a.b", "value": -0.5 }], "metrics_left_out": 0, "metrics_fault": null,
            "declared": [{ "path": "a.b", "polarity": "LowerBetter", "unit": "ns" }],
            "checks": [
                { "Min": { "path": "m", "limit": 1.25 } }, { "Max": { "path": "m", "limit": 1e300 } },
                { "Range": { "path": "m", "low": -2.0, "high": 2.0 } }, { "Exists": { "path": LONG } },
                { "ExitCode": { "code": -1 } },
            ],
        } }),
        json!({ "Body": { "error": null, "failures": ["one", LONG] } }),
        json!({ "End": { "end": "Interrupted", "detail": "x".repeat(300) } }),
        json!({ "Stats": {
            "sample": 3, "target": "top", "asked_ns": 1u64 << 40, "line": bytes(b"{\"errno\":0}"), "fault": LONG,
        } }),
    ];
    let event = |(i, body)| json!({ "guest_ns": i, "host_ns": 2 * i, "body": body });
    Value::Array((0u64..).zip(bodies).map(event).collect())
}

fn sample() -> Sample {
    let map = |id, contents| MapState {
        id,
        name: "demo.bss".to_owned(),
        map_type: 2,
        key_size: 4,
        value_size: 16,
        max_entries: 1,
        btf: (id == 1).then_some([7; 16]),
        key_type_id: 0,
        value_type_id: 3,
        contents,
    };
    let values = || vec![9; 16];
    Sample {
        index: 0,
        tag: "periodic_000".to_owned(),
        kind: CaptureKind::SchedulerExit,
        guest_ns: GuestNs(5000),
        host_ns: HostNs(6000),
        phase: Some((4, "steady".to_owned())),
        missed: None,
        scx: Some(ScxState {
            state: "disabled".to_owned(),
            exit_kind: 1026,
            exit_code: i64::MIN,
            exit_reason: Some(LONG.to_owned()),
            bypass_depth: Some(-1),
            ..ScxState::default()
        }),
        maps: vec![
            map(1, MapContents::Array { values: values() }),
            map(2, MapContents::PerCpuArray { cpus: vec![Cpu(0), Cpu(1)], values: values() }),
            map(3, MapContents::Hash { keys: vec![1; 4], values: values() }),
            map(4, MapContents::PerCpuHash { cpus: vec![Cpu(5)], keys: vec![1; 4], values: values() }),
            map(5, MapContents::Unread { why: LONG.to_owned() }),
        ],
        cpus: vec![CpuState { cpu: Cpu(1), curr_pid: Some(-2), clock_ns: Some(3), ..CpuState::default() }],
        vcpus: vec![VcpuRegs {
            cpu: Cpu(1),
            rip: u64::MAX,
            segments: [1, 2, 3, 4, 5, 6],
            efer: 9,
            ..Default::default()
        }],
        faults: vec![LONG.to_owned()],
        checkpoint: Some(0),
        pause_us: 700,
        machine_us: 500,
    }
}

/// The sample in the reader's form.
pub fn sample_as_read() -> Value {
    let values = bytes(&[9; 16]);
    let keys = bytes(&[1; 4]);
    let map = |id: u32, btf: Value, contents: Value| {
        json!({
            "id": id, "name": "demo.bss", "map_type": 2, "key_size": 4, "value_size": 16, "max_entries": 1, "btf": btf,
            "key_type_id": 0, "value_type_id": 3, "contents": contents,
        })
    };
    json!({
        "index": 0, "tag": "periodic_000", "kind": "SchedulerExit", "guest_ns": 5000, "host_ns": 6000,
        "phase": [4, "steady"], "missed": null,
        "scx": {
            "state": "disabled", "ops_name": null, "exit_kind": 1026, "exit_kind_name": null, "exit_code": i64::MIN,
            "exit_reason": LONG, "exit_message": null, "exit_dump": null, "enable_seq": null, "bypass_depth": -1,
            "nr_rejected": null, "watchdog_timeout_ns": null,
        },
        "maps": [
            map(1, bytes(&[7; 16]), json!({ "Array": { "values": values } })),
            map(2, Value::Null, json!({ "PerCpuArray": { "cpus": [0, 1], "values": values } })),
            map(3, Value::Null, json!({ "Hash": { "keys": keys, "values": values } })),
            map(4, Value::Null, json!({ "PerCpuHash": { "cpus": [5], "keys": keys, "values": values } })),
            map(5, Value::Null, json!({ "Unread": { "why": LONG } })),
        ],
        "cpus": [{
            "cpu": 1, "nr_running": null, "curr_pid": -2, "curr_comm": null, "clock_ns": 3, "scx_nr_running": null,
            "local_dsq_nr": null, "scx_flags": null,
        }],
        "vcpus": [{
            "cpu": 1, "gpr": vec![0; 16], "rip": u64::MAX, "rflags": 0, "segments": [1, 2, 3, 4, 5, 6], "fs_base": 0,
            "gs_base": 0, "kernel_gs_base": 0, "cr0": 0, "cr2": 0, "cr3": 0, "cr4": 0, "efer": 9,
        }],
        "faults": [LONG], "checkpoint": 0, "pause_us": 700, "machine_us": 500,
    })
}

/// Bytes in the reader's form.
fn bytes(bytes: &[u8]) -> Value {
    json!({ "bytes": bytes.len(), "xxh3": format!("{:032x}", xxh3_128(bytes)) })
}
