use ktstr::prelude::*;

#[ktstr_test(duration_s = 3600, num_snapshots = 257)]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
