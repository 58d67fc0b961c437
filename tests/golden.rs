//! The golden traces: that every reader to come explains them as this one does, and the runs that made them.
//!
//! `traces/README.md` says how they are made from the two fixtures here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ktstr::prelude::*;
use ktstr_tests::{ktstr, run_bounded};

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 5,
    num_snapshots = 10,
    checkpoint = "never",
    not_starved,
    claims = ["nondecreasing(nr_dispatched)", "each(nr_dispatched >= 1)", "always(alive)"]
)]
fn steady(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 8,
    num_snapshots = 10,
    checkpoint = "never",
    claims = ["strictly_increasing(nr_dispatched)", "always(alive)"],
    extra_sched_args = ["--stall-after-ms", "2000", "--timeout-ms", "2000"]
)]
fn stall(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

fn traces() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces")
}

/// `ktstr replay --assert` of a golden trace: its exit code, and the report that lies beside it, byte for byte.
fn explains(name: &str, passes: bool) {
    let trace = traces().join(format!("{name}.trace.zst"));
    let replay = run_bounded(ktstr().arg("replay").arg(&trace).arg("--assert"), Duration::from_secs(60));
    assert_eq!(replay.status.success(), passes, "{replay}");
    let expected = std::fs::read_to_string(traces().join(format!("{name}.report.txt"))).expect("the report");
    let report: String = replay
        .stdout
        .lines()
        .filter(|line| !line.starts_with("trace: "))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(report, expected, "the report of {name} has changed; if it should, see traces/README.md");
}

/// `ktstr why` of the stall, byte for byte. It has no checkpoint: samples and the kernel's dump are the evidence.
#[test]
fn the_stall_is_told_as_ever() {
    let why = run_bounded(ktstr().arg("why").arg(traces().join("stall.trace.zst")), Duration::from_secs(60));
    assert!(why.status.success(), "{why}");
    let expected = std::fs::read_to_string(traces().join("stall.why.txt")).expect("the story");
    assert_eq!(
        why.stdout, expected,
        "the story of the stall has changed; if it should, see traces/README.md"
    );
}

#[test]
fn the_steady_trace_is_explained_as_ever() {
    explains("steady", true);
}

#[test]
fn the_stall_is_explained_as_ever() {
    explains("stall", false);
}
