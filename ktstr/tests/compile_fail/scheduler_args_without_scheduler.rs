use ktstr::prelude::*;

#[ktstr_test(extra_sched_args = ["-v"])]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
