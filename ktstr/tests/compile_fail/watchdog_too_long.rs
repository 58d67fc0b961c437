use ktstr::prelude::*;

declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });

#[ktstr_test(scheduler = DEMO, watchdog_timeout_s = 31)]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
