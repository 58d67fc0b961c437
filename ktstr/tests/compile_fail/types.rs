//! What only the type check finds, after the macros.

fn main() {}

mod check_of_another_type {
    use ktstr::prelude::*;

    fn wrong(_: &Trace) {}

    #[ktstr_test(check = wrong)]
//                       ^^^^^ mismatched types: incorrect number of function parameters
//    note: expected fn pointer `for<'a, 'b> fn(&'a ktstr::prelude::Trace, &'b mut Verdict) -> std::result::Result<(), anyhow::Error>`
//          found fn item `for<'a> fn(&'a ktstr::prelude::Trace) -> () {wrong}`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}
