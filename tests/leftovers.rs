//! However a run ends, no process, socket or file in memory stays behind.

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_tests::{Tree, descendants, fixture};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Longer than a boot of the machine takes, also when others boot.
const TO_START: Duration = Duration::from_secs(90);
/// Longer than it takes to clear up.
const TO_END: Duration = Duration::from_secs(10);

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

/// Starts the long run in a process group of its own, and waits until its machine is running the test.
fn started() -> (Child, Tree, tempfile::TempDir) {
    use std::os::unix::process::CommandExt;
    let (mut command, results): (Command, _) = fixture("long_run").into_parts();
    let child =
        command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a child");
    let began = Instant::now();
    let mut seen = Tree::default();
    // The machine is up, and its trace is being written: some capture was taken.
    while !seen.has_program("qemu-system-x86_64") || trace_bytes(&results) < 1 << 20 {
        assert!(began.elapsed() < TO_START, "no machine after {TO_START:?}: {seen:?}");
        sleep(Duration::from_millis(20));
        seen.merge(descendants(child.id()));
    }
    (child, seen, results)
}

fn trace_bytes(results: &tempfile::TempDir) -> u64 {
    let entries = results.path().read_dir().expect("results").flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum()
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

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

#[test]
fn ctrl_c_leaves_nothing_and_the_trace_opens() {
    let (mut child, seen, results) = started();
    // A terminal sends it to the whole group.
    kill_process_group(pid(&child), Signal::INT).expect("interrupting");
    let status = child.wait().expect("waiting");
    assert!(!status.success(), "an interrupted run passed");
    assert_gone(&seen);
    let trace =
        results.path().read_dir().expect("results").next().expect("a trace").expect("an entry").path();
    let trace = ktstr_replay::trace::Trace::open(&trace).expect("an interrupted trace opens");
    assert!(trace.sample_count() > 0, "what was captured before is lost");
}

#[test]
fn a_killed_runner_leaves_nothing_and_the_trace_opens() {
    let (mut child, seen, results) = started();
    kill_process(pid(&child), Signal::KILL).expect("killing");
    child.wait().expect("waiting");
    assert_gone(&seen);
    let trace =
        results.path().read_dir().expect("results").next().expect("a trace").expect("an entry").path();
    let trace = ktstr_replay::trace::Trace::open(&trace).expect("the trace of a killed run opens");
    assert!(!trace.is_finalized() && trace.sample_count() > 0, "what was captured before is lost");
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
    assert!(seen.has_program("qemu-system-x86_64"), "no machine was seen: {seen:?}");
    assert!(!status.success(), "a run whose check panics passed");
    assert_gone(&seen);
}
