//! Verdicts on runs that look healthy and are not, or the other way round: schedulers that leave in an orderly way or
//! restart, hosts that stop the machine, interruptions, workers that hardly run.
//!
//! The runs are `#[ktstr_test(ignore, ..)]` fixtures, each of which one test drives as a child process.

use std::fs;
use std::process::ExitStatus;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_replay::trace::record::{CaptureKind, EventBody, GuestEnd, Stage};
use ktstr_tests::{Disturbed, TestRun, fixture, ktstr, run_bounded};
use rustix::process::Signal;

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// Longer than any of these runs takes, also when others boot.
const LIMIT: Duration = Duration::from_secs(600);

// It leaves when the test's program has long reached the guest, and its body has begun.
#[ktstr_test(
    ignore,
    scheduler = DEMO,
    cores = 1,
    duration_s = 12,
    checkpoint = "ends",
    attached = false,
    extra_sched_args = ["--leave-after-ms", "5000", "--exit-message", "enough"]
)]
fn leaves(_ctx: &Ctx) -> Result<AssertResult> {
    wait_until_gone()
}

#[ktstr_test(
    ignore,
    scheduler = DEMO,
    cores = 1,
    duration_s = 12,
    checkpoint = "ends",
    expect_scx_exit = "UNREG_BPF",
    attached = false,
    extra_sched_args = ["--leave-after-ms", "5000"]
)]
fn leaves_as_expected(ctx: &Ctx) -> Result<AssertResult> {
    // This one notices by itself that it cannot go on.
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

#[ktstr_test(ignore, scheduler = DEMO, cores = 1, duration_s = 1, checkpoint = "ends", expect_scx_exit = "UNREG_BPF")]
fn stays_although_expected_to_leave(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

/// A body that notices nothing: it returns Ok after the scheduler is gone.
fn wait_until_gone() -> Result<AssertResult> {
    let begin = Instant::now();
    while fs::read_to_string("/sys/kernel/sched_ext/state")?.trim() == "enabled" {
        if begin.elapsed() > Duration::from_secs(30) {
            bail!("the scheduler is still enabled");
        }
        sleep(Duration::from_millis(20));
    }
    sleep(Duration::from_millis(300));
    Ok(AssertResult::pass())
}

#[ktstr_test(ignore, scheduler = DEMO, cores = 3, duration_s = 4, num_snapshots = 4, extra_sched_args = ["--restart"])]
fn restarts(ctx: &Ctx) -> Result<AssertResult> {
    unplug_meanwhile(ctx)
}

#[ktstr_test(
    ignore,
    scheduler = DEMO,
    cores = 3,
    duration_s = 4,
    num_snapshots = 4,
    allow_restarts,
    extra_sched_args = ["--restart"]
)]
fn restarts_as_allowed(ctx: &Ctx) -> Result<AssertResult> {
    unplug_meanwhile(ctx)
}

/// The kernel ends a scheduler that does not handle CPU hotplug, and asks for a restart.
fn unplug_meanwhile(ctx: &Ctx) -> Result<AssertResult> {
    std::thread::scope(|scope| {
        let unplug = scope.spawn(|| {
            sleep(Duration::from_millis(1000));
            fs::write("/sys/devices/system/cpu/cpu1/online", "0")
        });
        let result = execute_defs(ctx, vec![ctx.cgroup_def("cg_0")]);
        unplug.join().expect("no panic").context("taking CPU 1 offline")?;
        result
    })
}

#[ktstr_test(ignore, scheduler = DEMO, cores = 1, duration_s = 1, checkpoint = "ends", expect_err)]
fn errs_beside_a_healthy_scheduler(_ctx: &Ctx) -> Result<AssertResult> {
    bail!("a slip of the author's")
}

#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 4,
    num_snapshots = 1,
    not_starved,
    extra_sched_args = ["--starve", "cg_1", "--starve-ms", "500"]
)]
fn is_served_a_little(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(
        ctx,
        vec![CgroupDef::named("cg_0").workers(1), CgroupDef::named("cg_1").workers(1).comm("hungry")],
    )
}

