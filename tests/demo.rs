//! The first test that a newcomer runs: `cargo ktstr test demo`.

use ktstr::prelude::*;

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// Two cgroups of busy workers under scx_demo: it dispatches all the time, and starves nobody.
#[ktstr_test(
    scheduler = DEMO,
    llcs = 1,
    cores = 2,
    threads = 1,
    duration_s = 5,
    num_snapshots = 10,
    not_starved,
    claims = [
        "nondecreasing(nr_dispatched)",
        "each(nr_dispatched >= 1)",
        "each(stats.phase == 1)",
        "ratio(nr_stopping, nr_running) in 0.9..1.1",
    ],
    check = steady_dispatch
)]
fn demo(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

fn steady_dispatch(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let dispatched = trace.periodic().var("nr_dispatched");
    // Where the host did not run the machine for a while, captures that were due meanwhile follow one another at once.
    dispatched.nondecreasing(v).because("it is a count");
    let counts: Vec<u64> =
        dispatched.usable().filter_map(|(_, _, count)| count.to_i128()?.try_into().ok()).collect();
    claim!(v, counts.len() as u64).eq(10).because("ten periodic captures were asked for");
    if let [first, .., last] = counts[..] {
        claim!(v, last).gt(first).because("four workers share two CPUs, so that slices end all the time");
    }
    Ok(())
}
