//! Tests of scx_mine: each boots a kernel in a VM of its own. Run them by `cargo ktstr test`.

use ktstr::prelude::*;

declare_scheduler!(SCX_MINE, { name = "mine", source = "scx_mine", topology = (1, 1, 2, 1) });

/// Two cgroups of two busy workers each, on two CPUs: each worker gets its part, and the scheduler works all the time.
#[ktstr_test(
    scheduler = SCX_MINE,
    duration_s = 5,
    num_snapshots = 10,
    not_starved,
    claims = ["strictly_increasing(nr_dispatched)"]
)]
fn two_cgroups_share(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}
