//! Frozen types stay where they are: the bytes of an example of each, by their hash.
//!
//! A failure here means that files of earlier releases would be misread. Undo the change and make a new version of the
//! type beside the old one. The hashes here are those of format 1.0; from now on none of them changes, and only a type that
//! no release has written yet gets a new one.

use std::mem::{align_of, size_of};

use ktstr_replay::memory::LeftOut;
use ktstr_replay::trace::Body;
use ktstr_replay::trace::record::blob::BlobV1;
use ktstr_replay::trace::record::event::{
    EventBodyV1, EventChunkV1, EventV1, GuestEndV1, LatenciesV1, NodePagesV1, OutputSourceV1, StageV1,
    StatsAnswerV1, WorkerDetailV1, WorkerReportV1,
};
use ktstr_replay::trace::record::history::{HistoryStepV1, HistoryTaskV1, HistoryV1, HistoryWhatV1};
use ktstr_replay::trace::record::memory::{CheckpointV1, PageChunkV1, PageRunV1, PageStateV1, RamRangeV1};
use ktstr_replay::trace::record::payload::{
    DeclaredMetricV1, MetricCheckV1, MetricV1, PayloadEndV1, PayloadOutputV1, PayloadRunV1, PolarityV1,
};
use ktstr_replay::trace::record::probe::{
    ProbeEventV1, ProbeHitV1, ProbeNewsV1, ProbeReturnV1, ProbeTotalsV1, ProbeValueV1,
};
use ktstr_replay::trace::record::sample::{
    CaptureKindV1, CpuStateV1, MapContentsV1, MapStateV1, SampleV1, ScxStateV1, VcpuRegsV1,
};
use ktstr_replay::trace::record::scheduler_maps::SchedulerMapsV1;
use ktstr_replay::trace::record::small::{
    ClaimOriginV1, ClaimV1, ClockV1, CommitV1, IndexEntryV1, IndexV1, LossKindV1, LossV1,
};
use ktstr_replay::trace::record::wait::{LongWaitV1, WaitLimitV1};
use ktstr_replay::trace::record::watch::{WatchEventV1, WatchFireV1, WatchNewsV1, WatchTotalsV1};
use ktstr_replay::trace::record::{BlobRole, PageId};
use ktstr_replay::units::{Cpu, GuestNs, HostNs};
use rkyv::Archived;
use xxhash_rust::xxh3::xxh3_64;

