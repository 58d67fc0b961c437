use ktstr::prelude::*;

#[ktstr_test(watchdog_timeout_s = 4)]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
