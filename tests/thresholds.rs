//! Every threshold over one real workload: with limits that it keeps, each is measured and holds; with limits that nothing keeps, each fails
//! by its name. And a kernel that writes of a fault fails a test.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use ktstr::prelude::*;
use ktstr_tests::{cargo_ktstr, fixture, run_bounded};

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", assert = Assert::NONE.sustained_samples(1) });

/// Limits that are impossible to keep. What each of them is of is there to be measured: the same workload keeps those of `all_hold`. The one
/// over clocks is not among them: `a_tick_is_held` breaks it.
const BROKEN: [&str; 15] = [
    "max_gap_ms, max_spread_pct",
    "isolation",
    "max_throughput_cv",
    "min_work_rate",
    "min_iteration_rate",
    "max_migration_ratio",
    "max_p99_wake_latency_ns",
    "max_wake_latency_cv",
    "min_page_locality",
    "max_cross_node_migration_ratio",
    "max_imbalance_ratio",
    "max_local_dsq_depth",
    "max_fallback_rate",
    "max_keep_last_rate",
    "kernel log",
];
/// How many workers they are.
const WORKERS: usize = 20;
/// Of CPUs that each have several tasks few keep the last one: it may be broken by single captures alone, which are no breach then.
const RARE: &str = "max_keep_last_rate";
/// Those of them that are broken by so many captures in a row.
const SUSTAINED: [&str; 4] =
    ["max_imbalance_ratio", "max_local_dsq_depth", "max_fallback_rate", "max_keep_last_rate"];

#[ktstr_test(
    ignore,
    scheduler = DEMO,
    numa_nodes = 2,
    llcs = 2,
    cores = 2,
    duration_s = 6,
    num_snapshots = 6,
    isolation,
    max_gap_ms = 6000,
    max_spread_pct = 100,
    max_throughput_cv = 100,
    min_work_rate = 0.1,
    min_iteration_rate = 0.1,
    max_migration_ratio = 100,
    max_p99_wake_latency_ns = 6_000_000_000,
    max_wake_latency_cv = 100,
    min_page_locality = 0.001,
    max_cross_node_migration_ratio = 1,
    max_imbalance_ratio = 100,
    max_local_dsq_depth = 1000,
    max_fallback_rate = 1e9,
    max_keep_last_rate = 1e9,
    fail_on_stall,
    check = slopes_and_entries_of_a_map
)]
fn all_hold(ctx: &Ctx) -> Result<AssertResult> {
    measured(ctx, 1)
}

/// Every worker has an entry of its own in the scheduler's map, and what nobody does is not held against a slope in vain.
fn slopes_and_entries_of_a_map(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let captures = trace.periodic();
    let dispatched = captures.var("nr_dispatched");
    dispatched.rate(0.0..=1e6, TimeUnit::Ms, v);
    let mut beyond = Verdict::new();
    dispatched.rate(1e9.., TimeUnit::S, &mut beyond);
    claim!(v, u8::from(beyond.outcome() == Outcome::Fail))
        .eq(1)
        .because("nobody dispatches a billion times a second");
    let last = captures.snapshots().last().context("there is no periodic capture")?;
    let map = last.map("task_stats")?;
    let runs = |entry: &MapEntry<'_>| entry.get("nr_runs").and_then(|runs| runs.as_u64());
    let ran = map.filter(|entry| runs(entry).is_ok_and(|runs| runs > 0))?;
    let never = map.filter(|entry| runs(entry).is_ok_and(|runs| runs == 0))?;
    claim!(v, ran.len()).at_least(WORKERS);
    claim!(v, ran.len() + never.len()).eq(map.entries()?.len());
    claim!(v, runs(&map.max_by("nr_runs")?)?).eq(ran
        .iter()
        .filter_map(|entry| runs(entry).ok())
        .max()
        .unwrap_or_default());
    Ok(())
}

#[ktstr_test(
    ignore,
    scheduler = DEMO,
    numa_nodes = 2,
    llcs = 2,
    cores = 2,
    duration_s = 6,
    num_snapshots = 6,
    extra_sched_args = ["--local", "--misplace"],
    isolation,
    max_gap_ms = 1,
    max_spread_pct = 1,
    max_throughput_cv = 0,
    min_work_rate = 1e12,
    min_iteration_rate = 1e12,
    max_migration_ratio = 0,
    max_p99_wake_latency_ns = 1,
    max_wake_latency_cv = 0,
    min_page_locality = 1,
    max_cross_node_migration_ratio = 0,
    max_imbalance_ratio = 1,
    max_local_dsq_depth = 0,
    max_fallback_rate = 0,
    max_keep_last_rate = 0,
    sustained_samples = 2
)]
fn none_holds(ctx: &Ctx) -> Result<AssertResult> {
    fs::write("/dev/kmsg", "WARNING: CPU: 0 PID: 1 at kernel/sched/ext.c:1 written_by_a_test+0x0/0x10\n")?;
    let over = AtomicBool::new(false);
    // The scenario does not know of it, and so takes them to be on CPU 3.
    scope(|scope| {
        let frees = scope.spawn(|| {
            // How long it takes until they are there is the host's speed.
            let are_there = || {
                fs::read_to_string("/sys/fs/cgroup/strays/cgroup.procs").is_ok_and(|pids| !pids.is_empty())
            };
            while !are_there() && !over.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(20));
            }
            sleep(ctx.duration / 4);
            fs::write("/sys/fs/cgroup/strays/cpuset.cpus", "0-2")
        });
        let result = measured(ctx, 0);
        over.store(true, Ordering::Relaxed);
        let freed = frees.join().expect("no panic");
        let result = result?;
        freed.context("the cpuset of the strays")?;
        Ok(result)
    })
}

