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
//    note: inside `ktstr::__private::check_inherited`
//    note: inside `ktstr::__private::check_config`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod staged_with_lines {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });
    declare_scheduler!(OTHER, { name = "other", enable = ["echo 1 > /a"], disable = ["echo 0 > /a"] });

    #[ktstr_test(scheduler = DEMO, staged_schedulers = [OTHER])]
//                                 ^^^^^^^^^^^^^^^^^ evaluation panicked: one of `staged_schedulers` has `enable` lines, which are written before the first scheduler is started: make it the `scheduler` of a test: evaluation of `staged_with_lines::__KTSTR_TEST_a_test` failed inside this call
//    note: inside `ktstr::__private::check_staged`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod staged_with_a_configuration_of_the_test {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });
    declare_scheduler!(OTHER, { name = "other", binary = "o", config_file_def = ("-c {file}", "/etc/c") });

    #[ktstr_test(scheduler = DEMO, staged_schedulers = [OTHER])]
//                                 ^^^^^^^^^^^^^^^^^ evaluation panicked: one of `staged_schedulers` has a `config_file_def`, and `config` is for the test's own scheduler: give the other one a `config_file`: evaluation of `staged_with_a_configuration_of_the_test::__KTSTR_TEST_a_test` failed inside this call
//    note: inside `ktstr::__private::check_staged`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod staged_with_kargs {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });
    declare_scheduler!(OTHER, { name = "other", binary = "o", kargs = ["quiet"] });

    #[ktstr_test(scheduler = DEMO, staged_schedulers = [OTHER])]
//                                 ^^^^^^^^^^^^^^^^^ evaluation panicked: one of `staged_schedulers` declares `kargs`, and the kernel has booted when it is started: give them to the test: evaluation of `staged_with_kargs::__KTSTR_TEST_a_test` failed inside this call
//    note: inside `ktstr::__private::check_staged`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod staged_with_sysctls {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });
    declare_scheduler!(OTHER, { name = "other", binary = "o", sysctls = ["kernel.pid_max=30000"] });

    #[ktstr_test(scheduler = DEMO, staged_schedulers = [OTHER])]
//                                 ^^^^^^^^^^^^^^^^^ evaluation panicked: one of `staged_schedulers` declares `sysctls`, which are set before the body: give them to the test, or use `Op::sysctl`: evaluation of `staged_with_sysctls::__KTSTR_TEST_a_test` failed inside this call
//    note: inside `ktstr::__private::check_staged`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod staged_twice {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });
    declare_scheduler!(OTHER, { name = "other", binary = "o" });

    #[ktstr_test(scheduler = DEMO, staged_schedulers = [OTHER, OTHER])]
//                                 ^^^^^^^^^^^^^^^^^ evaluation panicked: two of `staged_schedulers` have one name, by which they are told apart: evaluation of `staged_twice::__KTSTR_TEST_a_test` failed inside this call
//    note: inside `ktstr::__private::check_staged`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod staged_with_the_name_of_the_first {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });
    declare_scheduler!(OTHER, { name = "demo", binary = "o" });

    #[ktstr_test(scheduler = DEMO, staged_schedulers = [OTHER])]
//                                 ^^^^^^^^^^^^^^^^^ evaluation panicked: one of `staged_schedulers` has the name of the test's `scheduler`, and by their names they are told apart: evaluation of `staged_with_the_name_of_the_first::__KTSTR_TEST_a_test` failed inside this call
//    note: inside `ktstr::__private::check_staged`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}
