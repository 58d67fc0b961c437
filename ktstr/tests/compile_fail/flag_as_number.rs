use ktstr::prelude::*;

#[ktstr_test(expect_err = 1)]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