/// The memory of workers on node 1 is on the node `memory`. The rest is what it takes for every limit to be measured: workers that are woken, that migrate between nodes, that have memory, that crowd a CPU.
fn measured(ctx: &Ctx, memory: u32) -> Result<AssertResult> {
    let defs = vec![
        CgroupDef::named("crowd").workers(6).cpuset(CpusetSpec::Exact("0".parse()?)),
        CgroupDef::named("strays").workers(2).cpuset(CpusetSpec::Exact("3".parse()?)),
        // One that sleeps most of the time beside one that never does.
        CgroupDef::named("uneven").workers(1).work(WorkSpec::new(Bursty::default()).workers(1)),
        CgroupDef::named("bound").workers(2).work_type(FutexPingPong::default()).cpuset(CpusetSpec::Numa(0)),
        CgroupDef::named("pairs").workers(4).work_type(FutexPingPong::default()),
        CgroupDef::named("churn").workers(2).work_type(AffinityChurn::default()),
        CgroupDef::named("memory")
            .workers(2)
            .work_type(CachePressure::default())
            .cpuset(CpusetSpec::Numa(1))
            .mem_policy(MemPolicy::Bind([memory].into_iter().collect())),
    ];
    execute_defs(ctx, defs)
}

/// The scheduler of `all_hold`, which keeps a CPU in a tick for three captures in a row. Meanwhile the machine runs, and so do its other CPUs.
#[ktstr_test(
    ignore,
    scheduler = DEMO,
    cores = 4,
    duration_s = 8,
    num_snapshots = 12,
    checkpoint = ends,
    extra_sched_args = ["--hold-tick-ms", "1500"],
    fail_on_stall
)]
fn a_tick_is_held(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![CgroupDef::named("busy").workers(4).work_type(SpinWait)])
}

#[test]
fn limits_that_the_workload_keeps_hold() {
    let run = fixture("all_hold").run_undisturbed();
    run.assert_replays();
    run.assert_holds();
    let is_ok = run.section("fail_on_stall").split(' ').next() == Some("ok");
    assert!(is_ok || run.was_disturbed(), "{run}");
}

#[test]
fn a_cpu_that_does_not_tick_is_a_stall_that_fails() {
    let run = fixture("a_tick_is_held").run();
    assert!(!run.status.success(), "it passed:\n{run}");
    run.assert_replays();
    let held = run.claimed("eventually(nr_holds >= 1)");
    assert_eq!(held.outcome, Outcome::Pass, "no tick was held: {held:?}\n{run}");
    let section = run.section("fail_on_stall");
    // Of a clock that stood on a machine that the host did not run for a while nobody can say why it stood.
    let stopped = section.contains("the host did not run the machine");
    assert!(section.starts_with("FAIL") || stopped && section.starts_with("????"), "{run}");
    let words = section.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("the clock of CPU ") && words.contains("while it ran "), "{run}");
    assert!(words.ends_with("none allowed") || words.contains("; none allowed "), "{run}");
}

#[test]
fn limits_that_nothing_keeps_fail_by_name() {
    let run = fixture("none_holds").run();
    assert!(!run.status.success(), "it passed:\n{run}");
    run.assert_replays();
    for name in BROKEN {
        let section = run.section(name);
        // Of a failure by the clock of a machine that the host did not run for a while nobody can say whose it is.
        let stopped = section.contains("the host did not run the machine");
        let single = name == RARE && section.starts_with("ok ") && section.contains("worst of");
        assert!(
            section.starts_with("FAIL") || single || stopped && section.starts_with("????"),
            "{name} does not fail:\n{run}"
        );
        if SUSTAINED.contains(&name) {
            let words = section.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains("for fewer than 2 captures in a row"), "{name} is not sustained:\n{run}");
        }
    }
}

/// Each with its layer; the test's value goes before the scheduler's.
#[test]
fn the_limits_of_a_test_are_shown_with_where_they_come_from() {
    for (test, other, set, not_set) in [
        (
            "none_holds",
            "all_hold",
            ["max_gap_ms 1 the test", "min_page_locality 1 the test", "sustained_samples 2 the test"],
            ["min_share_pct", "fail_on_stall"],
        ),
        (
            "all_hold",
            "none_holds",
            [
                "max_gap_ms 6000 the test",
                "min_page_locality 0.001 the test",
                "sustained_samples 1 the scheduler",
            ],
            ["min_share_pct", "not_starved"],
        ),
    ] {
        let mut show = cargo_ktstr();
        show.args(["show-thresholds", test, "--package", "ktstr-tests"]);
        let ended = run_bounded(show.current_dir(env!("CARGO_MANIFEST_DIR")), Duration::from_secs(1200));
        assert!(ended.status.success(), "{ended}");
        let lines: Vec<String> =
            ended.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], format!("thresholds::{test} (demo)"), "{ended}");
        for line in set {
            assert!(lines.iter().any(|said| said == line), "no `{line}` in {ended}");
        }
        let off = lines.iter().find_map(|line| line.strip_prefix("not set: ")).expect("what is not set");
        assert!(not_set.iter().all(|name| off.contains(name)), "{ended}");
        assert!(!off.contains("max_gap_ms") && !ended.stdout.contains(other), "{ended}");
    }
}
