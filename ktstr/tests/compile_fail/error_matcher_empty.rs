use ktstr::prelude::*;

declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });

#[ktstr_test(scheduler = DEMO, expect_err, expect_scx_error_contains = "")]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
