//! However a run ends, no process, socket or file in memory stays behind, and the trace opens.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_replay::run::Run;
use ktstr_tests::{Mortal, Tree, cargo_ktstr, descendants, fixture, has_nextest, ktstr, run_bounded};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

/// Longer than a boot of the machine takes, also when others boot, and than it waits for CPUs of the host that other machines have.
const TO_START: Duration = Duration::from_secs(900);
/// Longer than it takes to clear up, and than a check may go on after its run was ended, on a host that others use.
const TO_END: Duration = Duration::from_secs(120);
/// Variable with a file that a check makes when it has begun.
const BEGUN: &str = "KTSTR_TEST_CHECK_BEGUN";
/// The trace of the test with that check.
const CHECKED_FOR_EVER: &str = "ktstr-tests.leftovers.checked_for_ever.trace.zst";
/// What the emulator's program is called.
const EMULATOR: &str = "qemu-system-x86_64";

#[ktstr_test(ignore, duration_s = 60, num_snapshots = 2)]
fn long_run(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// It is over in seconds, and once more in a second machine: for long enough that a test on a busy host sees that one.
#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 60,
    num_snapshots = 60,
    attached = false,
    extra_sched_args = ["--exit-after-ms", "5000"]
)]
fn dies(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

#[ktstr_test(host_only, ignore, duration_s = 1, check = never_returns)]
fn checked_for_ever(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

fn never_returns(_trace: &Trace, _v: &mut Verdict) -> Result<()> {
    std::fs::write(std::env::var(BEGUN)?, "")?;
    loop {
        sleep(Duration::from_secs(1));
    }
}

/// It goes on for long enough that who looks for its machine sees it.
#[ktstr_test(ignore, duration_s = 5, check = panics)]
fn checked_by_a_panic(_ctx: &Ctx) -> Result<AssertResult> {
    sleep(Duration::from_secs(5));
    Ok(AssertResult::pass())
}

fn panics(_trace: &Trace, _v: &mut Verdict) -> Result<()> {
    panic!("the check fell over")
}

/// The long run, in a process group of its own.
struct LongRun {
    child: Mortal,
    seen: Tree,
    results: TempDir,
}

impl LongRun {
    /// Starts it.
    fn start() -> Self {
        let (command, results) = fixture("long_run").into_parts();
        Self::of(command, results)
    }

    /// Starts it as the child of another process, as runners do.
    fn start_by_runner() -> Self {
        let (command, results) = fixture("long_run").into_parts();
        let mut runner = Command::new("sh");
        runner.args(["-c", r#""$@" & wait"#, "sh"]).arg(command.get_program()).args(command.get_args());
        runner.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("NEXTEST", "1");
        Self::of(runner, results)
    }

    /// Starts it by the real runner.
    fn start_by_nextest() -> Self {
        let results = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("cargo");
        command.args([
            "nextest",
            "run",
            "-p",
            "ktstr-tests",
            "--test",
            "leftovers",
            "--run-ignored",
            "only",
            "long_run",
        ]);
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("KTSTR_RESULTS", results.path())
            .env_remove("KTSTR_SAY");
        Self::of(command, results)
    }

    /// Waits until its machine runs and a capture of it is in the trace.
    fn of(mut command: Command, results: TempDir) -> Self {
        let child = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut run = Self { child: Mortal(child.expect("a child")), seen: Tree::default(), results };
        let began = Instant::now();
        while !run.seen.has_program(EMULATOR) || run.trace().is_none_or(|trace| trace.sample_count() == 0) {
            let ended = run.child.0.try_wait().expect("waiting");
            assert!(ended.is_none(), "it ended before a capture: {ended:?}");
            assert!(began.elapsed() < TO_START, "no capture after {TO_START:?}: {:?}", run.seen);
            sleep(Duration::from_millis(20));
            run.seen.merge(descendants(run.child.0.id()));
        }
        run
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child.0)
    }

    /// The trace as it is now.
    fn trace(&self) -> Option<Trace> {
        let entry = self.results.path().read_dir().expect("results").next()?;
        Trace::open(&entry.expect("an entry").path()).ok()
    }
}

/// Waits until nothing of `seen` is left.
fn assert_gone(seen: &Tree) {
    let began = Instant::now();
    loop {
        let left = seen.left();
        if left.is_empty() {
            return;
        }
        assert!(began.elapsed() < TO_END, "still there after {TO_END:?}: {left:#?}");
        sleep(Duration::from_millis(20));
    }
}

/// It is closed, judged and no pass, and all that was captured before is there.
fn assert_judged(run: &LongRun) {
    let trace = run.trace().expect("the trace of an interrupted run opens");
    assert!(trace.is_finalized() && trace.sample_count() > 0, "what was captured before is lost");
    let verdict = Run::load(&trace).recorded_verdict();
    assert!(verdict.as_ref().is_some_and(|verdict| verdict.exit_code() != 0), "{verdict:?}");
}

#[test]
fn a_signal_to_all_processes_leaves_nothing_and_a_trace_that_is_judged() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut run = LongRun::start();
        // A terminal sends it to the whole group.
        kill_process_group(run.pid(), signal).expect("signalled");
        let status = run.child.0.wait().expect("waiting");
        assert!(!status.success(), "{signal:?}: an interrupted run passed");
        assert_gone(&run.seen);
        assert_judged(&run);
    }
}

#[test]
fn a_signal_to_nextest_alone_leaves_nothing_and_a_trace_that_is_judged() {
    if !has_nextest() {
        return;
    }
    for signal in [Signal::INT, Signal::TERM] {
        let mut run = LongRun::start_by_nextest();
        kill_process(run.pid(), signal).expect("signalled");
        let status = run.child.0.wait().expect("waiting");
        assert!(!status.success(), "{signal:?}: an interrupted run passed");
        assert_gone(&run.seen);
        assert_judged(&run);
    }
}

/// A test like those of other libraries, in the same process: it sees the end of the one that is checked for ever.
#[test]
#[ignore = "of another test, which runs it"]
fn outlives_the_check() {
    let begun = std::env::var(BEGUN).expect("what the check makes");
    let (results, began) = (Path::new(&begun).parent().expect("a folder"), Instant::now());
    while !Trace::open(&results.join(CHECKED_FOR_EVER)).is_ok_and(|trace| trace.is_finalized()) {
        assert!(began.elapsed() < TO_START, "it is not judged");
        sleep(Duration::from_millis(20));
    }
    std::fs::write(results.join("outlived"), "").expect("a file");
}

/// Signals were heeded by the recording, which was over, and the process never ended. Then it did, with all tests that were in it.
#[test]
fn a_check_that_does_not_return_is_named_and_keeps_no_signal_from_ending_its_test_alone() {
    let (mut command, results) = (Command::new(std::env::current_exe().expect("this test")), TempDir::new());
    let results = results.expect("a folder");
    let begun = results.path().join("begun");
    command.args(["--exact", "checked_for_ever", "outlives_the_check", "--ignored", "--test-threads=2"]);
    command.args(["--nocapture"]).env("KTSTR_RESULTS", results.path()).env_remove("KTSTR_SAY");
    let child = command.env(BEGUN, &begun).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = Mortal(child.expect("a child"));
    let started = Instant::now();
    while !begun.exists() {
        assert!(
            started.elapsed() < TO_START && child.0.try_wait().expect("waited").is_none(),
            "it is not checked"
        );
        sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&child.0), Signal::TERM).expect("signalled");
    let status = child.end_within(TO_END);
    let mut said = String::new();
    child.0.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
    assert!(!status.success() && said.contains("the check never_returns has not returned"), "{said}");
    assert!(results.path().join("outlived").exists(), "the other test of the process ended with it: {said}");
    let trace = results.path().join(CHECKED_FOR_EVER);
    assert!(said.contains(&format!("ktstr replay {} --assert", trace.display())), "{said}");
    // The body passed, and what is known of the check is in the verdict.
    let replayed = run_bounded(ktstr().arg("replay").arg(&trace).arg("--assert"), TO_START);
    assert_eq!(replayed.status.code(), Some(2), "{replayed}");
    assert!(replayed.stdout.contains("never_returns: it has not returned in 5 s"), "{replayed}");
}

