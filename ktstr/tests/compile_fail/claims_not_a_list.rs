use ktstr::prelude::*;

#[ktstr_test(claims = "each(x >= 1)")]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
