//! What ktstr reads out of a guest's memory is what the guest itself says.

use ktstr::prelude::*;

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// scx_demo stops dispatching, and the watchdog ejects it; each capture has a checkpoint.
#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 6,
    num_snapshots = 6,
    checkpoint = "every",
    extra_sched_args = ["--stall-after-ms", "1500", "--timeout-ms", "2000"]
)]
fn stalled(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}
