//! Tests that `kernels.rs` runs on two kernels.

use ktstr::prelude::*;

declare_scheduler!(NEWER, { name = "newer", source = "scx_demo", topology = (1, 1, 2, 1), kernels = "7.3.." });

/// Skipped on a kernel before 7.3.
#[ktstr_test(ignore, scheduler = NEWER, duration_s = 1, num_snapshots = 2, claims = ["each(nr_dispatched >= 1)"])]
fn for_newer(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

/// Fails on a kernel before 7.3.
#[ktstr_test(ignore, duration_s = 1, check = is_newer)]
fn fails_on_older(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

fn is_newer(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let release = trace.manifest().context("a manifest")?.kernel.release.clone();
    let mut numbers = release.split(['.', '+', '-']).map_while(|number| number.parse::<u64>().ok());
    let (major, minor) = numbers.next().zip(numbers.next()).with_context(|| release.clone())?;
    claim!(v, major * 1000 + minor).at_least(7003).because("the test says that it fails on others");
    Ok(())
}
