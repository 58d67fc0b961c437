//! However a run ends, no process, socket or file in memory stays behind, and the trace opens.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_replay::run::Run;
use ktstr_tests::{Tree, descendants, fixture};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

/// Longer than a boot of the machine takes, also when others boot.
const TO_START: Duration = Duration::from_secs(90);
/// Longer than it takes to clear up.
const TO_END: Duration = Duration::from_secs(10);
/// What the emulator's program is called.
const EMULATOR: &str = "qemu-system-x86_64";

#[ktstr_test(ignore, duration_s = 60, num_snapshots = 2)]
fn long_run(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

#[ktstr_test(ignore, duration_s = 1, check = panics)]
fn checked_by_a_panic(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

fn panics(_trace: &Trace, _v: &mut Verdict) -> Result<()> {
    panic!("the check fell over")
}

/// The long run, in a process group of its own.
struct LongRun {
    child: Child,
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

    /// Waits until its machine runs and a capture of it is in the trace.
    fn of(mut command: Command, results: TempDir) -> Self {
        let child = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut run = Self { child: child.expect("a child"), seen: Tree::default(), results };
        let began = Instant::now();
        while !run.seen.has_program(EMULATOR) || run.trace().is_none_or(|trace| trace.sample_count() == 0) {
            assert!(began.elapsed() < TO_START, "no capture after {TO_START:?}: {:?}", run.seen);
            sleep(Duration::from_millis(20));
            run.seen.merge(descendants(run.child.id()));
        }
        run
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
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

#[test]
fn ctrl_c_leaves_nothing_and_a_trace_that_opens() {
    let mut run = LongRun::start();
    // A terminal sends it to the whole group.
    kill_process_group(run.pid(), Signal::INT).expect("interrupting");
    let status = run.child.wait().expect("waiting");
    assert!(!status.success(), "an interrupted run passed");
    assert_gone(&run.seen);
    let trace = run.trace().expect("the trace of an interrupted run opens");
    assert!(trace.sample_count() > 0, "what was captured before is lost");
    assert!(trace.is_finalized() && Run::load(&trace).recorded_verdict().is_some(), "it is not judged");
}

/// The run went on to its end, and its trace was neither closed nor judged: its report went into a pipe that nobody read.
#[test]
fn a_run_whose_runner_is_killed_is_closed_and_judged() {
    let mut run = LongRun::start_by_runner();
    kill_process(run.pid(), Signal::KILL).expect("killing");
    run.child.wait().expect("waiting");
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
    run.child.wait().expect("waiting");
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