/// Of the limits over workers, the one over CPU time alone; and the columns of the views as claims.
#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 4,
    num_snapshots = 1,
    min_share_pct = 40,
    claims = [
        "each(count(tasks where comm == hungry) == 2)",
        "each(count(tasks where comm == hungry and cgroup == /cg_1 and class == ext) == 2)",
        "max(tasks.runnable_ms where comm == hungry) in 50..4000",
        "each(sum(tasks.cpu_ms where comm == hungry) < 500)",
        "each(dsqs[0x1].nr in 1..=2)",
        "each(dsqs[0x1].waits_ms >= 50)",
        "each(cgroups[/cg_0].cpu_ms >= 500)",
        "each(cgroups[/cg_1].cpu_ms < 500)",
        "each(cgroups[/cg_1].tasks == 2)",
    ],
    extra_sched_args = ["--starve", "cg_1", "--starve-ms", "500"]
)]
fn starves_two(ctx: &Ctx) -> Result<AssertResult> {
    shares(ctx)
}

/// The same workers, and nobody is starved.
#[ktstr_test(ignore, scheduler = DEMO, duration_s = 2, num_snapshots = 1, checkpoint = "ends", min_share_pct = 40)]
fn starves_nobody(ctx: &Ctx) -> Result<AssertResult> {
    shares(ctx)
}

fn shares(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(
        ctx,
        vec![CgroupDef::named("cg_0").workers(1), CgroupDef::named("cg_1").workers(2).comm("hungry")],
    )
}

#[ktstr_test(ignore, scheduler = DEMO, duration_s = 2, checkpoint = "ends", not_starved, max_gap_ms = 1)]
fn is_held_to_a_millisecond(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![CgroupDef::named("cg_0").workers(4)])
}

