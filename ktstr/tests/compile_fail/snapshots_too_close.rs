use ktstr::prelude::*;

#[ktstr_test(duration_s = 2, num_snapshots = 20)]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
