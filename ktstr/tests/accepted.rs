//! What `#[ktstr_test]` and `declare_scheduler!` accept: that this compiles, without a warning, is most of the test.
//!
//! The tests are ignored: there is no such scheduler.

#![deny(unused)]

use ktstr::prelude::*;

const LIMITS: Assert = Assert::NONE.not_starved(true).max_gap_ms(500);

declare_scheduler!(
    /// With every key.
    WIDE, {
        name = "wide",
        source = "schedulers/wide",
        sched_args = ["-v"],
        topology = (2, 4, 2, 1),
        kargs = ["quiet"],
        assert = LIMITS.min_page_locality(0.5),
        constraints = Constraints::NONE.min_llcs(2).max_numa_nodes(4),
        cgroup_parent = "workload.slice",
    }
);

declare_scheduler!(BUILT_IN, {
    name = "built-in",
    enable = ["echo 1 > /sys/x"],
    disable = ["echo 0 > /sys/x"],
});

#[ktstr_test(host_only, ignore, duration_s = 3, seed = 2, allow_inconclusive)]
fn on_the_host(_ctx: &Ctx) -> Result<AssertResult> {
    assert_eq!(BUILT_IN.enable.len(), BUILT_IN.disable.len());
    Ok(AssertResult::pass())
}

#[ktstr_test(
    scheduler = WIDE,
    numa_nodes = 1,
    llcs = 2,
    cores = 2,
    threads = 2,
    memory_mib = 768,
    duration_s = 5,
    watchdog_timeout_s = 3,
    num_snapshots = 10,
    checkpoint = ends,
    pages = "all",
    seed = 7,
    claims = ["nondecreasing(nr_dispatched)", "each(nr_dispatched >= 1)"],
    check = judge,
    fail_fast,
    not_starved = false,
    max_gap_ms = 100,
    max_spread_pct = 10,
    min_share_pct = 50,
    isolation,
    max_throughput_cv = 0.5,
    min_work_rate = 10,
    min_iteration_rate = 0.5,
    max_migration_ratio = 0.1,
    max_p99_wake_latency_ns = 5_000_000,
    max_wake_latency_cv = 2,
    min_page_locality = 1,
    max_cross_node_migration_ratio = 0,
    max_imbalance_ratio = 3.5,
    max_local_dsq_depth = 8,
    max_fallback_rate = 100,
    max_keep_last_rate = 1e3,
    fail_on_stall,
    sustained_samples = 2,
    allow_splats,
    watch = ["scx_root->exit_kind", "bss.x when new > 100"],
    expect_err,
    expect_scx_error_contains = "stall",
    expect_scx_error_matches = r"failed to run for \d+",
    allow_inconclusive = false,
    ignore,
    kaslr = false,
    performance,
    attached = false,
    auto_repro = false,
    kargs = ["loglevel=7"],
    extra_sched_args = ["--stall-after", "2"],
    min_llcs = 1,
    max_llcs = 4,
    min_cpus = 2,
    max_cpus = 64,
    min_numa_nodes = 1,
    max_numa_nodes = 2,
    requires_smt = false,
    include_files = files,
)]
fn every_key(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0").cpuset(CpusetSpec::Llc(0)).work_type(Bursty::default())])
}

fn judge(_: &Trace, _: &mut Verdict) -> Result<()> {
    Ok(())
}

fn files() -> Result<Vec<IncludedFile>> {
    Ok(Vec::new())
}

/// Names of the author's own do not get in the way of the expansion's.
mod names {
    use ktstr::prelude::{AssertResult, Ctx, Result, ktstr_test};

    #[expect(dead_code, reason = "its name is in the way, that is all")]
    struct Some;
    #[expect(dead_code, reason = "its name is in the way, that is all")]
    struct Option;
    mod core {}
    mod std {}

    #[ktstr_test(ignore)]
    fn run(_: &Ctx) -> Result<AssertResult> {
        Ok(AssertResult::pass())
    }
}

/// Every key of a payload.
#[derive(Payload)]
#[payload(binary = "fio", package = "fio", output = Json, name = "my-fio")]
#[default_args("-a", "-b")]
#[metric(name = "x.0", polarity = LowerBetter, unit = "ns")]
#[metric(name = "y")]
#[default_check(min("x.0", 1.0), MetricCheck::exit_code_eq(4))]
#[default_check(range("y", -1.5, 2e3), exists("z"), max("y", LIMIT))]
#[include_files("Cargo.toml", "../Cargo.toml:/etc/x")]
struct Fio;

const LIMIT: f64 = 7.0;
/// A payload may be named by a const, too.
const BY_CONST: Fio = Fio;

#[derive(Payload)]
#[payload(binary = "true")]
struct Plain;

#[ktstr_test(ignore, payload = BY_CONST, workloads = [Plain], include_files = ["Cargo.toml", "/etc/hostname"])]
fn payloads(ctx: &Ctx) -> Result<AssertResult> {
    let mut handle = ctx.payload(&BY_CONST).arg("-c").timeout(std::time::Duration::from_secs(1)).spawn()?;
    handle.try_wait()?;
    handle.wait()?;
    execute_defs(ctx, vec![CgroupDef::named("a").workload(PayloadSpec::of(&Plain).arg("x")).workload(&Plain)])
}

#[test]
fn a_payload_is_what_was_declared() {
    let fio = Fio::DEFINITION;
    assert_eq!((fio.name, fio.package, fio.output), ("my-fio", Some("fio"), PayloadOutput::Json));
    assert_eq!((fio.args, fio.include_files.len(), fio.metrics.len()), (&["-a", "-b"][..], 2, 2));
    assert_eq!((fio.metrics[0].polarity, fio.metrics[1].unit), (Polarity::LowerBetter, ""));
    assert_eq!(fio.checks[4], MetricCheck::max("y", 7.0));
    assert_eq!((Plain::DEFINITION.name, Plain::DEFINITION.output), ("plain", PayloadOutput::ExitCode));
}

#[test]
fn a_declared_scheduler_is_a_const_with_what_was_declared() {
    assert_eq!((WIDE.name, WIDE.sched_args, WIDE.kargs), ("wide", &["-v"][..], &["quiet"][..]));
    assert_eq!(WIDE.topology.map(|topology| topology.to_string()).as_deref(), Some("2n4l2c1t"));
    assert_eq!(WIDE.assert, Some(LIMITS.min_page_locality(0.5)));
    assert_eq!(WIDE.manifest_dir, env!("CARGO_MANIFEST_DIR"));
}