#[ktstr_test(
    ignore,
    scheduler = DEMO,
    cores = 1,
    duration_s = 14,
    num_snapshots = 4,
    checkpoint = "ends",
    expect_err,
    expect_scx_error_contains = "runnable task stall"
)]
fn is_healthy_for_long(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

/// The claim of a rate that nobody reaches.
const UNREACHED: &str = "rate(nr_dispatched) >= 1000000 per ms";

/// Judged by the clock: a gap that only a host makes, and a rate that nobody reaches. The last claim is not of time.
#[ktstr_test(
    ignore,
    scheduler = DEMO,
    cores = 1,
    duration_s = 14,
    num_snapshots = 4,
    checkpoint = "ends",
    max_gap_ms = 3000,
    claims = ["rate(nr_dispatched) >= 1000000 per ms", "eventually(nr_dispatched >= 1)"]
)]
fn is_judged_by_the_clock(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

/// The same, and the claim that nobody keeps would end the run.
#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 14,
    num_snapshots = 4,
    checkpoint = "ends",
    fail_fast,
    claims = ["rate(nr_dispatched) >= 1000000 per ms"]
)]
fn is_judged_by_the_clock_and_fails_fast(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

/// What a kernel says that ran into a breakpoint which is gone, and the panic that follows.
#[ktstr_test(ignore, cores = 1, duration_s = 3, checkpoint = "never")]
fn dies_of_a_stale_breakpoint(_ctx: &Ctx) -> Result<AssertResult> {
    fs::write("/dev/kmsg", "<1>Oops: int3: 0000 [#1] SMP NOPTI").context("writing to the kernel's log")?;
    fs::write("/proc/sysrq-trigger", "c").context("asking the kernel to crash")?;
    bail!("the kernel did not crash")
}

fn first_line(run: &TestRun) -> String {
    run.report().lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_scheduler_that_leaves_in_an_orderly_way_fails_the_test() {
    let run = fixture("leaves").run();
    assert!(!run.status.success(), "{run}");
    run.assert_replays();
    let line = first_line(&run);
    assert!(line.contains("demo left at") && line.contains("SCX_EXIT_UNREG_BPF"), "{run}");
    assert!(line.contains("enough") && line.contains("exit code 7"), "{run}");
    // The run went on to its end, which is captured, too.
    assert_eq!(run.sample(CaptureKind::End).missed, None, "{run}");
}

#[test]
fn the_exit_that_is_expected_passes_and_its_absence_fails() {
    let run = fixture("leaves_as_expected").run();
    assert!(run.status.success(), "{run}");
    run.assert_replays();
    assert!(run.report().contains("SCX_EXIT_UNREG_BPF (65)"), "{run}");
    let stays = fixture("stays_although_expected_to_leave").run();
    assert!(!stays.status.success(), "{stays}");
    assert!(first_line(&stays).contains("was to exit with UNREG_BPF"), "{stays}");
}

#[test]
fn a_restart_is_told_with_its_times_and_fails_unless_it_is_allowed() {
    for (name, passes) in [("restarts", false), ("restarts_as_allowed", true)] {
        let run = fixture(name).run();
        assert_eq!(run.status.success(), passes, "{run}");
        run.assert_replays();
        let finding = if passes {
            run.report()
                .lines()
                .find(|line| line.starts_with("ok    scheduler"))
                .unwrap_or_default()
                .to_owned()
        } else {
            run.section("scheduler").replace("\n        ", " ")
        };
        for part in ["demo restarted at", "back at", "SCX_EXIT_UNREG_KERN", "cpu 1 going offline"] {
            assert!(finding.contains(part), "no `{part}` in:\n{finding}\n{run}");
        }
        // The line of a finding that holds is cut before it.
        assert!(passes || finding.contains("it is to be started again"), "{finding}\n{run}");
        assert_eq!(finding.contains("restarts are not allowed"), !passes, "{run}");
        shows_cpu_1_as_offline(&run);
    }
}

/// The CPU that was taken offline is shown as that, and every way to ask for its runqueue says so.
fn shows_cpu_1_as_offline(run: &TestRun) {
    let printed = |args: &[&str]| {
        let ended = run_bounded(ktstr().arg("replay").arg(run.trace_path()).args(args), LIMIT);
        assert!(ended.status.success(), "{ended}");
        ended.stdout.clone()
    };
    let views = printed(&["--at", "end", "--runqueues", "--dsqs", "--cpu-time", "--stacks"]);
    let shown: Vec<&str> = views.lines().map(str::trim).filter(|line| line.contains("offline")).collect();
    for part in
        ["1  offline", "local CPU 1 (offline)", "1 (offline)", "swapper/1 (R) on CPU 1, which is offline"]
    {
        assert!(shown.iter().any(|line| line.contains(part)), "no `{part}` in {shown:#?}\n{run}");
    }
    for path in [
        "rq[1].nr_running",
        "rq[1].nr_switches",
        "runqueues[1].nr",
        "kernel.runqueues.cpu(1).nr_switches",
        "kernel.(struct rq)runqueues.cpu(1).curr->pid",
    ] {
        let values = printed(&["--var", path]);
        let row =
            |tag: &str| values.lines().find(|line| line.starts_with(tag)).unwrap_or_default().to_owned();
        assert!(row("end").contains("is offline") && !row("attach").contains("offline"), "{path}:\n{values}");
    }
}

#[test]
fn an_error_of_the_body_is_not_the_failure_that_is_expected() {
    let run = fixture("errs_beside_a_healthy_scheduler").run();
    assert!(!run.status.success(), "{run}");
    run.assert_replays();
    assert!(run.report().contains("a slip of the author's"), "{run}");
}

#[test]
fn a_worker_that_gets_a_fraction_of_its_share_is_starved() {
    let run = fixture("is_served_a_little").run_undisturbed();
    assert!(!run.status.success(), "{run}");
    run.assert_replays();
    let finding = run.section("not_starved");
    assert!(finding.contains("worker cg_1/0") && finding.contains("of its even share"), "{run}");
    assert!(!finding.contains("cg_0"), "the worker that was served is blamed:\n{run}");
    // Its name is the one that was asked for.
    let at = ["replay", "--at", "periodic_000", "--tasks"];
    let tasks = run_bounded(ktstr().args(at).arg(run.trace_path()), LIMIT);
    assert!(tasks.status.success(), "{tasks}");
    let named = tasks.stdout.lines().filter(|line| line.split_whitespace().any(|word| word == "hungry"));
    assert_eq!(named.count(), 1, "{tasks}");
}

#[test]
fn two_that_are_starved_are_judged_by_their_share_alone_and_columns_are_claims() {
    let run = fixture("starves_two").run_undisturbed();
    assert!(!run.status.success(), "{run}");
    run.assert_replays();
    let finding = run.section("min_share_pct");
    for worker in ["worker cg_1/0", "worker cg_1/1"] {
        let line = finding.split(worker).nth(1).unwrap_or_else(|| panic!("{worker} is not named:\n{run}"));
        let words: Vec<&str> = line.split_whitespace().collect();
        let line = words.join(" ");
        // At most a quarter of two CPUs' thirds, and it waited for most of the four seconds.
        let part = line.split_once("% of its even share of ").map(|(before, _)| before);
        let part = part.and_then(|before| before.rsplit_once(' ')?.1.parse::<u32>().ok());
        assert!(part.is_some_and(|part| part < 25), "{line}\n{run}");
        let waited = line
            .split_once("runnable without running for ")
            .and_then(|(_, rest)| rest.split_once('s')?.0.parse::<f64>().ok());
        assert!(waited.is_some_and(|waited| waited > 2.0), "{line}\n{run}");
    }
    assert!(!finding.contains("cg_0") && !finding.contains("made no turn"), "{run}");
    let report = run.report();
    // That limit is all that fails: each claim of columns holds, of what the scheduler did.
    let failed: Vec<&str> = report.lines().filter(|line| line.starts_with("FAIL  ")).collect();
    assert_eq!(failed, ["FAIL  min_share_pct"], "{run}");
    let held = report.lines().filter(|line| {
        line.starts_with("ok ") && ["tasks", "dsqs[", "cgroups["].iter().any(|table| line.contains(table))
    });
    assert_eq!(held.count(), 9, "{run}");
    // And the opposite of each fails, of the same file.
    for claim in [
        "each(count(tasks where comm == hungry) == 3)",
        "each(count(tasks where comm == hungry and class == fair) == 2)",
        "max(tasks.runnable_ms where comm == hungry) < 50",
        "each(sum(tasks.cpu_ms where comm == hungry) >= 500)",
        "each(dsqs[0x1].nr == 0)",
        "each(dsqs[0x1].waits_ms < 50)",
        "each(cgroups[/cg_0].cpu_ms < 500)",
        "each(cgroups[/cg_1].cpu_ms >= 500)",
        "each(cgroups[/cg_1].tasks == 1)",
    ] {
        let judged =
            run_bounded(ktstr().arg("replay").arg(run.trace_path()).args(["--assert", claim]), LIMIT);
        let fails = |line: &str| line.starts_with("FAIL  ") && line.contains(claim);
        assert!(judged.status.code() == Some(1) && judged.stdout.lines().any(fails), "{claim}: {judged}");
    }
}

#[test]
fn those_that_share_evenly_keep_the_limit_and_the_worst_of_them_is_told() {
    let run = fixture("starves_nobody").run_undisturbed();
    assert!(run.status.success(), "{run}");
    run.assert_replays();
    let report = run.report();
    let line = report.lines().find(|line| line.starts_with("ok    min_share_pct")).unwrap_or_default();
    let least =
        line.split_once("least CPU time ").and_then(|(_, rest)| rest.split_once('%')?.0.parse::<u32>().ok());
    assert!(least.is_some_and(|least| least >= 40), "{line}\n{run}");
}

#[test]
fn a_limit_that_is_set_takes_the_place_of_the_default() {
    let run = fixture("is_held_to_a_millisecond").run();
    assert!(!run.status.success(), "four workers on two CPUs wait for each other:\n{run}");
    assert!(run.section("not_starved").contains("at most 1ms are allowed"), "{run}");
}

/// How long the host stops a machine for.
const STOPPED: Duration = Duration::from_secs(8);

/// Runs a fixture, and stops its machine for a while after its first periodic capture.
fn stopped_for_a_while(name: &str) -> (ExitStatus, Trace, String) {
    let run = Disturbed::start(name, &[]);
    let is_periodic = |trace: &Trace| trace.samples().flatten().any(|s| s.kind == CaptureKind::Periodic);
    run.wait_until("a periodic capture", || run.trace().is_some_and(|trace| is_periodic(&trace)));
    run.signal_emulator(Signal::STOP);
    sleep(STOPPED);
    run.signal_emulator(Signal::CONT);
    let (status, trace, report) = run.end();
    let gaps = trace.host_gaps();
    // Told by the state of its process, or, where a capture waits for it to stop, by its accounts.
    assert!(gaps.iter().any(|gap| gap.ns() >= 7_000_000_000), "{gaps:?}");
    let words: Vec<&str> = report.split_whitespace().collect();
    assert!(words.join(" ").contains("in which the host did not run the machine"), "{report}");
    (status, trace, report)
}

#[test]
fn a_machine_that_the_host_stops_is_neither_a_failure_nor_the_expected_one() {
    let (status, _, report) = stopped_for_a_while("is_healthy_for_long");
    assert!(!status.success(), "{report}");
    assert!(report.starts_with("INCONCLUSIVE"), "{report}");
}

/// For how long the host did not run a machine, in s, by what the recorder told.
fn withheld_s(trace: &Trace) -> u64 {
    trace.host_gaps().iter().map(|gap| gap.ns()).sum::<u64>() / 1_000_000_000
}

#[test]
fn a_boot_that_the_host_never_runs_is_neither_a_failure_nor_the_expected_one() {
    for name in ["leaves", "errs_beside_a_healthy_scheduler"] {
        let run = Disturbed::start(name, &[("KTSTR_COLD", "1"), ("KTSTR_BOOT_TIMEOUT_S", "2")]);
        run.wait_until_it_boots();
        run.signal_emulator(Signal::STOP);
        // Nobody lets it go on: the bound of its limit ends it.
        let (status, trace, report) = run.end();
        assert!(!status.success() && report.starts_with("INCONCLUSIVE"), "{name}: {report}");
        let words = report.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("init was not ready within 2 s, and the host did not run it for"), "{report}");
        assert!(words.contains("in which the host did not run the machine"), "{report}");
        assert!(outcomes(&report, "FAIL").is_empty(), "{report}");
        assert!(withheld_s(&trace) >= 15, "{:?}", trace.host_gaps());
    }
}

#[test]
fn a_boot_that_the_host_stops_for_longer_than_its_limit_comes_up() {
    let run = Disturbed::start("stays_although_expected_to_leave", &[("KTSTR_COLD", "1")]);
    run.wait_until_it_boots();
    run.signal_emulator(Signal::STOP);
    sleep(Duration::from_secs(33));
    run.signal_emulator(Signal::CONT);
    let (_, trace, report) = run.end();
    let reached = |wanted: Stage| {
        trace
            .events()
            .iter()
            .any(|event| matches!(&event.body, EventBody::Stage { stage, .. } if *stage == wanted))
    };
    assert!(reached(Stage::BodyEnded) && !reached(Stage::StartRetried), "{report}");
}

#[test]
fn a_claim_that_a_gap_can_explain_ends_no_run() {
    // The rate has no second value before the host stops the machine.
    let (status, trace, report) = stopped_for_a_while("is_judged_by_the_clock_and_fails_fast");
    assert!(!status.success() && report.starts_with("INCONCLUSIVE"), "{report}");
    let end = trace.events().into_iter().rev().find_map(|event| match event.body {
        EventBody::End { end, .. } => Some(end),
        _ => None,
    });
    assert_eq!(end, Some(GuestEnd::PoweredOff), "{report}");
    assert!(outcomes(&report, "FAIL").is_empty(), "{report}");
}

#[test]
fn verdicts_by_the_clock_are_those_of_the_claims_where_the_host_left_the_machine_alone() {
    // The claim that nobody reaches fails, and nothing else; unless the host was too busy to leave it alone.
    let run = fixture("is_judged_by_the_clock").run();
    assert!(!run.status.success(), "{run}");
    let was_stopped = !run.trace().host_gaps().is_empty();
    let report = run.report();
    match was_stopped {
        true => assert!(outcomes(&report, "????").iter().any(|one| one == UNREACHED), "{run}"),
        false => {
            assert_eq!(outcomes(&report, "FAIL"), [UNREACHED], "{run}");
            assert!(outcomes(&report, "????").is_empty() && report.contains("ok    max_gap_ms"), "{run}");
        }
    }
}

#[test]
fn verdicts_by_the_clock_are_none_where_the_host_stopped_the_machine() {
    // Without an error that is expected, too, nothing of it is a failure: neither the stall, if the watchdog saw one, nor the workers' gap.
    let (status, _, report) = stopped_for_a_while("is_judged_by_the_clock");
    assert!(!status.success() && report.starts_with("INCONCLUSIVE"), "{report}");
    assert!(outcomes(&report, "FAIL").is_empty(), "{report}");
    let open = outcomes(&report, "????");
    for what in [UNREACHED, "max_gap_ms"] {
        assert!(open.iter().any(|one| one == what), "{what}: {open:?}\n{report}");
    }
    // The captures that were due meanwhile were taken one after the other, and not of one moment.
    assert!(!report.contains("goes back") && !report.contains("of one moment"), "{report}");
    // What does not depend on time is judged as ever.
    let holds = |line: &str| line.starts_with("ok ") && line.contains("eventually(nr_dispatched >= 1)");
    assert!(report.lines().any(holds), "{report}");
}

/// What has this outcome in a report.
fn outcomes(report: &str, outcome: &str) -> Vec<String> {
    let findings = report.lines().skip(1).filter_map(|line| line.strip_prefix(outcome)?.strip_prefix(' '));
    findings.map(|what| what.trim().to_owned()).collect()
}

#[test]
fn a_run_that_the_emulator_failed_in_is_made_once_more_and_never_fails() {
    let run = fixture("dies_of_a_stale_breakpoint").run();
    assert!(!run.status.success() && run.stdout.contains("the test is run once more"), "{run}");
    assert!(run.stdout.contains("INCONCLUSIVE dies_of_a_stale_breakpoint"), "{run}");
    assert_eq!(run.results().len(), 2, "{run}");
    assert!(!run.stdout.contains("FAIL dies"), "{run}");
    // Its lines are cut to a width.
    let words = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = words.matches("the emulator failed in the first").count();
    assert_eq!(said, 1, "only the second says so:\n{run}");
}

#[test]
fn an_interruption_of_the_start_is_inconclusive_with_and_without_an_expected_error() {
    for name in ["leaves", "errs_beside_a_healthy_scheduler"] {
        let is_interrupted = |_: &u32| {
            let run = Disturbed::start(name, &[]);
            // The machine is up and its trace is begun; the scheduler is being loaded.
            run.wait_until("a trace", || run.trace().is_some_and(|trace| !trace.records().is_empty()));
            run.signal(Signal::INT);
            let (_, trace, report) = run.end();
            // A body takes no time here, so that a test which the host did not let look may be too late for it.
            let is_over = |body: &EventBody| matches!(body, EventBody::Body { .. });
            if trace.events().iter().any(|event| is_over(&event.body)) {
                println!("{name} was over before it was interrupted: once more");
                return false;
            }
            assert!(report.starts_with("INCONCLUSIVE") && report.contains("interrupted"), "{name}: {report}");
            true
        };
        assert!((0..10).any(|nth| is_interrupted(&nth)), "{name} was never interrupted");
    }
}
