use ktstr::prelude::*;

#[ktstr_test(ignore, ignore)]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