/// The trace of the second machine stayed beside the first, and no command knew what it was.
#[test]
fn a_run_that_is_killed_while_it_is_made_to_fail_again_has_both_machines_in_its_trace_later() {
    let (mut command, results) = fixture("dies").into_parts();
    let folder = results.path().join("20261127T011152Z-1");
    command.env("KTSTR_RESULTS", &folder).env("KTSTR_AUTO_REPRO", "1").process_group(0);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = Mortal(child.expect("a child"));
    let [first, second] =
        ["", "repro."].map(|part| folder.join(format!("ktstr-tests.leftovers.dies.{part}trace.zst")));
    let started = Instant::now();
    let captured = |path: &Path| Trace::open(path).map_or(0, |trace| trace.sample_count());
    while captured(&second) == 0 {
        assert!(
            started.elapsed() < TO_START && child.0.try_wait().expect("waited").is_none(),
            "no second machine"
        );
        sleep(Duration::from_millis(20));
    }
    let seen = descendants(child.0.id());
    kill_process(Pid::from_child(&child.0), Signal::KILL).expect("killed");
    child.0.wait().expect("waiting");
    assert_gone(&seen);
    let before = captured(&second);
    assert!(before > 0, "it was removed before the kill");

    let mut next = cargo_ktstr();
    // Of no test: what is left is seen to before.
    next.args(["test", "leftovers", "--", "-E", "none()", "--no-tests", "pass"]);
    next.current_dir(env!("CARGO_MANIFEST_DIR")).env("KTSTR_RESULTS", results.path()).env_remove("KTSTR_SAY");
    let ended = run_bounded(&mut next, TO_START);
    assert!(
        ended.stderr.contains("a second machine whose process was killed is a part of it now"),
        "{ended}"
    );
    assert!(!second.exists(), "{ended}");
    let trace = Trace::open(&first).expect("a trace");
    assert!(trace.is_finalized() && trace.verify().is_clean(), "{:?}", trace.verify());
    let machine = trace.segment(1).expect("the second machine");
    assert_eq!(machine.sample_count(), before);
    let repro = machine.manifest().expect("a manifest").repro.clone().expect("what it was for");
    assert_eq!(repro.targets, ["scx_root->exit_kind"]);
    let replayed = run_bounded(ktstr().arg("replay").arg(&first).arg("--assert"), TO_START);
    assert_eq!(replayed.status.code(), Some(1), "{replayed}");
    assert!(replayed.stdout.contains("its process was killed"), "{replayed}");
}

