use ktstr::prelude::*;

#[ktstr_test(pages = user)]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
