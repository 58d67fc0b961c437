//! What only the evaluation of constants finds, after the type check.

fn main() {}

mod llcs_not_a_multiple_of_inherited_numa_nodes {
    use ktstr::prelude::*;

    declare_scheduler!(WIDE, { name = "wide", binary = "scx_wide", topology = (2, 2, 1, 1) });

    #[ktstr_test(scheduler = WIDE, llcs = 3)]
//                                 ^^^^ evaluation panicked: `llcs` must be a multiple of `numa_nodes` (what is not given is the scheduler's): evaluation of `llcs_not_a_multiple_of_inherited_numa_nodes::__KTSTR_TEST_a_test::__KTSTR_TOPOLOGY` failed inside this call
//    note: inside `ktstr::__private::resolve_topology`
//  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ note: erroneous constant encountered
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}
