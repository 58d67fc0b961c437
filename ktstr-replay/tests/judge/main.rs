//! Reports of whole runs, compared with what they should read as.
//!
//! `INSTA_UPDATE=always cargo test -p ktstr-replay --test judge` writes the expected ones anew; review the diff.

use ktstr_replay::judge::{CheckSource, LabelledCheck};
use ktstr_replay::report::render;
use ktstr_replay::run::Run;
use ktstr_replay::testing::{TraceBuilder, missed, stalled};
use ktstr_replay::trace::Trace;
use ktstr_replay::trace::record::{
    CaptureKind, EventBody, GuestEnd, Loss, LossKind, OutputSource, Stage, WorkerReport,
};
use ktstr_replay::units::{Cpu, HostNs};
use ktstr_replay::verdict::Verdict;

fn rising(trace: &Trace, v: &mut Verdict) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    trace.periodic().var("nr_dispatched").strictly_increasing(v);
    Ok(())
}

/// The report of a live run: judged from the unfinished file, rendered from the finished one. Asserts on the way
/// that a replay, with the recorded verdict and with a new one, reads the same.
fn report(builder: &TraceBuilder) -> String {
    let fresh = [LabelledCheck { label: "rising", run: &rising }];
    let mut live = None;
    let trace = builder.judged_trace(|t| {
        let run = Run::load(t);
        let verdict = run.judge(None, CheckSource::Fresh(if builder.has_checks() { &fresh } else { &[] }));
        live = Some(render(&run, &verdict));
        verdict
    });
    let run = Run::load(&trace);
    let recorded = render(&run, &run.recorded_verdict().expect("the verdict was recorded"));
    assert_eq!(live.as_deref(), Some(recorded.as_str()), "live and replay read the same");
    assert_eq!(
        render(&run, &run.judge(None, CheckSource::Recorded)),
        recorded,
        "and so does a new judgement"
    );
    recorded
}

fn worker(index: u32, cgroup: &str, cpu_ms: u64) -> WorkerReport {
    WorkerReport {
        index,
        pid: 100 + index,
        cgroup: cgroup.into(),
        work: "SpinWait".into(),
        work_units: cpu_ms * 10,
        iterations: cpu_ms,
        cpu_ns: cpu_ms * 1_000_000,
        wall_ns: 5_000_000_000,
        max_gap_ns: 12_000_000,
        max_gap_at_ns: 900_000_000,
        run_delay_ns: 2_400_000_000,
        migrations: 3,
        cpus_used: vec![Cpu(0), Cpu(1)],
        fault: None,
    }
}

#[test]
fn a_pass_is_short() {
    let run = TraceBuilder::begun()
        .periodic(&[10, 20, 30, 40])
        .worker(worker(0, "cg_0", 2500))
        .worker(worker(1, "cg_0", 2450))
        .ended()
        .not_starved()
        .claim("nondecreasing(nr_dispatched)")
        .claim("each(nr_dispatched >= 1)")
        .check("rising");
    let report = report(&run);
    assert!(report.lines().count() <= 12, "{report}");
    insta::assert_snapshot!(report);
}

#[test]
fn a_failing_claim() {
    let run = TraceBuilder::begun()
        .periodic(&[10, 20, 15, 40, 50, 60, 55])
        .sample(missed("periodic_007", CaptureKind::Periodic, 4000, "the machine did not stop within 500 ms"))
        .worker(worker(0, "cg_0", 4100))
        .worker(worker(1, "cg_0", 800))
        .ended()
        .not_starved()
        .claim("nondecreasing(nr_dispatched)")
        .claim("ratio(nr_enqueued, nr_dispatched) in 0.9..=1.1")
        .check("rising")
        .loss(Loss {
            host_ns: HostNs(0),
            kind: LossKind::GuestFrames,
            count: 3,
            detail: "the ring was full".into(),
        });
    insta::assert_snapshot!(report(&run));
}

#[test]
fn a_stall() {
    let run = TraceBuilder::begun()
        .periodic(&[10, 20])
        .output(
            1500,
            OutputSource::Scheduler,
            "EXIT: runnable task stall (burner[103] failed to run for 5.104s)\n",
        )
        .kmsg(1490, 6, "an ordinary line")
        .kmsg(1499, 3, "sched_ext: BPF scheduler \"demo\" disabled (runnable task stall)")
        .kmsg(1499, 3, "sched_ext: demo: burner[103] failed to run for 5.104s")
        .sample(stalled(1500, &[20, 30, 0]))
        .stage(1510, Stage::SchedulerExited, "exited with status 1")
        .worker(worker(0, "cg_0", 300))
        .event(1600, EventBody::Body { error: Some("the scheduler died".into()), failures: Vec::new() })
        .stage(1600, Stage::BodyEnded, "")
        .event(1700, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() })
        .claim("nondecreasing(nr_dispatched)");
    insta::assert_snapshot!(report(&run));
}

#[test]
fn a_panic() {
    let run = TraceBuilder::begun()
        .periodic(&[10])
        .kmsg(900, 6, "sysrq: Trigger a crash")
        .kmsg(901, 0, "Kernel panic - not syncing: sysrq triggered crash")
        .event(
            902,
            EventBody::Console(b"[    2.901] Kernel panic - not syncing: sysrq triggered crash\r\n".to_vec()),
        )
        .event(903, EventBody::Console(b"[    2.902] \x1b[31m---[ end Kernel panic ]---\r\n".to_vec()))
        .capture("guest_death", CaptureKind::GuestDeath, 905, [15, 15, 3])
        .event(910, EventBody::End { end: GuestEnd::Panicked, detail: String::new() });
    insta::assert_snapshot!(report(&run));
}

#[test]
fn an_unknown_variable() {
    let run = TraceBuilder::begun().periodic(&[10, 20]).ended().claim("nondecreasing(nr_dispached)");
    insta::assert_snapshot!(report(&run));
}

#[test]
fn a_scheduler_that_does_not_load() {
    let run = TraceBuilder::new()
        .stage(-1900, Stage::Booting, "")
        .stage(-200, Stage::SchedulerStarted, "")
        .output(
            -150,
            OutputSource::Scheduler,
            "0: R1=ctx()\n5: (79) r2 = *(u64 *)(r1 +4096)\ninvalid bpf_context access off=4096 size=8\n",
        )
        .stage(-100, Stage::SchedulerExited, "exited with status 1")
        .event(0, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() });
    insta::assert_snapshot!(report(&run));
}

#[test]
fn an_expected_failure() {
    let run = TraceBuilder::begun()
        .periodic(&[10, 20])
        .sample(stalled(1500, &[20, 30, 0]))
        .stage(1510, Stage::SchedulerExited, "exited with status 1")
        .event(1600, EventBody::Body { error: Some("the scheduler died".into()), failures: Vec::new() })
        .stage(1600, Stage::BodyEnded, "")
        .event(1700, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() })
        .expect_err(Some("failed to run"));
    insta::assert_snapshot!(report(&run));
}

#[test]
fn an_unjudged_trace_without_an_end() {
    let trace = TraceBuilder::begun().periodic(&[10]).trace();
    let run = Run::load(&trace);
    insta::assert_snapshot!(render(&run, &run.judge(None, CheckSource::Recorded)));
}