/// The first run was over: what it came to is reported, and its trace stays as it is.
#[test]
fn ctrl_c_while_a_failure_is_made_to_come_again_keeps_the_first_run() {
    let (mut command, results) = fixture("dies").into_parts();
    let said = tempfile::NamedTempFile::new().expect("a file");
    command.env("KTSTR_AUTO_REPRO", "1").process_group(0).stderr(Stdio::null());
    let child = command.stdout(said.reopen().expect("the file")).spawn();
    let mut child = Mortal(child.expect("a child"));
    let [first, second] =
        ["", "repro."].map(|part| results.path().join(format!("ktstr-tests.leftovers.dies.{part}trace.zst")));
    let started = Instant::now();
    while Trace::open(&second).map_or(0, |trace| trace.sample_count()) == 0 {
        assert!(
            started.elapsed() < TO_START && child.0.try_wait().expect("waited").is_none(),
            "no second machine"
        );
        sleep(Duration::from_millis(20));
    }
    let seen = descendants(child.0.id());
    let before = std::fs::read(&first).expect("the first machine's trace");
    // A terminal sends it to the whole group.
    kill_process_group(Pid::from_child(&child.0), Signal::INT).expect("signalled");
    let status = child.end_within(TO_END);
    assert!(!status.success(), "a run whose scheduler died passed");
    assert_gone(&seen);
    assert!(!second.exists(), "what the second machine saw was left behind");
    assert!(std::fs::read(&first).expect("its trace") == before, "the first run's trace is another one now");
    let trace = Trace::open(&first).expect("a trace");
    assert!(trace.is_finalized() && trace.verify().is_clean() && trace.segment(1).is_none());
    let replayed = run_bounded(ktstr().arg("replay").arg(&first).arg("--assert"), TO_START);
    assert_eq!(replayed.status.code(), Some(1), "{replayed}");
    assert!(replayed.stdout.contains("SCX_EXIT_ERROR_BPF"), "{replayed}");
    let report: Vec<&str> = replayed.stdout.lines().filter(|line| !line.contains(".trace.zst")).collect();
    let said = std::fs::read_to_string(said.path()).expect("what it printed");
    assert!(said.contains(&report.join("\n")), "{said}\n--- {replayed}");
}

/// The run went on to its end, and its trace was neither closed nor judged: its report went into a pipe that nobody read.
#[test]
fn a_run_whose_runner_is_killed_is_closed_and_judged() {
    let mut run = LongRun::start_by_runner();
    kill_process(run.pid(), Signal::KILL).expect("killing");
    run.child.0.wait().expect("waiting");
    assert_gone(&run.seen);
    let trace = run.trace().expect("a trace");
    assert!(trace.is_finalized() && trace.sample_count() > 0, "it is cut off");
    let verdict = Run::load(&trace).recorded_verdict();
    assert!(verdict.as_ref().is_some_and(|verdict| verdict.exit_code() != 0), "{verdict:?}");
}

#[test]
fn a_killed_runner_leaves_nothing_and_a_trace_that_opens() {
    let mut run = LongRun::start();
    kill_process(run.pid(), Signal::KILL).expect("killing");
    run.child.0.wait().expect("waiting");
    assert_gone(&run.seen);
    let trace = run.trace().expect("the trace of a killed run opens");
    assert!(!trace.is_finalized(), "it was not killed");
    assert!(trace.sample_count() > 0, "what was captured before is lost");
}

#[test]
fn a_panic_on_the_host_leaves_nothing() {
    let (mut command, _results) = fixture("checked_by_a_panic").into_parts();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a child");
    let mut seen = Tree::default();
    let status = loop {
        if let Some(status) = child.try_wait().expect("waiting") {
            break status;
        }
        seen.merge(descendants(child.id()));
        sleep(Duration::from_millis(5));
    };
    assert!(seen.has_program(EMULATOR), "no machine was seen: {seen:?}");
    assert!(!status.success(), "a run whose check panics passed");
    assert_gone(&seen);
}
