use ktstr::prelude::*;

declare_scheduler!(WIDE, { name = "wide", binary = "scx_wide", topology = (2, 2, 1, 1) });

#[ktstr_test(scheduler = WIDE, llcs = 3)]
fn a_test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![])
}

fn main() {}
