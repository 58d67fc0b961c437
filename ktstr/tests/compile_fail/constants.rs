//! What only the evaluation of constants finds, after the type check.

fn main() {}

mod llcs_not_a_multiple_of_inherited_numa_nodes {
    use ktstr::prelude::*;

    declare_scheduler!(WIDE, { name = "wide", binary = "scx_wide", topology = (2, 2, 1, 1) });

    #[ktstr_test(scheduler = WIDE, llcs = 3)]
//                                 ^^^^ evaluation panicked: `llcs` must be a multiple of `numa_nodes` (what is not given is the scheduler's): evaluation of `llcs_not_a_multiple_of_inherited_numa_nodes::__KTSTR_TEST_a_test` failed inside this call
//    note: inside `ktstr::__private::resolve_topology`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod config_that_the_scheduler_does_not_take {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });

    #[ktstr_test(scheduler = DEMO, config = "text")]
//                                 ^^^^^^ evaluation panicked: the test gives a `config`, and the scheduler's declaration has no `config_file_def` that says how it is taken: evaluation of `config_that_the_scheduler_does_not_take::__KTSTR_TEST_a_test` failed inside this call
//    note: inside `ktstr::__private::check_config`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod config_that_is_missing {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", config_file_def = ("-c {file}", "/etc/c") });

    #[ktstr_test(scheduler = DEMO)]
//               ^^^^^^^^^ evaluation panicked: the scheduler's declaration has a `config_file_def`: the test must give the `config`: evaluation of `config_that_is_missing::__KTSTR_TEST_a_test` failed inside this call
//    note: inside `ktstr::__private::check_config`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}
