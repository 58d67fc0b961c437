//! The kernel's own dump of a stall names the tasks, queues and counts that our views name.

use ktstr::prelude::*;
use ktstr_replay::kernel::dsq::{Dsqs, read_dsqs};
use ktstr_replay::kernel::runqueue::{Runqueues, read_runqueue_details};
use ktstr_replay::run::{Checkpoints, Dump, Run};
use ktstr_tests::fixture;

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// scx_demo stops dispatching, and the watchdog ejects it; each capture has a checkpoint.
#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 6,
    num_snapshots = 6,
    checkpoint = "every",
    attached = false,
    extra_sched_args = ["--stall-after-ms", "1500", "--timeout-ms", "2000"]
)]
fn stalled(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

#[test]
fn the_kernels_dump_of_a_stall_says_the_same() {
    let fixture = fixture("dump::stalled").run();
    assert!(!fixture.status.success(), "{fixture}");
    fixture.assert_replays();
    let trace = fixture.trace();
    let run = Run::load(&trace);
    let exit = run.scheduler_exit().expect("an exit");
    let dump = Dump::parse(exit.dump.as_deref().expect("a dump"));
    let checkpoints = Checkpoints::of(&run).expect("checkpoints");
    // The last one that was taken while the tasks still waited.
    let alive = |info: &&_| {
        let checkpoint = checkpoints.open(**info).expect("a checkpoint");
        let scx = checkpoint.sample().and_then(|sample| sample.scx.as_ref());
        // In bypass the kernel has taken the tasks from the scheduler's queues already.
        scx.is_some_and(|scx| scx.state == "enabled" && scx.bypass_depth == Some(0))
    };
    let info = *checkpoints.all().iter().rev().find(alive).expect("a checkpoint before the exit");
    let checkpoint = checkpoints.open(info).expect("a checkpoint");
    let view = checkpoint.kernel();
    let elapsed_ms = exit.at_ns.saturating_since(info.guest_ns) as i64 / 1_000_000;
    queues(&read_dsqs(&view).expect("queues"), &dump, elapsed_ms);
    runqueues(&read_runqueue_details(&view).expect("runqueues"), &dump);

    let report = fixture.report();
    assert!(report.contains("who waited") && report.contains("in queue 0x0 (user)"), "{report}");
    let verdict = run.recorded_verdict().expect("a verdict");
    let why = ktstr_replay::why::explain(&run, &verdict).expect("an explanation").render();
    assert!(why.contains("nothing was taken from queue 0x0"), "{why}");
    assert!(why.contains("DEMO_STALLED from here on"), "{why}");
}

/// Nothing leaves the queue of a stalled scheduler: who was in it is in it at the exit, and has grown older by the time in
/// between.
fn queues(ours: &Dsqs, dump: &Dump, elapsed_ms: i64) {
    assert!(ours.gaps.is_empty(), "{:?}", ours.gaps);
    let queue = ours.user(0).expect("queue 0x0");
    assert!(queue.tasks.len() >= 4, "too few wait: {queue:?}");
    let mut differences = Vec::new();
    for task in &queue.tasks {
        let theirs = dump.tasks.iter().find(|other| other.pid == task.pid);
        let theirs = theirs.unwrap_or_else(|| panic!("the dump does not have {task:?}: {dump:?}"));
        let queue = theirs.dsq.as_ref().map(|id| id.number);
        assert_eq!((theirs.comm.as_str(), queue), (task.comm.as_str(), Some(0)));
        assert_eq!(theirs.cpu.map(|cpu| u64::from(cpu.0)), task.cpu);
        let age_ms = task.runnable_age_ns.expect("an age") / 1_000_000;
        differences.push(theirs.runnable_ms as i64 - age_ms);
    }
    // One stretch of time for all of them, to a jiffy; that between the stops as the host knows it, to what the exit took.
    let (least, most) = (differences.iter().min().unwrap(), differences.iter().max().unwrap());
    assert!(most - least <= 4, "ages grew by {differences:?} ms");
    assert!((0..=elapsed_ms + 100).contains(least), "ages grew by {least} ms in {elapsed_ms} ms");
}

fn runqueues(ours: &Runqueues, dump: &Dump) {
    assert!(ours.gaps.is_empty(), "{:?}", ours.gaps);
    for rq in &ours.runqueues {
        let theirs = dump.cpus.iter().find(|other| other.cpu == rq.cpu).expect("the CPU in the dump");
        let waiting: Vec<i64> = rq.runnable.iter().filter(|task| !task.on_cpu).map(|task| task.pid).collect();
        assert!(theirs.nr_run >= waiting.len() as u64, "{theirs:?} and {rq:?}");
        // The task that runs is counted, but on the list no more.
        let listed = |pid| rq.runnable.iter().any(|task| task.pid == pid);
        let runs = rq.curr.as_ref().is_some_and(|task| task.class == "ext" && !listed(task.pid));
        assert_eq!(rq.scx_nr_running, Some((rq.runnable.len() + usize::from(runs)) as u64), "{rq:?}");
        // The dump goes through the same list: those that waited then are in it in the same order.
        let listed = dump.tasks.iter().filter(|task| task.cpu == Some(rq.cpu)).map(|task| task.pid);
        let same: Vec<i64> = listed.filter(|pid| waiting.contains(pid)).collect();
        assert_eq!(same, waiting, "runnable tasks of CPU {}", rq.cpu);
    }
}
