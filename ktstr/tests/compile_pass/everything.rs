#![deny(warnings)]

use ktstr::prelude::*;

declare_scheduler!(
    /// With every key.
    pub WIDE, {
        name = "wide",
        source = "schedulers/wide",
        sched_args = ["-v"],
        topology = (2, 4, 2, 1),
        kargs = ["quiet"],
    }
);

#[ktstr_test(
    scheduler = WIDE,
    numa_nodes = 1,
    llcs = 2,
    cores = 2,
    threads = 2,
    memory_mib = 768,
    duration_s = 5,
    watchdog_timeout_s = 3,
    num_snapshots = 10,
    checkpoint = ends,
    seed = 7,
    claims = ["nondecreasing(nr_dispatched)", "each(nr_dispatched >= 1)"],
    check = judge,
    not_starved,
    expect_err,
    expect_scx_error_contains = "stall",
    allow_inconclusive = false,
    ignore,
    kaslr = false,
    kargs = ["loglevel=7"],
    extra_sched_args = ["--stall-after", "2"],
)]
fn every_key(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0").cpuset(CpusetSpec::Llc(0)).work_type(WorkType::Bursty)])
}

fn judge(_: &Trace, _: &mut Verdict) -> Result<()> {
    Ok(())
}

/// Names of the author's own do not get in the way of the expansion's.
mod names {
    use ktstr::prelude::{AssertResult, Ctx, Result, ktstr_test};

    #[allow(dead_code)]
    struct Some;
    #[allow(dead_code)]
    struct Option;
    #[allow(dead_code)]
    mod core {}
    #[allow(dead_code)]
    mod std {}

    #[ktstr_test]
    fn run(_: &Ctx) -> Result<AssertResult> {
        Ok(AssertResult::pass())
    }
}

fn main() {}
