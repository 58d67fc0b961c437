use ktstr::prelude::*;

#[ktstr_test(llc = 1)]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