/// Name, hash of the archived example, size and alignment of the archived type.
type Frozen = (&'static str, u64, usize, usize);

fn frozen<B: Body + rkyv::Archive + PartialEq + std::fmt::Debug>(name: &'static str, example: &B) -> Frozen {
    let bytes = example.encode().unwrap();
    assert_eq!(&B::decode(B::VERSION, &bytes).unwrap(), example);
    (name, xxh3_64(&bytes), size_of::<Archived<B>>(), align_of::<Archived<B>>())
}

fn event_bodies() -> Vec<EventBodyV1> {
    use EventBodyV1::*;
    let mut bodies = vec![
        Console(b"console".to_vec()),
        Kmsg { level: 3, sequence: 4, kernel_ns: 5, text: "a line of the kernel".to_owned() },
        Output { source: OutputSourceV1::Scheduler, stderr: true, bytes: b"out".to_vec() },
        Output { source: OutputSourceV1::Test, stderr: false, bytes: Vec::new() },
        Output { source: OutputSourceV1::Init, stderr: false, bytes: vec![1] },
        PhaseBegin { index: 1, name: "steady".to_owned() },
        PhaseEnd { index: 1 },
        Op { name: "add_cgroup".to_owned(), detail: "cg_0".to_owned() },
        Worker(WorkerReportV1 {
            index: 1,
            pid: 2,
            cgroup: "cg_0".to_owned(),
            work: "SpinWait".to_owned(),
            work_units: 3,
            iterations: 4,
            cpu_ns: 5,
            wall_ns: 6,
            max_gap_ns: 7,
            max_gap_at_ns: 8,
            run_delay_ns: 9,
            migrations: 10,
            cpus_used: vec![Cpu(0), Cpu(3)],
            fault: Some("killed by signal 9".to_owned()),
        }),
        Body { error: Some("no".to_owned()), failures: vec!["a".to_owned(), "a longer failure".to_owned()] },
    ];
    for stage in [
        StageV1::Booting,
        StageV1::Restored,
        StageV1::Ready,
        StageV1::JobUnpacked,
        StageV1::SchedulerStarted,
        StageV1::SchedulerEnabled,
        StageV1::SchedulerExited,
        StageV1::BodyStarted,
        StageV1::BodyEnded,
        StageV1::TestExited,
        StageV1::PoweringOff,
        StageV1::StartRetried,
        StageV1::InitFailed,
        StageV1::SchedulerRestarted,
    ] {
        bodies.push(Stage { stage, detail: "detail".to_owned() });
    }
    for end in [
        GuestEndV1::PoweredOff,
        GuestEndV1::Panicked,
        GuestEndV1::Reset,
        GuestEndV1::TimedOut,
        GuestEndV1::MachineDied,
        GuestEndV1::Interrupted,
        GuestEndV1::FailedFast,
    ] {
        bodies.push(End { end, detail: String::new() });
    }
    bodies
}

/// Those that no release had at first. They may not make events larger than they were.
fn later_event_bodies() -> Vec<EventBodyV1> {
    let latencies =
        |of| LatenciesV1 { total: 3 * of, sum_ns: 4 * of, max_ns: 2 * of, samples_ns: vec![of, 2 * of] };
    vec![EventBodyV1::WorkerDetail(Box::new(WorkerDetailV1 {
        pid: 2,
        policy: "Fifo(10)".to_owned(),
        is_thread: true,
        max_off_cpu_ns: 3,
        minor_faults: 4,
        major_faults: 5,
        voluntary_switches: 6,
        involuntary_switches: 7,
        wakes: latencies(8),
        timers: latencies(9),
        node_pages: vec![NodePagesV1 { node: 1, pages: 10 }],
        cross_node_migrations: Some(11),
    }))]
}

fn stats_bodies() -> Vec<EventBodyV1> {
    let answer = |fault: Option<&str>| {
        EventBodyV1::Stats(Box::new(StatsAnswerV1 {
            sample: 1,
            target: "top".to_owned(),
            asked_ns: GuestNs(2),
            line: b"{\"errno\":0}".to_vec(),
            fault: fault.map(str::to_owned),
        }))
    };
    vec![answer(None), answer(Some("no answer came"))]
}

/// Those of payloads, of which no release had any at first either.
fn payload_bodies() -> Vec<EventBodyV1> {
    let ends = [
        PayloadEndV1::NotStarted,
        PayloadEndV1::Ended,
        PayloadEndV1::TimedOut,
        PayloadEndV1::Stopped,
        PayloadEndV1::Lost,
    ];
    let metric =
        |polarity| DeclaredMetricV1 { path: "read.iops".to_owned(), polarity, unit: "iops".to_owned() };
    let path = || "read.iops".to_owned();
    let run = |(i, end)| PayloadRunV1 {
        name: "fio".to_owned(),
        program: "/usr/bin/fio".to_owned(),
        package: "fio_3.39-1_amd64.deb".to_owned(),
        args: vec!["--output-format=json".to_owned()],
        cgroup: "cg_0".to_owned(),
        pid: 2,
        began_ns: 3,
        wall_ns: 4,
        cpu_ns: 5,
        timeout_ns: 6,
        end,
        exit_code: Some(-7),
        signal: Some(8),
        fault: Some("no".to_owned()),
        output: if i == 0 { PayloadOutputV1::ExitCode } else { PayloadOutputV1::Json },
        stdout_bytes: 9,
        stderr_bytes: 10,
        stdout_tail: "out".to_owned(),
        stderr_tail: "a longer text".to_owned(),
        metrics: vec![MetricV1 { path: path(), value: 1.5 }],
        metrics_left_out: 11,
        metrics_fault: Some("none".to_owned()),
        declared: [PolarityV1::Neutral, PolarityV1::HigherBetter, PolarityV1::LowerBetter]
            .map(metric)
            .to_vec(),
        checks: vec![
            MetricCheckV1::Min { path: path(), limit: 1.0 },
            MetricCheckV1::Max { path: path(), limit: 2.0 },
            MetricCheckV1::Range { path: path(), low: 3.0, high: 4.0 },
            MetricCheckV1::Exists { path: path() },
            MetricCheckV1::ExitCode { code: -5 },
        ],
    };
    (0..).zip(ends).map(|one| EventBodyV1::Payload(Box::new(run(one)))).collect()
}

/// Those of watches, likewise.
fn watch_bodies() -> Vec<EventBodyV1> {
    let fire = WatchFireV1 {
        number: 1,
        cpu: Cpu(2),
        rip: 3,
        place: "demo_dispatch+0x10/0x80".to_owned(),
        source: Some("main.bpf.c:12: nr++".to_owned()),
        pid: Some(4),
        comm: "worker".to_owned(),
        stack: vec!["a longer frame than fits".to_owned(), "b".to_owned()],
        old: -5,
        new: 1 << 70,
        sample: 6,
        phase: Some((7, "steady".to_owned())),
    };
    let why = || "it is a null pointer".to_owned();
    let totals = WatchTotalsV1 {
        stores: 1,
        fires: 2,
        excluded: 3,
        too_soon: 4,
        backed_off: 5,
        blind_ns: 6,
        unseen: 7,
        longest_stop_us: 8,
    };
    let news = [
        WatchNewsV1::Asked {
            when: Some("new > 1".to_owned()),
            max_fires: 64,
            min_interval_ns: 9,
            by_body: true,
        },
        WatchNewsV1::Waiting { why: why() },
        WatchNewsV1::Armed { at: 10, bytes: 8, value: -11 },
        WatchNewsV1::Disarmed { why: why() },
        WatchNewsV1::Refused { why: why() },
        WatchNewsV1::Fired(Box::new(fire)),
        WatchNewsV1::Totals(totals),
    ];
    let body =
        |what| EventBodyV1::Watch(Box::new(WatchEventV1 { watch: 1, target: "bss.x".to_owned(), what }));
    news.into_iter().map(body).collect()
}

/// Those of long waits, likewise.
fn wait_bodies() -> Vec<EventBodyV1> {
    let body = |limit, pid: Option<u32>| {
        EventBodyV1::LongWait(Box::new(LongWaitV1 {
            limit,
            limit_ns: 1,
            waited_ns: 2,
            pid,
            comm: pid.map_or_else(String::new, |_| "a long name".to_owned()),
            cpu: pid.map(Cpu),
            sample: pid,
        }))
    };
    vec![
        body(WaitLimitV1::Watchdog, Some(3)),
        body(WaitLimitV1::CheckIn, None),
        body(WaitLimitV1::Gap, Some(4)),
    ]
}

/// Those of schedulers' maps, likewise.
fn scheduler_maps_bodies() -> Vec<EventBodyV1> {
    let (scheduler, cgroup) = ("a long name".to_owned(), "/a/long/path".to_owned());
    let maps = SchedulerMapsV1 { scheduler, level: 1, cgroup, maps: vec![2, 3] };
    vec![EventBodyV1::SchedulerMaps(Box::new(maps))]
}

/// Those of the history, likewise.
fn history_bodies() -> Vec<EventBodyV1> {
    let history = HistoryV1 {
        cpu: Cpu(1),
        overwritten: 2,
        left_out: 3,
        tasks: vec![HistoryTaskV1 { pid: 4, prio: -1, comm: "worker".to_owned() }],
        names: vec!["SCX_EV_ENQ_SKIP_EXITING".to_owned()],
        first_ns: GuestNs(5),
        steps: [
            HistoryWhatV1::Switch { prev: 6, state: 256, next: 7 },
            HistoryWhatV1::Wakeup { task: 8, by: 9, to: Cpu(10), is_new: true },
            HistoryWhatV1::Migrate { task: 11, by: 12, from: Cpu(13), to: Cpu(14) },
            HistoryWhatV1::SchedExt { name: 15, by: 16, count: -17 },
        ]
        .map(|what| HistoryStepV1 { after_ns: 18, what })
        .to_vec(),
    };
    vec![EventBodyV1::History(Box::new(history))]
}

/// Those of probes, likewise.
fn probe_bodies() -> Vec<EventBodyV1> {
    let why = || "there is no function".to_owned();
    let hit = ProbeHitV1 {
        number: 1,
        cpu: Cpu(2),
        pid: Some(3),
        comm: "worker".to_owned(),
        values: vec![
            ProbeValueV1::Int(-4),
            ProbeValueV1::Pointer(5),
            ProbeValueV1::Text("a longer text than fits".to_owned()),
            ProbeValueV1::Unread { why: why() },
        ],
        caller: "enqueue_task+0x39/0x110".to_owned(),
        source: Some("main.bpf.c:12: f()".to_owned()),
    };
    let back = ProbeReturnV1 { number: 6, cpu: Cpu(7), value: Some(ProbeValueV1::Int(1 << 70)) };
    let totals = ProbeTotalsV1 {
        calls: 1,
        hits: 2,
        returns: 3,
        returns_lost: 4,
        backed_off: 5,
        blind_ns: 6,
        longest_stop_us: 7,
        stopped_us: 8,
    };
    let news = [
        ProbeNewsV1::Asked { max_hits: 9, by_body: true },
        ProbeNewsV1::Waiting { why: why() },
        ProbeNewsV1::Armed { at: 10, place: "enqueue_task_scx".to_owned(), names: vec!["p->pid".to_owned()] },
        ProbeNewsV1::Disarmed { why: why() },
        ProbeNewsV1::Refused { why: why() },
        ProbeNewsV1::Hit(Box::new(hit)),
        ProbeNewsV1::Returned(Box::new(back)),
        ProbeNewsV1::Totals(totals),
    ];
    let body =
        |what| EventBodyV1::Probe(Box::new(ProbeEventV1 { probe: 1, target: "f(p->pid)".to_owned(), what }));
    news.into_iter().map(body).collect()
}

fn map(id: u32, contents: MapContentsV1) -> MapStateV1 {
    MapStateV1 {
        id,
        name: "demo.bss".to_owned(),
        map_type: 2,
        key_size: 4,
        value_size: 8,
        max_entries: 1,
        btf: Some([9; 16]),
        key_type_id: 10,
        value_type_id: 11,
        contents,
    }
}

fn sample(kind: CaptureKindV1) -> SampleV1 {
    SampleV1 {
        index: 1,
        tag: "periodic_001".to_owned(),
        kind,
        guest_ns: GuestNs(2),
        host_ns: HostNs(3),
        phase: Some((4, "steady".to_owned())),
        missed: Some("late".to_owned()),
        scx: Some(ScxStateV1 {
            state: "enabled".to_owned(),
            ops_name: Some("demo".to_owned()),
            exit_kind: 1026,
            exit_kind_name: Some("SCX_EXIT_ERROR_STALL".to_owned()),
            exit_code: -5,
            exit_reason: Some("runnable task stall".to_owned()),
            exit_message: Some("watchdog".to_owned()),
            exit_dump: None,
            enable_seq: Some(6),
            bypass_depth: Some(-7),
            nr_rejected: Some(8),
            watchdog_timeout_ns: Some(9),
        }),
        maps: vec![
            map(1, MapContentsV1::Array { values: vec![1; 8] }),
            map(2, MapContentsV1::PerCpuArray { cpus: vec![Cpu(0), Cpu(1)], values: vec![2; 16] }),
            map(3, MapContentsV1::Hash { keys: vec![3; 4], values: vec![4; 8] }),
            map(4, MapContentsV1::PerCpuHash { cpus: vec![Cpu(0)], keys: vec![5; 4], values: vec![6; 8] }),
            map(5, MapContentsV1::Unread { why: "no reader for type 27".to_owned() }),
        ],
        cpus: vec![CpuStateV1 {
            cpu: Cpu(1),
            nr_running: Some(2),
            curr_pid: Some(-3),
            curr_comm: Some("swapper/1".to_owned()),
            clock_ns: Some(4),
            scx_nr_running: Some(5),
            local_dsq_nr: None,
            scx_flags: Some(6),
        }],
        vcpus: vec![VcpuRegsV1 {
            cpu: Cpu(1),
            gpr: std::array::from_fn(|i| i as u64),
            rip: 17,
            rflags: 18,
            segments: [19, 20, 21, 22, 23, 24],
            fs_base: 25,
            gs_base: 26,
            kernel_gs_base: 27,
            cr0: 28,
            cr2: 29,
            cr3: 30,
            cr4: 31,
            efer: 32,
        }],
        faults: vec!["map 9: freed".to_owned()],
        checkpoint: Some(33),
        pause_us: 34,
        machine_us: 35,
    }
}

#[test]
fn frozen_types_have_not_moved() {
    let chunk = |bodies: Vec<EventBodyV1>| {
        let event = |(body, i)| EventV1 { guest_ns: GuestNs(i), host_ns: HostNs(2 * i), body };
        EventChunkV1 { events: bodies.into_iter().zip(0..).map(event).collect() }
    };
    let states = LeftOut::ALL
        .map(PageStateV1::LeftOut)
        .into_iter()
        .chain([PageStateV1::Zero, PageStateV1::Stored(77)]);
    let entry = IndexEntryV1 {
        offset: 1,
        kind: 2,
        version: 3,
        flags: 4,
        segment: 12,
        sequence: 5,
        stored_len: 6,
        raw_len: 7,
        guest_ns: GuestNs(8),
        host_ns: HostNs(9),
        keys: [10, 11],
    };
    let found = [
        frozen("EventChunkV1", &chunk(event_bodies())),
        frozen("EventChunkV1 (later events)", &chunk(later_event_bodies())),
        frozen("EventChunkV1 (statistics)", &chunk(stats_bodies())),
        frozen("EventChunkV1 (payloads)", &chunk(payload_bodies())),
        frozen("EventChunkV1 (watches)", &chunk(watch_bodies())),
        frozen("EventChunkV1 (long waits)", &chunk(wait_bodies())),
        frozen("EventChunkV1 (history)", &chunk(history_bodies())),
        frozen("EventChunkV1 (probes)", &chunk(probe_bodies())),
        frozen("EventChunkV1 (maps of schedulers)", &chunk(scheduler_maps_bodies())),
        frozen("SampleV1 (attach)", &sample(CaptureKindV1::Attach)),
        frozen("SampleV1 (periodic)", &sample(CaptureKindV1::Periodic)),
        frozen("SampleV1 (on demand)", &sample(CaptureKindV1::OnDemand)),
        frozen("SampleV1 (end)", &sample(CaptureKindV1::End)),
        frozen("SampleV1 (scheduler exit)", &sample(CaptureKindV1::SchedulerExit)),
        frozen("SampleV1 (guest death)", &sample(CaptureKindV1::GuestDeath)),
        frozen("SampleV1 (watch)", &sample(CaptureKindV1::Watch)),
        frozen("SampleV1 (half watchdog)", &sample(CaptureKindV1::HalfWatchdog)),
        frozen("SampleV1 (probe)", &sample(CaptureKindV1::Probe)),
        frozen("SampleV1 (import)", &sample(CaptureKindV1::Import)),
        frozen("SampleV1 (not enabled)", &sample(CaptureKindV1::NotEnabled)),
        frozen("SampleV1 (sub-scheduler exit)", &sample(CaptureKindV1::SubSchedulerExit)),
        frozen("BlobV1 (kernel BTF)", &BlobV1::new(BlobRole::KernelBtf, vec![1, 2])),
        frozen("BlobV1 (symbols)", &BlobV1::new(BlobRole::KernelSymbols, vec![1, 2])),
        frozen("BlobV1 (vmcoreinfo)", &BlobV1::new(BlobRole::Vmcoreinfo, vec![1, 2])),
        frozen("BlobV1 (program BTF)", &BlobV1::new(BlobRole::ProgramBtf, vec![1, 2])),
        frozen("BlobV1 (kernel configuration)", &BlobV1::new(BlobRole::KernelConfig, vec![1, 2])),
        frozen(
            "CheckpointV1",
            &CheckpointV1 {
                index: 1,
                parent: Some(2),
                sample: Some(3),
                guest_ns: GuestNs(4),
                host_ns: HostNs(5),
                ram: vec![RamRangeV1 { start: 6, end: 7 }],
                runs: states.zip(0..).map(|(state, gfn)| PageRunV1 { gfn, count: 8, state }).collect(),
            },
        ),
        frozen(
            "PageChunkV1",
            &PageChunkV1 { first: 1, ids: vec![PageId([2; 16]), PageId([3; 16])], bytes: vec![4; 8192] },
        ),
        frozen("IndexV1", &IndexV1 { entries: vec![entry, entry] }),
        frozen("ClaimV1 (data)", &ClaimV1 { text: "final(x >= 1)".to_owned(), origin: ClaimOriginV1::Data }),
        frozen("ClaimV1 (closure)", &ClaimV1 { text: "steady".to_owned(), origin: ClaimOriginV1::Closure }),
        frozen("LossV1 (guest frames)", &loss(LossKindV1::GuestFrames)),
        frozen("LossV1 (capture)", &loss(LossKindV1::Capture)),
        frozen("LossV1 (pages)", &loss(LossKindV1::Pages)),
        frozen("LossV1 (write)", &loss(LossKindV1::Write)),
        frozen("LossV1 (kmsg)", &loss(LossKindV1::Kmsg)),
        frozen("LossV1 (records)", &loss(LossKindV1::Records)),
        frozen("LossV1 (watch fires)", &loss(LossKindV1::WatchFires)),
        frozen("LossV1 (probe hits)", &loss(LossKindV1::ProbeHits)),
        frozen("LossV1 (sched events)", &loss(LossKindV1::SchedEvents)),
        frozen("LossV1 (host time)", &loss(LossKindV1::HostTime)),
        frozen("ClockV1", &ClockV1 { guest_ns: GuestNs(1), host_ns: HostNs(2) }),
        frozen("CommitV1", &CommitV1 { records: 1, bytes: 2 }),
    ];
    let moved: Vec<&Frozen> = found.iter().filter(|found| !FROZEN.contains(found)).collect();
    assert!(moved.is_empty(), "moved, or not in the table: {moved:#x?}");
    assert_eq!(found.len(), FROZEN.len());
}

fn loss(kind: LossKindV1) -> LossV1 {
    LossV1 { host_ns: HostNs(1), kind, count: 2, detail: "ring full".to_owned() }
}

const FROZEN: [Frozen; 43] = [
    ("EventChunkV1", 0x59bb_e10a_cca1_cb21, 8, 4),
    ("EventChunkV1 (later events)", 0x051f_a325_9f92_2d6c, 8, 4),
    ("EventChunkV1 (statistics)", 0x6480_6919_4b5d_d091, 8, 4),
    ("EventChunkV1 (payloads)", 0x9430_75af_9c87_d7ac, 8, 4),
    ("EventChunkV1 (watches)", 0x26ed_d5e5_5309_43e1, 8, 4),
    ("EventChunkV1 (long waits)", 0xd4a2_d790_c519_f43e, 8, 4),
    ("EventChunkV1 (history)", 0x4217_627d_daa0_e81f, 8, 4),
    ("EventChunkV1 (probes)", 0x1833_a492_83a8_e136, 8, 4),
    ("EventChunkV1 (maps of schedulers)", 0x166c_ff20_0a75_82ab, 8, 4),
    ("SampleV1 (attach)", 0xcd5d_edd4_1f3a_ccc4, 288, 8),
    ("SampleV1 (periodic)", 0x9ae9_f3d0_8a04_7e65, 288, 8),
    ("SampleV1 (on demand)", 0xc6f9_d628_6b5f_8b2e, 288, 8),
    ("SampleV1 (end)", 0x0a59_6b33_e2b4_3fd0, 288, 8),
    ("SampleV1 (scheduler exit)", 0x98f0_1d2b_7ff7_d49b, 288, 8),
    ("SampleV1 (guest death)", 0x2768_fe49_5dc7_ce0e, 288, 8),
    ("SampleV1 (watch)", 0xeae8_82c2_2ddc_1427, 288, 8),
    ("SampleV1 (half watchdog)", 0xae70_07c0_a43d_adbf, 288, 8),
    ("SampleV1 (probe)", 0x279d_f647_6d0b_925e, 288, 8),
    ("SampleV1 (import)", 0xeb9a_cc9e_80d1_efa2, 288, 8),
    ("SampleV1 (not enabled)", 0xee82_3fec_eb7a_8711, 288, 8),
    ("SampleV1 (sub-scheduler exit)", 0xf5a9_9ebb_2e05_bcf2, 288, 8),
    ("BlobV1 (kernel BTF)", 0xa0af_cde4_7e1f_73e2, 28, 4),
    ("BlobV1 (symbols)", 0x0fda_2a2f_c51d_89ac, 28, 4),
    ("BlobV1 (vmcoreinfo)", 0x5036_d68f_270c_0ed3, 28, 4),
    ("BlobV1 (program BTF)", 0x8cba_f633_5468_473d, 28, 4),
    ("BlobV1 (kernel configuration)", 0x7a5a_f34b_0c50_5bf2, 28, 4),
    ("CheckpointV1", 0x9baa_852d_62b9_9337, 56, 8),
    ("PageChunkV1", 0x6b90_b000_4a0f_588f, 20, 4),
    ("IndexV1", 0x273e_ad3d_9b7a_cdeb, 8, 4),
    ("ClaimV1 (data)", 0x849c_eb61_113e_f99a, 12, 4),
    ("ClaimV1 (closure)", 0x3dd3_9b1f_7d8d_3822, 12, 4),
    ("LossV1 (guest frames)", 0xb0dc_2597_39fd_e432, 32, 8),
    ("LossV1 (capture)", 0x6d7f_3841_3e3a_5e93, 32, 8),
    ("LossV1 (pages)", 0x547e_381d_1e68_7132, 32, 8),
    ("LossV1 (write)", 0xbd79_7253_937b_8041, 32, 8),
    ("LossV1 (kmsg)", 0x45f9_3b48_1b2d_0cf8, 32, 8),
    ("LossV1 (records)", 0x3874_bc34_b765_0e27, 32, 8),
    ("LossV1 (watch fires)", 0xa2ae_a288_7fc5_dc09, 32, 8),
    ("LossV1 (probe hits)", 0xe875_6260_3de4_144f, 32, 8),
    ("LossV1 (sched events)", 0x4dba_f63e_5a52_8cb4, 32, 8),
    ("LossV1 (host time)", 0xdce0_4819_3582_fd12, 32, 8),
    ("ClockV1", 0x07ee_86c2_8144_6bef, 16, 8),
    ("CommitV1", 0x07ee_86c2_8144_6bef, 16, 8),
];
