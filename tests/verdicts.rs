//! Verdicts on runs that look healthy and are not, or the other way round: schedulers that leave in an orderly way or
//! restart, hosts that stop the machine, interruptions, workers that hardly run.
//!
//! The runs are `#[ktstr_test(ignore, ..)]` fixtures, each of which one test drives as a child process.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_replay::trace::record::{CaptureKind, LossKind};
use ktstr_tests::{TestRun, descendants, fixture, ktstr, run_bounded};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// Longer than any of these runs takes, also when others boot.
const LIMIT: Duration = Duration::from_secs(600);
/// What the emulator's program is called.
const EMULATOR: &str = "qemu-system-x86_64";

#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 3,
    checkpoint = "ends",
    attached = false,
    extra_sched_args = ["--leave-after-ms", "1000", "--exit-message", "enough"]
)]
fn leaves(_ctx: &Ctx) -> Result<AssertResult> {
    wait_until_gone()
}

#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 3,
    checkpoint = "ends",
    expect_scx_exit = "UNREG_BPF",
    attached = false,
    extra_sched_args = ["--leave-after-ms", "1000"]
)]
fn leaves_as_expected(ctx: &Ctx) -> Result<AssertResult> {
    // This one notices by itself that it cannot go on.
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

#[ktstr_test(ignore, scheduler = DEMO, duration_s = 1, checkpoint = "ends", expect_scx_exit = "UNREG_BPF")]
fn stays_although_expected_to_leave(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

/// A body that notices nothing: it returns Ok after the scheduler is gone.
fn wait_until_gone() -> Result<AssertResult> {
    let begin = Instant::now();
    while fs::read_to_string("/sys/kernel/sched_ext/state")?.trim() == "enabled" {
        if begin.elapsed() > Duration::from_secs(10) {
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

#[ktstr_test(ignore, scheduler = DEMO, duration_s = 1, checkpoint = "ends", expect_err)]
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

#[ktstr_test(ignore, scheduler = DEMO, duration_s = 2, checkpoint = "ends", not_starved, max_gap_ms = 1)]
fn is_held_to_a_millisecond(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![CgroupDef::named("cg_0").workers(4)])
}

#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 20,
    num_snapshots = 4,
    checkpoint = "ends",
    expect_err,
    expect_scx_error_contains = "runnable task stall"
)]
fn is_healthy_for_long(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

/// What a kernel says that ran into a breakpoint which is gone, and the panic that follows.
#[ktstr_test(ignore, duration_s = 3, checkpoint = "never")]
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
    for path in ["rq[1].nr_running", "rq[1].nr_switches", "runqueues[1].nr"] {
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
    let run = fixture("is_served_a_little").run();
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
fn a_limit_that_is_set_takes_the_place_of_the_default() {
    let run = fixture("is_held_to_a_millisecond").run();
    assert!(!run.status.success(), "four workers on two CPUs wait for each other:\n{run}");
    assert!(run.section("not_starved").contains("at most 1ms are allowed"), "{run}");
}

/// A fixture's run that something is done to meanwhile.
struct Disturbed {
    child: Child,
    results: TempDir,
}

impl Disturbed {
    fn start(name: &str) -> Self {
        let (mut command, results) = fixture(name).into_parts();
        let child = spawn(&mut command);
        Self { child, results }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits until `ready`.
    fn wait_until(&self, what: &str, ready: impl Fn() -> bool) {
        let began = Instant::now();
        while !ready() {
            assert!(began.elapsed() < LIMIT, "not there after {LIMIT:?}: {what}");
            sleep(Duration::from_millis(5));
        }
    }

    fn emulator(&self) -> Option<Pid> {
        let pid = descendants(self.child.id()).pids_of(EMULATOR).first().copied()?;
        Pid::from_raw(i32::try_from(pid).ok()?)
    }

    fn trace(&self) -> Option<Trace> {
        let entry = self.results.path().read_dir().expect("results").next()?;
        Trace::open(&entry.expect("an entry").path()).ok()
    }

    /// Its end, and the report of its trace.
    fn end(mut self) -> (ExitStatus, Trace, String) {
        let status = self.child.wait().expect("waiting");
        let trace = self.trace().expect("a trace");
        let entry =
            self.results.path().read_dir().expect("results").next().expect("a trace").expect("an entry");
        let replay = run_bounded(ktstr().arg("replay").arg(entry.path()).arg("--assert"), LIMIT);
        (status, trace, replay.stdout)
    }
}

fn spawn(command: &mut Command) -> Child {
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a child")
}

#[test]
fn a_machine_that_the_host_stops_is_neither_a_failure_nor_the_expected_one() {
    let run = Disturbed::start("is_healthy_for_long");
    let is_periodic = |trace: &Trace| trace.samples().flatten().any(|s| s.kind == CaptureKind::Periodic);
    run.wait_until("a periodic capture", || run.trace().is_some_and(|trace| is_periodic(&trace)));
    let emulator = run.emulator().expect("an emulator");
    kill_process(emulator, Signal::STOP).expect("stopping it");
    sleep(Duration::from_secs(8));
    kill_process(emulator, Signal::CONT).expect("letting it go on");
    let (status, trace, report) = run.end();
    assert!(!status.success(), "{report}");
    assert!(report.starts_with("INCONCLUSIVE"), "{report}");
    let gaps: Vec<_> = trace.losses().into_iter().filter(|loss| loss.kind == LossKind::HostTime).collect();
    // Told by the state of its process, or, where a capture waits for it to stop, by its accounts.
    assert!(gaps.iter().any(|gap| gap.count >= 7_000_000_000), "{gaps:?}");
    assert!(report.contains("in which the host did not run the machine"), "{report}");
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
        let run = Disturbed::start(name);
        // The machine is up and its trace is begun; the scheduler is being loaded.
        run.wait_until("a trace", || run.trace().is_some_and(|trace| !trace.records().is_empty()));
        kill_process(run.pid(), Signal::INT).expect("interrupting it");
        let (_, trace, report) = run.end();
        assert!(report.starts_with("INCONCLUSIVE") && report.contains("interrupted"), "{name}: {report}");
        drop(trace);
    }
}
