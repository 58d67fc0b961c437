//! For each limit a trace that breaks it, one that keeps it, and one that cannot say.

use crate::judge::CheckSource;
use crate::run::Run;
use crate::testing::{BODY_MS, Guest, TraceBuilder, sample, toy_kernel, write_checkpoints};
use crate::trace::Trace;
use crate::trace::record::{
    CaptureKind, CpuState, EventBody, Latencies, Loss, LossKind, NodePages, Sample, Thresholds, WorkerDetail,
    WorkerReport,
};
use crate::units::{Cpu, HostNs};
use crate::verdict::{Finding, Origin, Outcome};

use Outcome::{Fail, Inconclusive, Pass};

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

fn findings(trace: &Trace) -> Vec<Finding> {
    let verdict = Run::load(trace).judge(None, CheckSource::Recorded);
    verdict.findings.into_iter().filter(|finding| finding.origin == Origin::Threshold).collect()
}

/// The one finding of the limits that `set` sets.
fn judged(run: TraceBuilder, set: impl FnOnce(&mut Thresholds)) -> Finding {
    let mut found = findings(&run.ended().limits(set).trace());
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

fn worker(index: u32) -> WorkerReport {
    WorkerReport {
        index,
        pid: 100 + index,
        cgroup: "cg_0".into(),
        work: "spin_wait".into(),
        work_units: 1000,
        iterations: 500,
        migrations: 5,
        cpu_ns: 2 * SECOND,
        wall_ns: 5 * SECOND,
        cpus_used: vec![Cpu(0)],
        ..WorkerReport::default()
    }
}

/// A run of these workers.
fn run_of(workers: &[WorkerReport]) -> TraceBuilder {
    workers.iter().fold(TraceBuilder::begun(), |run, report| run.worker(report.clone()))
}

/// A run of two workers, the second changed.
fn with(change: impl FnOnce(&mut WorkerReport)) -> TraceBuilder {
    let mut other = worker(1);
    change(&mut other);
    run_of(&[worker(0), other])
}

/// The outcome with the second worker changed.
fn outcome(set: fn(&mut Thresholds), change: fn(&mut WorkerReport)) -> Outcome {
    judged(with(change), set).outcome
}

#[test]
fn nothing_is_judged_that_is_not_set() {
    assert!(findings(&with(|_| {}).ended().trace()).is_empty());
    assert!(findings(&with(|_| {}).ended().limits(|_| {}).trace()).is_empty());
}

#[test]
fn without_workers_or_with_dead_ones_every_limit_over_workers_is_inconclusive() {
    let every = |limits: &mut Thresholds| {
        limits.max_throughput_cv = Some(1.0);
        limits.min_work_rate = Some(1.0);
        limits.min_iteration_rate = Some(1.0);
        limits.max_migration_ratio = Some(1.0);
        limits.max_p99_wake_latency_ns = Some(1);
        limits.max_wake_latency_cv = Some(1.0);
        limits.min_page_locality = Some(0.5);
        limits.max_cross_node_migration_ratio = Some(0.5);
        limits.isolation = true;
    };
    for (run, why) in [
        (TraceBuilder::begun(), "no worker has reported"),
        (run_of(&[WorkerReport { fault: Some("was killed".into()), ..worker(0) }]), "every worker died"),
    ] {
        let found = findings(&run.ended().limits(every).trace());
        assert_eq!(found.len(), 9);
        for finding in found {
            assert_eq!(finding.outcome, Inconclusive, "{finding:#?}");
            assert!(finding.summary == why || finding.what == "isolation", "{finding:#?}");
        }
    }
}

#[test]
fn throughput_varies_inside_a_cgroup_and_a_work_type() {
    let set: fn(&mut Thresholds) = |limits| limits.max_throughput_cv = Some(0.2);
    assert_eq!(outcome(set, |_| {}), Pass);
    let finding = judged(with(|other| other.work_units = 500), set);
    assert_eq!(finding.outcome, Fail);
    assert_eq!(
        finding.summary,
        "cgroup cg_0, 2 spin_wait workers (the slowest, worker cg_0/1 (pid 101), 100 work units/s) variation 0.333; at most \
         variation 0.2 allowed"
    );
    assert!(finding.lines.iter().any(|line| line.contains("emulated machine")), "{finding:#?}");
    // The same by the clock: half of the work in half of the time.
    let half = |other: &mut WorkerReport| (other.work_units, other.wall_ns) = (500, 5 * SECOND / 2);
    assert_eq!(outcome(set, half), Pass);
    // Others are not compared, and nobody is left.
    assert_eq!(outcome(set, |other| (other.work, other.work_units) = ("bursty".into(), 5)), Inconclusive);
    assert_eq!(outcome(set, |other| (other.cgroup, other.work_units) = ("cg_1".into(), 5)), Inconclusive);
    assert_eq!(outcome(set, |other| other.wall_ns = 0), Inconclusive);
    let idle =
        run_of(&[WorkerReport { work_units: 0, ..worker(0) }, WorkerReport { work_units: 0, ..worker(1) }]);
    assert_eq!(judged(idle, set).outcome, Inconclusive);
}

#[test]
fn workers_of_two_phases_are_not_compared() {
    let phase = |run: TraceBuilder, index, units| {
        let begin = EventBody::PhaseBegin { index, name: String::new() };
        let run = run.event(100, begin).worker(WorkerReport { work_units: units, ..worker(0) });
        run.worker(WorkerReport { work_units: units, ..worker(1) }).event(5000, EventBody::PhaseEnd { index })
    };
    let run = phase(phase(TraceBuilder::begun(), 0, 1000), 1, 10);
    assert_eq!(judged(run, |limits| limits.max_throughput_cv = Some(0.1)).outcome, Pass);
}

#[test]
fn rates_are_of_every_worker() {
    let work: fn(&mut Thresholds) = |limits| limits.min_work_rate = Some(150.0);
    let finding = judged(with(|other| other.work_units = 700), work);
    assert_eq!(
        (finding.outcome, finding.summary.as_str()),
        (Fail, "worker cg_0/1 (pid 101) 140 work units/s; at least 150 work units/s needed")
    );
    let finding = judged(with(|_| {}), work);
    assert_eq!(
        (finding.outcome, finding.summary.as_str()),
        (Pass, "worst of 2: worker cg_0/0 (pid 100) 200 work units/s; at least 150 work units/s needed")
    );
    assert_eq!(outcome(work, |other| other.wall_ns = 0), Inconclusive);
    let turns: fn(&mut Thresholds) = |limits| limits.min_iteration_rate = Some(50.0);
    assert_eq!(outcome(turns, |_| {}), Pass);
    assert_eq!(outcome(turns, |other| other.iterations = 10), Fail);
}

#[test]
fn migrations_are_counted_by_turns() {
    let set: fn(&mut Thresholds) = |limits| limits.max_migration_ratio = Some(0.05);
    assert_eq!(outcome(set, |_| {}), Pass);
    assert_eq!(outcome(set, |other| other.migrations = 50), Fail);
    assert_eq!(outcome(set, |other| other.iterations = 0), Inconclusive);
}

#[test]
fn isolation_is_staying_in_the_cpuset() {
    let run = |cpuset: Option<&str>, cpus: &[u32]| {
        let used = cpus.iter().copied().map(Cpu).collect();
        let run = TraceBuilder::begun().op(10, "add_cgroup", "cg_0");
        let run =
            cpuset.map_or_else(TraceBuilder::begun, |set| run.op(10, "set_cpuset", &format!("cg_0: {set}")));
        let run = run.op(20, "spawn", "cg_0: 1 spin_wait");
        judged(run.worker(WorkerReport { cpus_used: used, ..worker(0) }), |limits| limits.isolation = true)
    };
    assert_eq!(run(Some("0-1"), &[0, 1]).outcome, Pass);
    let finding = run(Some("0-1"), &[0, 2, 3]);
    assert_eq!(
        (finding.outcome, finding.summary.as_str()),
        (Fail, "worker cg_0/0 (pid 100) ran on CPU 2-3; the cpuset of its cgroup allows 0-1")
    );
    assert_eq!(run(None, &[0, 2]).outcome, Inconclusive);
    assert_eq!(run(Some("0-1"), &[]).outcome, Inconclusive);
    assert_eq!(run(Some("what"), &[0]).outcome, Inconclusive);
}

/// A run of workers whose wakes took so long, each of `total` measured ones.
fn woken(of: &[(&str, &[u64], u64)]) -> TraceBuilder {
    of.iter().enumerate().fold(TraceBuilder::begun(), |run, (index, (cgroup, samples_ns, total))| {
        let max_ns = samples_ns.iter().max().copied().unwrap_or_default();
        let wakes = Latencies { total: *total, sum_ns: 0, max_ns, samples_ns: samples_ns.to_vec() };
        let report = WorkerReport { cgroup: (*cgroup).into(), ..worker(index as u32) };
        run.detailed_worker(report, WorkerDetail { wakes, ..WorkerDetail::default() })
    })
}

#[test]
fn the_99th_percentile_of_wakes_is_of_a_cgroup() {
    let set: fn(&mut Thresholds) = |limits| limits.max_p99_wake_latency_ns = Some(2_000_000);
    let fast: &[u64] = &[1_000_000; 100];
    let slow: &[u64] = &[9_000_000; 100];
    assert_eq!(judged(woken(&[("cg_0", fast, 100)]), set).outcome, Pass);
    let finding = judged(woken(&[("cg_0", fast, 900), ("cg_0", slow, 100)]), set);
    assert_eq!(
        (finding.outcome, finding.summary.as_str()),
        (
            Fail,
            "cgroup cg_0, 1000 wakes (the longest, 9.000ms, of worker cg_0/1 (pid 101)) 9.000ms; at most 2.000ms allowed"
        )
    );
    // The slow sample stands for one wake of 200 only.
    assert_eq!(judged(woken(&[("cg_0", fast, 19_900), ("cg_0", slow, 100)]), set).outcome, Pass);
    // Few, none, not recorded; and none where others of the same work have some.
    assert_eq!(judged(woken(&[("cg_0", fast, 99)]), set).outcome, Inconclusive);
    assert_eq!(judged(woken(&[("cg_0", &[], 0)]), set).outcome, Inconclusive);
    assert_eq!(judged(run_of(&[worker(0)]), set).outcome, Inconclusive);
    assert_eq!(judged(woken(&[("cg_0", fast, 100), ("cg_1", &[], 0)]), set).outcome, Inconclusive);
    assert_eq!(judged(woken(&[("cg_0", fast, 100), ("cg_1", slow, 100)]), set).outcome, Fail);
}

#[test]
fn the_variation_of_wakes_is_of_a_cgroup() {
    let set: fn(&mut Thresholds) = |limits| limits.max_wake_latency_cv = Some(0.5);
    assert_eq!(judged(woken(&[("cg_0", &[10, 11], 100)]), set).outcome, Pass);
    assert_eq!(judged(woken(&[("cg_0", &[1, 100], 100)]), set).outcome, Fail);
    assert_eq!(judged(woken(&[("cg_0", &[1, 100], 5)]), set).outcome, Inconclusive);
}

/// A worker on a machine of two nodes with two CPUs each, that ran on CPU 0 and has a tenth of its pages on node `on`.
fn with_pages(cpuset: &str, topology: &str, pages: Vec<NodePages>) -> Finding {
    let run = TraceBuilder::begun().op(10, "set_cpuset", &format!("cg_0: {cpuset}"));
    let mut run = run
        .op(20, "spawn", "cg_0: 1 spin_wait")
        .detailed_worker(worker(0), WorkerDetail { node_pages: pages, ..WorkerDetail::default() });
    run.manifest.machine.topology = topology.to_owned();
    judged(run, |limits| limits.min_page_locality = Some(0.8))
}

#[test]
fn pages_are_local_on_the_nodes_of_the_cpuset() {
    let pages =
        |first, second| vec![NodePages { node: 0, pages: first }, NodePages { node: 1, pages: second }];
    let two = "2n2l2c1t";
    assert_eq!(with_pages("0-1", two, pages(90, 10)).outcome, Pass);
    let finding = with_pages("2-3", two, pages(90, 10));
    assert_eq!(
        (finding.outcome, finding.summary.as_str()),
        (Fail, "worker cg_0/0 (pid 100) 10%; at least 80% needed")
    );
    // Of all nodes, of the only node, without pages.
    assert_eq!(with_pages("1-2", two, pages(10, 90)).outcome, Inconclusive);
    assert_eq!(with_pages("0-1", "1n2l2c1t", pages(10, 0)).summary, "the machine has one NUMA node");
    assert_eq!(with_pages("0-1", two, Vec::new()).outcome, Inconclusive);
    assert_eq!(with_pages("0-1", "odd", pages(90, 10)).outcome, Inconclusive);
    // Without a cpuset, where it ran.
    let detail = WorkerDetail { node_pages: pages(10, 90), ..WorkerDetail::default() };
    let mut run = TraceBuilder::begun().detailed_worker(worker(0), detail);
    run.manifest.machine.topology = two.to_owned();
    assert_eq!(judged(run, |limits| limits.min_page_locality = Some(0.8)).outcome, Fail);
}

#[test]
fn migrations_to_another_node_are_a_part_of_all() {
    let crossing = |topology: &str, migrations, cross_node_migrations| {
        let report = WorkerReport { migrations, ..worker(0) };
        let mut run = TraceBuilder::begun()
            .detailed_worker(report, WorkerDetail { cross_node_migrations, ..WorkerDetail::default() });
        run.manifest.machine.topology = topology.to_owned();
        judged(run, |limits| limits.max_cross_node_migration_ratio = Some(0.25)).outcome
    };
    let two = "2n2l2c1t";
    assert_eq!(crossing(two, 8, Some(2)), Pass);
    assert_eq!(crossing(two, 8, Some(3)), Fail);
    assert_eq!(crossing(two, 0, Some(0)), Pass);
    assert_eq!(crossing(two, 8, None), Inconclusive);
    assert_eq!(crossing(two, 1, Some(3)), Inconclusive);
    assert_eq!(crossing("1n2l2c1t", 8, Some(0)), Inconclusive);
}

/// A run with periodic captures, half a second apart, of two CPUs as they are given.
fn captured(captures: &[[CpuState; 2]]) -> TraceBuilder {
    captures.iter().enumerate().fold(TraceBuilder::begun(), |run, (number, cpus)| {
        let at_ms = 500 * (number as i64 + 1);
        let mut sample = sample(&format!("periodic_{number:03}"), CaptureKind::Periodic, at_ms, &[1, 1, 1]);
        sample.cpus = cpus
            .iter()
            .enumerate()
            .map(|(cpu, state)| CpuState { cpu: Cpu(cpu as u32), ..state.clone() })
            .collect();
        run.sample(sample)
    })
}

fn running(count: u64) -> CpuState {
    CpuState { nr_running: Some(count), ..CpuState::default() }
}

#[test]
fn imbalance_is_between_the_runqueues_of_one_capture() {
    let set: fn(&mut Thresholds) = |limits| limits.max_imbalance_ratio = Some(2.0);
    let twice: fn(&mut Thresholds) = |limits| {
        limits.max_imbalance_ratio = Some(2.0);
        limits.sustained_samples = Some(2);
    };
    let (even, odd) = ([running(1), running(2)], [running(0), running(3)]);
    assert_eq!(judged(captured(&[even.clone(), even.clone()]), set).outcome, Pass);
    let finding = judged(captured(&[even.clone(), odd.clone()]), set);
    assert_eq!(finding.outcome, Fail);
    assert_eq!(
        finding.summary,
        "worst of 2: periodic_001 at 1.000s: 3 tasks on CPU 1 and 0 on CPU 0, each with one added: 4; at most 2 allowed"
    );
    assert_eq!(judged(captured(&[odd.clone(), even.clone(), odd.clone()]), twice).outcome, Pass);
    assert_eq!(judged(captured(&[even, odd.clone(), odd]), twice).outcome, Fail);
    assert_eq!(judged(TraceBuilder::begun(), set).outcome, Inconclusive);
    assert_eq!(judged(TraceBuilder::begun().periodic(&[1]), set).outcome, Inconclusive, "no runqueues");
}

#[test]
fn a_local_dispatch_queue_may_not_be_too_deep() {
    let set: fn(&mut Thresholds) = |limits| limits.max_local_dsq_depth = Some(3);
    let deep = |count| CpuState { local_dsq_nr: Some(count), ..running(1) };
    assert_eq!(judged(captured(&[[deep(3), deep(0)]]), set).outcome, Pass);
    let finding = judged(captured(&[[deep(0), deep(4)]]), set);
    assert_eq!(finding.outcome, Fail);
    assert!(finding.summary.contains("CPU 1 4 tasks; at most 3 tasks allowed"), "{finding:#?}");
    assert_eq!(judged(captured(&[[running(1), running(1)]]), set).outcome, Inconclusive);
}

#[test]
fn the_clock_of_a_busy_cpu_may_not_stand() {
    let set: fn(&mut Thresholds) = |limits| limits.fail_on_stall = true;
    let at = |clock_ns, pid| CpuState { clock_ns: Some(clock_ns), curr_pid: Some(pid), ..running(1) };
    let moves = |other: [CpuState; 2]| {
        let [one, two] = other;
        captured(&[[at(1, 103), one], [at(2, 103), two]])
    };
    assert_eq!(judged(moves([at(1, 104), at(2, 104)]), set).outcome, Pass);
    let finding = judged(moves([at(1, 104), at(1, 104)]), set);
    assert_eq!(finding.outcome, Fail);
    assert!(
        finding.summary.starts_with("the clock of CPU 1 stood for 0.500s, from periodic_000"),
        "{finding:#?}"
    );
    // That of an idle CPU may, and where nobody was busy nothing was seen.
    assert_eq!(judged(moves([at(1, 0), at(1, 0)]), set).outcome, Pass);
    let idle = captured(&[[at(1, 0), at(1, 0)], [at(1, 0), at(1, 0)]]);
    assert_eq!(judged(idle, set).outcome, Inconclusive);
    let twice: fn(&mut Thresholds) = |limits| {
        limits.fail_on_stall = true;
        limits.sustained_samples = Some(2);
    };
    assert_eq!(judged(moves([at(1, 104), at(1, 104)]), twice).outcome, Pass);
    let long = captured(&[[at(1, 103), at(1, 104)], [at(2, 103), at(1, 104)], [at(3, 103), at(1, 104)]]);
    assert_eq!(judged(long, twice).outcome, Fail);
}

/// The toy kernel, whose scheduler has counted so many fallbacks.
fn counted(fallbacks: u64) -> Guest {
    let (mut guest, _) = toy_kernel(0);
    let view_at = {
        let profile = guest.profile();
        let view = crate::kernel::KernelView::new(&profile, &guest.ram);
        let at = crate::kernel::scx::read_schedulers(&view).expect("sched_ext").schedulers[0].at;
        let pcpu =
            view.pointer(crate::units::KernelVirt(at.0 + guest.offset("scx_sched", "pcpu"))).expect("read");
        let stats = view.offset_of("scx_sched_pcpu", "event_stats").expect("a field");
        let event = view.offset_of("scx_event_stats", "SCX_EV_SELECT_CPU_FALLBACK").expect("a field");
        let place =
            crate::units::KernelVirt(pcpu.map_or(0, |pcpu| pcpu.0).wrapping_add(stats).wrapping_add(event));
        let cpus = view.cpus().expect("CPUs");
        cpus.place(place, cpus.possible()[0]).expect("a CPU")
    };
    guest.write_u64(view_at.0, fallbacks);
    guest
}

#[test]
fn fallbacks_are_counted_between_checkpoints() {
    let judged = |fallbacks: [u64; 2], checkpoints: usize| {
        let at = |number: u32| Sample {
            checkpoint: Some(number),
            ..sample(
                &format!("periodic_{number:03}"),
                CaptureKind::Periodic,
                1000 * (i64::from(number) + 1),
                &[1, 1, 1],
            )
        };
        let run = TraceBuilder::begun().sample(at(0)).sample(at(1)).ended().limits(|limits| {
            limits.max_fallback_rate = Some(100.0);
            limits.max_keep_last_rate = Some(1.0);
        });
        let guests = fallbacks.map(counted);
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("t.trace.zst");
        let all = [(1, 1000, &guests[0]), (2, 2000, &guests[1])];
        write_checkpoints(&run, &path, &all[..checkpoints]);
        let found = findings(&Trace::open(&path).expect("a trace"));
        assert_eq!(
            found.iter().map(|f| f.what.as_str()).collect::<Vec<_>>(),
            ["max_fallback_rate", "max_keep_last_rate"]
        );
        found
    };
    let found = judged([10, 90], 2);
    assert_eq!(found[0].outcome, Pass, "{found:#?}");
    assert!(
        found[0].summary.contains("80 SCX_EV_SELECT_CPU_FALLBACK, 80/s; at most 100/s allowed"),
        "{found:#?}"
    );
    assert_eq!(judged([10, 190], 2)[0].outcome, Fail);
    // A counter that falls, one checkpoint, none.
    assert_eq!(judged([90, 10], 2)[0].outcome, Inconclusive);
    assert_eq!(judged([10, 90], 1)[0].outcome, Inconclusive);
    assert_eq!(judged([10, 90], 0)[0].outcome, Inconclusive);
}

/// A time of `ms` in which the host did not run the machine, and which ended `end_ms` after the body's start.
fn gap(end_ms: i64, ms: u64) -> Loss {
    Loss {
        host_ns: HostNs(BODY_MS.saturating_add_signed(end_ms) * 1_000_000),
        kind: LossKind::HostTime,
        count: ms * 1_000_000,
        detail: "the emulator was stopped".to_owned(),
    }
}

#[test]
fn what_the_host_can_be_the_reason_of_is_inconclusive_and_a_worse_breach_is_not() {
    // By a body of 5 s; each change breaks the limit.
    type Case = (fn(&mut Thresholds), fn(&mut WorkerReport), fn(&mut WorkerReport));
    let cases: [Case; 5] = [
        (|l| l.min_work_rate = Some(150.0), |w| w.work_units = 500, |w| w.work_units = 10),
        (|l| l.min_iteration_rate = Some(90.0), |w| w.iterations = 300, |w| w.iterations = 10),
        (|l| l.max_gap_ms = Some(1000), |w| w.max_gap_ns = 2_500 * MS, |w| w.max_gap_ns = 4_000 * MS),
        (
            |l| l.min_share_pct = Some(80.0),
            |w| (w.cpu_ns, w.run_delay_ns) = (2_200 * MS, 2_700 * MS),
            |w| (w.cpu_ns, w.run_delay_ns) = (100 * MS, 4_800 * MS),
        ),
        (|l| l.max_spread_pct = Some(10.0), |w| w.cpu_ns = 1_000 * MS, |w| w.cpu_ns = 5 * MS),
    ];
    for (nth, (set, explained, worse)) in cases.into_iter().enumerate() {
        let of = |change: fn(&mut WorkerReport), gap: Option<Loss>| {
            // Beside two more, with which it has to share the machine's CPUs.
            let others = [worker(2), worker(3)];
            let run = others.iter().fold(with(change), |run, other| run.worker(other.clone()));
            judged(gap.into_iter().fold(run, TraceBuilder::loss), set).outcome
        };
        let during = || Some(gap(3000, if nth == 4 { 500 } else { 1000 }));
        assert_eq!([of(explained, None), of(worse, None)], [Fail, Fail], "case {nth}");
        assert_eq!([of(explained, during()), of(worse, during())], [Inconclusive, Fail], "case {nth}");
        // Before the body began.
        assert_eq!(of(explained, Some(gap(-100, 1000))), Fail, "case {nth}");
    }
}

#[test]
fn a_gap_is_as_much_as_it_is_of_a_workers_own_time() {
    // The worker of a step of 1 s.
    let rate = |limits: &mut Thresholds| limits.min_work_rate = Some(150.0);
    let of_a_step = |other: &mut WorkerReport| (other.work_units, other.wall_ns) = (50, SECOND);
    assert_eq!(judged(with(of_a_step), rate).outcome, Fail);
    assert_eq!(judged(with(of_a_step).loss(gap(3000, 400)), rate).outcome, Inconclusive);
    // In most of the body nobody could do anything.
    let longest = |limits: &mut Thresholds| limits.max_gap_ms = Some(1000);
    let idle = |other: &mut WorkerReport| other.work_units = 0;
    assert_eq!(judged(with(idle), longest).outcome, Fail);
    assert_eq!(judged(with(idle).loss(gap(3000, 1000)), longest).outcome, Fail);
    assert_eq!(judged(with(idle).loss(gap(4500, 4000)), longest).outcome, Inconclusive);
    // The recorder, which did not run either, heard of the body's begin when the gap was over.
    let waited = |other: &mut WorkerReport| other.max_gap_ns = 2_500 * MS;
    assert_eq!(judged(with(waited).loss(gap(10, 1000)), longest).outcome, Inconclusive);
}

#[test]
fn a_gap_is_no_reason_for_a_death_or_for_where_somebody_ran() {
    let dead = |worker: &mut WorkerReport| worker.fault = Some("killed by signal 11".to_owned());
    let starved = judged(with(dead).loss(gap(3000, 1000)), |limits| limits.max_gap_ms = Some(1000));
    assert_eq!(starved.outcome, Fail, "{starved:#?}");
    let run = TraceBuilder::begun()
        .op(10, "set_cpuset", "cg_0: 1")
        .op(20, "spawn", "cg_0: 1 spin_wait")
        .loss(gap(3000, 1000));
    assert_eq!(judged(run.worker(worker(0)), |limits| limits.isolation = true).outcome, Fail);
    // How evenly work is done has no bound that a gap could not break.
    let uneven = |other: &mut WorkerReport| other.work_units = 10;
    let limit = |limits: &mut Thresholds| limits.max_throughput_cv = Some(0.1);
    assert_eq!(judged(with(uneven), limit).outcome, Fail);
    assert_eq!(judged(with(uneven).loss(gap(3000, 1000)), limit).outcome, Inconclusive);
}

/// A real kernel's runqueues and counters, at the captures of a scheduler that stalls.
#[test]
fn limits_over_captures_are_measured_on_a_recorded_run() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../traces/stall.trace.zst");
    let trace = Trace::open(path.as_ref()).expect("the golden trace");
    let judged = |limits: Thresholds| {
        let mut run = Run::load(&trace);
        run.manifest.test.thresholds = Some(limits);
        let found = super::judge(&run);
        found
            .into_iter()
            .map(|finding| (finding.what.clone(), finding.outcome, finding.summary))
            .collect::<Vec<_>>()
    };
    let of = |factor: f64| Thresholds {
        max_imbalance_ratio: Some(1.0 * factor),
        max_local_dsq_depth: Some(factor as u64 - 1),
        max_fallback_rate: Some(factor - 1.0),
        max_keep_last_rate: Some(factor - 1.0),
        fail_on_stall: true,
        ..Thresholds::default()
    };
    let outcomes = |factor| -> Vec<(String, Outcome)> {
        judged(of(factor)).into_iter().map(|(what, outcome, _)| (what, outcome)).collect()
    };
    let expected = |outcomes: [Outcome; 5]| -> Vec<(String, Outcome)> {
        let names = [
            "max_imbalance_ratio",
            "max_local_dsq_depth",
            "max_fallback_rate",
            "max_keep_last_rate",
            "fail_on_stall",
        ];
        names.into_iter().map(str::to_owned).zip(outcomes).collect()
    };
    // Captures were missed, which could have broken the limits over each capture.
    let roomy = expected([Inconclusive, Inconclusive, Pass, Pass, Pass]);
    assert_eq!(outcomes(1e6), roomy, "{:#?}", judged(of(1e6)));
    // It never needed another CPU than it chose, and went on with the last task again and again. Its two runqueues were as long as
    // each other and its local queues empty, so that the missed captures still decide.
    let tight = expected([Inconclusive, Inconclusive, Pass, Fail, Pass]);
    assert_eq!(outcomes(1.0), tight, "{:#?}", judged(of(1.0)));
}
