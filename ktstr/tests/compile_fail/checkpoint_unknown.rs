use ktstr::prelude::*;

#[ktstr_test(checkpoint = sometimes)]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
