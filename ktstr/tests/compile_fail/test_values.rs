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

mod fail_fast_without_claims {
    use ktstr::prelude::*;

    #[ktstr_test(fail_fast)]
//               ^^^^^^^^^ `fail_fast` needs `claims`, which are what it looks at
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

mod auto_repro_without_scheduler {
    use ktstr::prelude::*;

    #[ktstr_test(auto_repro)]
//               ^^^^^^^^^^ `auto_repro` needs a `scheduler`, whose failure is to happen again
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod auto_repro_of_an_expected_failure {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });

    #[ktstr_test(scheduler = DEMO, expect_err, auto_repro)]
//                                             ^^^^^^^^^^ `auto_repro` is for failures that nobody expects, and `expect_err` says that the run must fail
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

mod page_locality_above_one {
    use ktstr::prelude::*;

    #[ktstr_test(min_page_locality = 80)]
//               ^^^^^^^^^^^^^^^^^^^^^^ `min_page_locality` is 80; it must be from 0.001 to 1 of the pages
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod work_rate_zero {
    use ktstr::prelude::*;

    #[ktstr_test(min_work_rate = 0)]
//               ^^^^^^^^^^^^^^^^^ `min_work_rate` is 0; it must be from 0.001 to 1000000000000 work units per second
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod imbalance_below_one {
    use ktstr::prelude::*;

    #[ktstr_test(max_imbalance_ratio = 0.5)]
//               ^^^^^^^^^^^^^^^^^^^^^^^^^ `max_imbalance_ratio` is 0.5; it must be from 1 to 1000000 of the shortest runqueue
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod migration_ratio_negative {
    use ktstr::prelude::*;

    #[ktstr_test(max_migration_ratio = -1)]
//               ^^^^^^^^^^^^^^^^^^^^^^^ `max_migration_ratio` is -1; it must be from 0 to 1000000 migrations per turn
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod migration_ratio_as_text {
    use ktstr::prelude::*;

    #[ktstr_test(max_migration_ratio = "low")]
//               ^^^^^^^^^^^^^^^^^^^^^^^^^^^ `max_migration_ratio` takes a number from 0 to 1000000
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod no_sustained_samples {
    use ktstr::prelude::*;

    #[ktstr_test(sustained_samples = 0)]
//               ^^^^^^^^^^^^^^^^^^^^^ `sustained_samples` is 0; it must be at least 1 captures in a row
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod max_local_dsq_depth_without_scheduler {
    use ktstr::prelude::*;

    #[ktstr_test(max_local_dsq_depth = 4)]
//               ^^^^^^^^^^^^^^^^^^^ `max_local_dsq_depth` needs a `scheduler`: only sched_ext has dispatch queues
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod max_fallback_rate_without_scheduler {
    use ktstr::prelude::*;

    #[ktstr_test(max_fallback_rate = 4)]
//               ^^^^^^^^^^^^^^^^^ `max_fallback_rate` needs a `scheduler`: only sched_ext counts its events
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod max_keep_last_rate_without_scheduler {
    use ktstr::prelude::*;

    #[ktstr_test(max_keep_last_rate = 4)]
//               ^^^^^^^^^^^^^^^^^^ `max_keep_last_rate` needs a `scheduler`: only sched_ext counts its events
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod error_pattern_without_expect_err {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });

    #[ktstr_test(scheduler = DEMO, expect_scx_error_matches = "stall")]
//                                 ^^^^^^^^^^^^^^^^^^^^^^^^ `expect_scx_error_matches` needs `expect_err`: a run that must not fail has no error to match
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod error_pattern_that_is_none {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });

    #[ktstr_test(scheduler = DEMO, expect_err, expect_scx_error_matches = "(stall")]
//                                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ `expect_scx_error_matches` is no regular expression: found open group without closing ')'
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod error_pattern_that_matches_everything {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });

    #[ktstr_test(scheduler = DEMO, expect_err, expect_scx_error_matches = ".*")]
//                                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ `expect_scx_error_matches` matches the empty text, and so every one
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod more_llcs_than_at_most {
    use ktstr::prelude::*;

    #[ktstr_test(min_llcs = 4, max_llcs = 2)]
//               ^^^^^^^^ `min_llcs` = 4 is more than `max_llcs` = 2, so that no machine would do
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod more_cpus_than_by_default {
    use ktstr::prelude::*;

    #[ktstr_test(min_cpus = 200)]
//               ^^^^^^^^ evaluation panicked: no machine has so many and so few CPUs: give `max_cpus`, too (what is not given is the scheduler's, else 192): evaluation of `more_cpus_than_by_default::__KTSTR_TEST_a_test` failed inside this call
//    note: inside `ktstr::__private::check_constraints`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod nodes_beyond_the_schedulers {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", constraints = Constraints::NONE.max_numa_nodes(2) });

    #[ktstr_test(scheduler = DEMO, min_numa_nodes = 3)]
//                                 ^^^^^^^^^^^^^^ evaluation panicked: no machine has so many and so few NUMA nodes: give `max_numa_nodes`, too (what is not given is the scheduler's, else 1): evaluation of `nodes_beyond_the_schedulers::__KTSTR_TEST_a_test` failed inside this call
//    note: inside `ktstr::__private::check_constraints`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod bounds_between_the_machines {
    use ktstr::prelude::*;

    #[ktstr_test(min_llcs = 5, max_llcs = 7)]
//               ^^^^^^^^ evaluation panicked: no machine of the gauntlet is within these bounds: docs/gauntlet.md has the table of them: evaluation of `bounds_between_the_machines::__KTSTR_TEST_a_test` failed inside this call
//    note: inside `ktstr::__private::check_constraints`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod a_scheduler_for_no_machine {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", constraints = Constraints::NONE.min_llcs(20) });

    #[ktstr_test(scheduler = DEMO)]
//               ^^^^^^^^^ evaluation panicked: no machine has so many and so few LLCs: give `max_llcs`, too (what is not given is the scheduler's, else 12): evaluation of `a_scheduler_for_no_machine::__KTSTR_TEST_a_test` failed inside this call
//    note: inside `ktstr::__private::check_inherited`
//    note: inside `ktstr::__private::check_constraints`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod enable_timeout_without_scheduler {
    use ktstr::prelude::*;

    #[ktstr_test(enable_timeout_s = 4)]
//               ^^^^^^^^^^^^^^^^ `enable_timeout_s` needs a `scheduler`, which is what is enabled
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod error_pattern_without_scheduler {
    use ktstr::prelude::*;

    #[ktstr_test(expect_err, expect_scx_error_matches = "stall")]
//                           ^^^^^^^^^^^^^^^^^^^^^^^^ `expect_scx_error_matches` needs a `scheduler`: the kernel's own has no sched_ext error
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod exit_without_scheduler {
    use ktstr::prelude::*;

    #[ktstr_test(expect_scx_exit = "UNREG_KERN")]
//               ^^^^^^^^^^^^^^^ `expect_scx_exit` needs a `scheduler`: the kernel's own does not exit
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod restarts_without_scheduler {
    use ktstr::prelude::*;

    #[ktstr_test(allow_restarts)]
//               ^^^^^^^^^^^^^^ `allow_restarts` needs a `scheduler`: the kernel's own does not restart
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod exit_empty {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });

    #[ktstr_test(scheduler = DEMO, expect_scx_exit = "")]
//                                 ^^^^^^^^^^^^^^^ `expect_scx_exit` is empty, which is the name of no exit kind
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod pages_where_none_is_kept {
    use ktstr::prelude::*;

    #[ktstr_test(checkpoint = never, pages = all)]
//                                   ^^^^^ `pages` contradicts `checkpoint = never`: no page is kept then; `checkpoint = ends` keeps the least
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod counters_where_no_memory_is_kept {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });

    #[ktstr_test(scheduler = DEMO, checkpoint = never, max_keep_last_rate = 4)]
//                                                     ^^^^^^^^^^^^^^^^^^ `max_keep_last_rate` contradicts `checkpoint = never`: sched_ext's counters are in the memory that is kept with captures; `checkpoint = ends` keeps the least
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod attached_and_watched {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });

    #[ktstr_test(scheduler = DEMO, attached, watch = ["bss.x"])]
//                                 ^^^^^^^^ `attached` contradicts `watch`, which is there before the scheduler is loaded, as it is in no template: leave out the one, or ask for the other in the body with `ctx.watch_snapshot`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod exit_misspelt {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });

    #[ktstr_test(scheduler = DEMO, expect_scx_exit = "UNREG_KERNEL")]
//                                                   ^^^^^^^^^^^^^^ `expect_scx_exit` = "UNREG_KERNEL" is no kind of exit; did you mean "UNREG_KERN"? The kinds are DONE, UNREG, UNREG_BPF, UNREG_KERN, SYSRQ, PARENT, ERROR, ERROR_BPF, ERROR_STALL
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}
