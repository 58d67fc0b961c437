use ktstr::prelude::*;

fn wrong(_: &Trace) {}

#[ktstr_test(check = wrong)]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
