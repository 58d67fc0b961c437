use ktstr::prelude::*;

#[ktstr_test(llcs = 1, cores = 2, llcs = 1)]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
