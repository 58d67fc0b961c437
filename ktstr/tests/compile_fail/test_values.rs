//! Values of `#[ktstr_test]` that are out of bounds, or do not go together.

fn main() {}

mod zero_cores {
    use ktstr::prelude::*;

    #[ktstr_test(cores = 0)]
//               ^^^^^^^^^ `cores` is 0; it must be at least 1 core in each LLC
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod zero_duration {
    use ktstr::prelude::*;

    #[ktstr_test(duration_s = 0)]
//               ^^^^^^^^^^^^^^ `duration_s` is 0; it must be at least 1 s of workload
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod zero_llcs {
    use ktstr::prelude::*;

    #[ktstr_test(llcs = 0)]
//               ^^^^^^^^ `llcs` is 0; it must be at least 1 LLC
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod zero_memory {
    use ktstr::prelude::*;

    #[ktstr_test(memory_mib = 0)]
//               ^^^^^^^^^^^^^^ `memory_mib` is 0; it must be at least 128 MiB of RAM
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod zero_numa_nodes {
    use ktstr::prelude::*;

    #[ktstr_test(numa_nodes = 0)]
//               ^^^^^^^^^^^^^^ `numa_nodes` is 0; it must be at least 1 NUMA node
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod zero_threads {
    use ktstr::prelude::*;

    #[ktstr_test(threads = 0)]
//               ^^^^^^^^^^^ `threads` is 0; it must be at least 1 thread in each core
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod watchdog_too_long {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });

    #[ktstr_test(scheduler = DEMO, watchdog_timeout_s = 31)]
//                                 ^^^^^^^^^^^^^^^^^^^^^^^ `watchdog_timeout_s` is 31; it must be from 1 to 30 s before a stall is called one
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod too_many_snapshots {
    use ktstr::prelude::*;

    #[ktstr_test(duration_s = 3600, num_snapshots = 257)]
//                                  ^^^^^^^^^^^^^^^^^^^ `num_snapshots` is 257; it must be from 0 to 256 periodic captures
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod snapshots_too_close {
    use ktstr::prelude::*;

    #[ktstr_test(duration_s = 2, num_snapshots = 20)]
//                               ^^^^^^^^^^^^^ `num_snapshots` = 20 puts captures 76 ms apart; they must be at least 100 ms apart: fewer of them, or a longer `duration_s`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod llcs_not_a_multiple_of_numa_nodes {
    use ktstr::prelude::*;

    #[ktstr_test(numa_nodes = 2, llcs = 3)]
//                               ^^^^ `llcs` = 3 is the machine's total and not a multiple of `numa_nodes` = 2
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod watchdog_without_scheduler {
    use ktstr::prelude::*;

    #[ktstr_test(watchdog_timeout_s = 4)]
//               ^^^^^^^^^^^^^^^^^^ `watchdog_timeout_s` needs a `scheduler`: only sched_ext has that watchdog
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod scheduler_args_without_scheduler {
    use ktstr::prelude::*;

    #[ktstr_test(extra_sched_args = ["-v"])]
//               ^^^^^^^^^^^^^^^^ `extra_sched_args` needs a `scheduler` to give them to
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod error_matcher_without_scheduler {
    use ktstr::prelude::*;

    #[ktstr_test(expect_err, expect_scx_error_contains = "stall")]
//                           ^^^^^^^^^^^^^^^^^^^^^^^^^ `expect_scx_error_contains` needs a `scheduler`: the kernel's own has no sched_ext error
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod error_matcher_without_expect_err {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });

    #[ktstr_test(scheduler = DEMO, expect_scx_error_contains = "stall")]
//                                 ^^^^^^^^^^^^^^^^^^^^^^^^^ `expect_scx_error_contains` needs `expect_err`: a run that must not fail has no error to match
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod attached_without_scheduler {
    use ktstr::prelude::*;

    #[ktstr_test(attached)]
//               ^^^^^^^^ `attached` needs a `scheduler`, which is what is enabled in the template
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod error_matcher_empty {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });

    #[ktstr_test(scheduler = DEMO, expect_err, expect_scx_error_contains = "")]
//                                             ^^^^^^^^^^^^^^^^^^^^^^^^^ `expect_scx_error_contains` is empty, which every text contains
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}
