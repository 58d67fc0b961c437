//! Performance mode, from a test's attribute and from the command line to the report.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ktstr::prelude::*;
use ktstr_replay::trace::record::Manifest;
use ktstr_replay::trace::record::manifest::PerformancePart;
use ktstr_tests::{TestRun, cargo_ktstr, fixture, run_bounded};

const LIMIT: Duration = Duration::from_secs(900);

#[ktstr_test(ignore, performance, cores = 1, duration_s = 1, num_snapshots = 1)]
fn on_a_cpu_of_its_own(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

#[ktstr_test(ignore, cores = 1, duration_s = 1, num_snapshots = 1)]
fn beside_others(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

/// More vCPUs than any host has CPUs to spare, and few enough for one of four CPUs to run them.
#[ktstr_test(ignore, performance, llcs = 8, cores = 4, memory_mib = 1024, duration_s = 1)]
fn on_more_cpus_than_there_are(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Trace and report say what was in force and what was not.
fn assert_told(run: &TestRun) {
    assert!(run.status.success(), "{run}");
    run.assert_replays();
    let trace = run.trace();
    let manifest = trace.manifest().expect("a manifest");
    let parts = &manifest.machine.performance;
    let told: Vec<&str> = parts.iter().map(|part| part.what.as_str()).collect();
    assert_eq!(told, PerformancePart::ALL);
    assert!(parts[0].in_force && parts[1].in_force, "{parts:?}");
    let in_part = manifest.taints.iter().any(|taint| taint == Manifest::PERFORMANCE_IN_PART);
    assert_eq!(in_part, parts.iter().any(|part| !part.in_force), "{:?}", manifest.taints);
    let report = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(report.contains("performance mode: CPUs of its own (vCPUs 0 to 0 on "), "{run}");
    for part in parts.iter().filter(|part| !part.in_force) {
        assert!(report.contains(&format!("{} ({})", part.what, part.detail)), "{part:?} in\n{run}");
    }
}

#[test]
fn a_test_in_performance_mode_says_what_was_in_force() {
    let run = fixture("on_a_cpu_of_its_own").run();
    if cpus() == 1 {
        assert!(!run.status.success() && run.stderr.contains("performance mode cannot be had"), "{run}");
        return;
    }
    assert_told(&run);
    assert_told(&fixture("beside_others").env("KTSTR_PERFORMANCE", "1").run());
    let run = fixture("beside_others").env("KTSTR_PERFORMANCE", "0").run();
    assert!(run.trace().manifest().expect("a manifest").machine.performance.is_empty(), "{run}");
    assert!(run.status.success() && !run.stdout.contains("performance mode"), "{run}");
}

#[test]
fn a_host_that_cannot_give_it_says_why_and_runs_nothing() {
    if cpus() > 32 {
        return println!("not run: this host has a CPU for each vCPU");
    }
    let run = fixture("on_more_cpus_than_there_are").run();
    assert!(!run.status.success(), "{run}");
    // On one CPU or none to spare it is the number of vCPUs that no machine carries.
    if cpus() > 1 {
        assert!(
            run.stderr.contains("performance mode cannot be had: 32 vCPUs and ktstr's own threads"),
            "{run}"
        );
    }
    assert!(run.results().is_empty(), "{run}");
}

/// The option is for tests that do not ask for it.
#[test]
fn the_option_puts_a_test_into_performance_mode() {
    if cpus() == 1 {
        return println!("not run: this host has no CPU to spare");
    }
    let results = tempfile::tempdir().expect("a folder");
    let mut command = cargo_ktstr();
    command.args(["test", "performance", "-p", "ktstr-tests", "--performance"]);
    command.args(["--", "--", "--ignored", "--exact", "beside_others"]);
    command.env("KTSTR_RESULTS", results.path()).current_dir(env!("CARGO_MANIFEST_DIR"));
    let ended = run_bounded(&mut command, LIMIT);
    assert!(ended.status.success(), "{ended}");
    assert!(ended.stdout.contains("PASS beside_others"), "{ended}");
    let traces = |folder: &Path| {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let runs = traces(results.path());
    let [run] = &runs[..] else { panic!("{runs:?}") };
    let found = traces(run);
    let trace = found.iter().find(|path| path.to_string_lossy().ends_with(".trace.zst"));
    let trace = Trace::open(trace.unwrap_or_else(|| panic!("{found:?}"))).expect("a trace");
    let parts = &trace.manifest().expect("a manifest").machine.performance;
    assert!(parts.first().is_some_and(|part| part.in_force), "{parts:?}");
}
