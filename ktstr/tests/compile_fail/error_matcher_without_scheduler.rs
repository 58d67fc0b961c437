use ktstr::prelude::*;

#[ktstr_test(expect_err, expect_scx_error_contains = "stall")]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
