use ktstr::prelude::*;

#[ktstr_test(duration_s)]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
