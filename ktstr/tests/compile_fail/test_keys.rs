//! How the keys of `#[ktstr_test]` are written.

fn main() {}

mod unknown_key {
    use ktstr::prelude::*;

    #[ktstr_test(llc = 1)]
//               ^^^ unknown key `llc`; did you mean `llcs`? the keys are scheduler, numa_nodes, llcs, cores, threads, memory_mib, duration_s, enable_timeout_s, watchdog_timeout_s, num_snapshots, checkpoint, pages, seed, claims, check, fail_fast, not_starved, max_gap_ms, max_spread_pct, min_share_pct, isolation, max_throughput_cv, min_work_rate, min_iteration_rate, max_migration_ratio, max_p99_wake_latency_ns, max_wake_latency_cv, min_page_locality, max_cross_node_migration_ratio, max_imbalance_ratio, max_local_dsq_depth, max_fallback_rate, max_keep_last_rate, fail_on_stall, sustained_samples, expect_err, expect_scx_error_contains, expect_scx_error_matches, expect_scx_exit, allow_restarts, allow_splats, allow_inconclusive, host_only, ignore, kaslr, performance, attached, auto_repro, history, kargs, extra_sched_args, sysctls, config, staged_schedulers, min_llcs, max_llcs, min_cpus, max_cpus, min_numa_nodes, max_numa_nodes, requires_smt, payload, workloads, include_files, watch, probe
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod not_there_yet {
    use ktstr::prelude::*;

    #[ktstr_test(cores = 2, deterministic)]
//                          ^^^^^^^^^^^^^ `deterministic` is not there yet: no machine counts instructions for its time, so two runs of a test differ. There is `seed = 7`: what is chosen at random is chosen by it, `ctx.seed` among it
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod key_twice {
    use ktstr::prelude::*;

    #[ktstr_test(llcs = 1, cores = 2, llcs = 1)]
//                                    ^^^^ key `llcs` is given twice
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod flag_twice {
    use ktstr::prelude::*;

    #[ktstr_test(ignore, ignore)]
//                       ^^^^^^ key `ignore` is given twice
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod flag_as_number {
    use ktstr::prelude::*;

    #[ktstr_test(expect_err = 1)]
//               ^^^^^^^^^^^^^^ `expect_err` takes `true` or `false`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod history_as_text {
    use ktstr::prelude::*;

    #[ktstr_test(history = "off")]
//               ^^^^^^^^^^^^^^^ `history` takes `true` or `false`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod number_as_text {
    use ktstr::prelude::*;

    #[ktstr_test(duration_s = "5")]
//               ^^^^^^^^^^^^^^^^ `duration_s` takes an integer from 1 to 86400
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod number_without_value {
    use ktstr::prelude::*;

    #[ktstr_test(duration_s)]
//               ^^^^^^^^^^ `duration_s` needs a value: `duration_s = 1`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod checkpoint_unknown {
    use ktstr::prelude::*;

    #[ktstr_test(checkpoint = sometimes)]
//               ^^^^^^^^^^^^^^^^^^^^^^ `checkpoint` is one of every, ends, never, not `sometimes`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod pages_unknown {
    use ktstr::prelude::*;

    #[ktstr_test(pages = user)]
//               ^^^^^^^^^^^^ `pages` is one of kernel, all, not `user`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod claims_not_a_list {
    use ktstr::prelude::*;

    #[ktstr_test(claims = "each(x >= 1)")]
//               ^^^^^^^^^^^^^^^^^^^^^^^ `claims` takes a list of strings, `["..", ".."]`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod config_without_a_scheduler {
    use ktstr::prelude::*;

    #[ktstr_test(config = "text")]
//               ^^^^^^ `config` needs a `scheduler` whose declaration has a `config_file_def`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod sysctl_without_a_name {
    use ktstr::prelude::*;

    #[ktstr_test(sysctls = ["=1"])]
//               ^^^^^^^^^^^^^^^^ `sysctls` has "=1", which is not of the form "NAME=VALUE"
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod staged_without_a_scheduler {
    use ktstr::prelude::*;

    #[ktstr_test(staged_schedulers = [])]
//               ^^^^^^^^^^^^^^^^^ `staged_schedulers` needs a `scheduler` that they take the place of
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod watch_not_a_list {
    use ktstr::prelude::*;

    #[ktstr_test(watch = "bss.x")]
//               ^^^^^^^^^^^^^^^ `watch` takes a list of strings, `["..", ".."]`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod probe_not_a_list {
    use ktstr::prelude::*;

    #[ktstr_test(probe = "enqueue_task_scx")]
//               ^^^^^^^^^^^^^^^^^^^^^^^^^^ `probe` takes a list of strings, `["..", ".."]`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod host_only_with_snapshots {
    use ktstr::prelude::*;

    #[ktstr_test(host_only, num_snapshots = 3)]
//                          ^^^^^^^^^^^^^ `num_snapshots` contradicts `host_only`: the body runs on the host, and there is no VM; leave out the one or the other. Beside `host_only` may stand duration_s, seed, check, expect_err, allow_inconclusive, ignore
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod host_only_with_auto_repro {
    use ktstr::prelude::*;

    #[ktstr_test(host_only, auto_repro)]
//                          ^^^^^^^^^^ `auto_repro` contradicts `host_only`: the body runs on the host, and there is no VM; leave out the one or the other. Beside `host_only` may stand duration_s, seed, check, expect_err, allow_inconclusive, ignore
    fn body(_ctx: &Ctx) -> Result<AssertResult> {
        Ok(AssertResult::pass())
    }
}

mod host_only_with_a_scheduler {
    use ktstr::prelude::*;

    #[ktstr_test(host_only, scheduler = DEMO, watch = ["bss.x"], claims = ["each(x >= 1)"], memory_mib = 512)]
//                          ^^^^^^^^^ `scheduler` contradicts `host_only`: the body runs on the host, and there is no VM; leave out the one or the other. Beside `host_only` may stand duration_s, seed, check, expect_err, allow_inconclusive, ignore
//                                                                                          ^^^^^^^^^^ `memory_mib` contradicts `host_only`: the body runs on the host, and there is no VM; leave out the one or the other. Beside `host_only` may stand duration_s, seed, check, expect_err, allow_inconclusive, ignore
//                                                               ^^^^^^ `claims` contradicts `host_only`: the body runs on the host, and there is no VM; leave out the one or the other. Beside `host_only` may stand duration_s, seed, check, expect_err, allow_inconclusive, ignore
//                                            ^^^^^ `watch` contradicts `host_only`: the body runs on the host, and there is no VM; leave out the one or the other. Beside `host_only` may stand duration_s, seed, check, expect_err, allow_inconclusive, ignore
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod performance_on_the_host {
    use ktstr::prelude::*;

    #[ktstr_test(host_only, performance)]
//                          ^^^^^^^^^^^ `performance` contradicts `host_only`: the body runs on the host, and there is no VM; leave out the one or the other. Beside `host_only` may stand duration_s, seed, check, expect_err, allow_inconclusive, ignore
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        Ok(AssertResult::pass())
    }
}

mod performance_as_number {
    use ktstr::prelude::*;

    #[ktstr_test(performance = 1)]
//               ^^^^^^^^^^^^^^^ `performance` takes `true` or `false`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod key_misspelt {
    use ktstr::prelude::*;

    #[ktstr_test(num_snapshot = 3)]
//               ^^^^^^^^^^^^ unknown key `num_snapshot`; did you mean `num_snapshots`? the keys are scheduler, numa_nodes, llcs, cores, threads, memory_mib, duration_s, enable_timeout_s, watchdog_timeout_s, num_snapshots, checkpoint, pages, seed, claims, check, fail_fast, not_starved, max_gap_ms, max_spread_pct, min_share_pct, isolation, max_throughput_cv, min_work_rate, min_iteration_rate, max_migration_ratio, max_p99_wake_latency_ns, max_wake_latency_cv, min_page_locality, max_cross_node_migration_ratio, max_imbalance_ratio, max_local_dsq_depth, max_fallback_rate, max_keep_last_rate, fail_on_stall, sustained_samples, expect_err, expect_scx_error_contains, expect_scx_error_matches, expect_scx_exit, allow_restarts, allow_splats, allow_inconclusive, host_only, ignore, kaslr, performance, attached, auto_repro, history, kargs, extra_sched_args, sysctls, config, staged_schedulers, min_llcs, max_llcs, min_cpus, max_cpus, min_numa_nodes, max_numa_nodes, requires_smt, payload, workloads, include_files, watch, probe
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}
