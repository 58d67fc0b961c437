use ktstr::prelude::*;

#[ktstr_test(numa_nodes = 0)]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
