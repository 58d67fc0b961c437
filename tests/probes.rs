//! Probes of a guest: one run has them all, and is looked at from every side.
//!
//! scx_demo counts in its own variables and maps what it is called for; the probes have to have seen the same.

use std::time::Duration;

use ktstr_replay::probe::{ProbeCall, ProbeEnd, ProbeLog, ProbeSeen};
use ktstr_replay::trace::record::{CaptureKind, ProbeValue, Sample};
use ktstr_replay::units::GuestNs;
use ktstr_tests::{TestRun, fixture, ktstr, run_bounded};

mod fixtures {
    use std::time::Duration;

    use ktstr::prelude::*;

    declare_scheduler!(DEMO, {
        name = "demo",
        source = "scx_demo",
        topology = (1, 1, 2, 1),
    });

    #[ktstr_test(
        ignore,
        scheduler = DEMO,
        duration_s = 6,
        num_snapshots = 6,
        not_starved,
        probe = [
            "demo_init_task(p->pid, p->comm)",
            "demo_enqueue(p->pid, p->comm, p->scx.weight, enq_flags)",
            "enqueue_task_scx",
            "select_task_rq_scx(p->pid, prev_cpu, wake_flags) returns",
            "no_such_program",
        ],
        claims = ["eventually(nr_enqueued >= 1)"]
    )]
    fn probed(ctx: &Ctx) -> Result<AssertResult> {
        for (target, why) in [("kernel_cloen()", "no such function"), ("jiffies_64()", "data"), ("enqueue_task_scx(q)", "no such argument")] {
            let said = ctx.probe(target).expect_err(why).to_string();
            ensure!(said.contains("cannot be probed"), "{target}: {said}");
        }
        let unread = ctx.probe("enqueue_task_scx(").expect_err("no end").to_string();
        ensure!(unread.contains('^'), "{unread}");
        let cgroups = Backdrop::new(vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")]);
        let part = HoldSpec::Frac(0.3);
        let few = ProbeSpec::on("put_prev_task_scx(p->pid)").max_hits(3);
        let steps = vec![
            Step::of_ops([Op::probe(few)], part).named("cool"),
            Step::of_ops([Op::probe("_raw_spin_lock(lock)")], part).named("hot"),
            Step::of_ops([Op::restart_scheduler()], part).named("again"),
        ];
        execute_scenario(ctx, cgroups, steps)
    }
}

/// Longer than it takes.
const LIMIT: Duration = Duration::from_secs(120);

/// One boot for all of it.
#[test]
fn a_run_with_probes() {
    let run = fixture("fixtures::probed").run();
    for probe in &ProbeLog::of(&run.trace().events()).probes {
        eprintln!("{}: {:?} {} calls {:?}", probe.target, probe.end(), probe.calls.len(), probe.totals);
    }
    eprintln!("{run}");
}
