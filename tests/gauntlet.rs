//! The gauntlet: a test on machines that are not its own, found, chosen, run and skipped by the commands for it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use ktstr::prelude::*;
use ktstr_tests::{Ended, cargo_ktstr, fixture, has_nextest, run_bounded};

/// Longer than any of the commands may take: they build, and machines wait for free CPUs of the host.
const LIMIT: Duration = Duration::from_secs(1200);

declare_scheduler!(DEMO, {
    name = "demo",
    source = "scx_demo",
    constraints = Constraints::NONE.max_cpus(8).max_llcs(3),
});

/// On its own machine it has one LLC; the bounds are for the gauntlet.
#[ktstr_test(
    scheduler = DEMO,
    min_llcs = 2,
    max_llcs = 2,
    duration_s = 2,
    num_snapshots = 2,
    checkpoint = ends,
    claims = ["each(nr_dispatched >= 1)"]
)]
fn shares(ctx: &Ctx) -> Result<AssertResult> {
    let last = ctx.topo.llcs.len() - 1;
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1").cpuset(CpusetSpec::Llc(last))])
}

fn command(words: &[&str]) -> Ended {
    run_bounded(cargo_ktstr().args(words).current_dir(env!("CARGO_MANIFEST_DIR")), LIMIT)
}

/// The variants that a run of it left traces of, each with its machine.
fn machines(run: &Ended) -> BTreeMap<String, String> {
    let traces = run.stdout.lines().filter_map(|line| line.trim().strip_prefix("again: ktstr replay "));
    let traces = traces.filter_map(|rest| rest.strip_suffix(" --assert"));
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let of = |path: &str| {
        let trace = Trace::open(&root.join(path)).expect("a trace");
        let manifest = trace.manifest().expect("a manifest");
        (manifest.test.name.clone(), manifest.machine.topology.clone())
    };
    traces.map(of).collect()
}

/// Of the presets, two have two LLCs, one node and at most eight CPUs.
#[test]
fn a_test_is_run_on_every_machine_that_it_is_for_and_on_no_other() {
    let run = command(&["test", "gauntlet", "--gauntlet", "--package", "ktstr-tests"]);
    assert!(run.status.success(), "{run}");
    assert!(run.stderr.contains("gauntlet: 2 of 16 variants, about 1 min"), "{run}");
    assert!(run.stderr.contains("1 LLC, `min_llcs` is 2"), "a bound of the test:\n{run}");
    assert!(
        run.stderr.contains("3 LLCs, `max_llcs` is 2"),
        "a bound of the test over the scheduler's:\n{run}"
    );
    let expected = [
        ("gauntlet_shares::llcs2_cpus4".to_owned(), "1n2l2c1t".to_owned()),
        ("gauntlet_shares::llcs2_cpus8_smt".to_owned(), "1n2l2c2t".to_owned()),
    ];
    let expected = BTreeMap::from(expected);
    assert_eq!(machines(&run), expected, "{run}");
    let table: Vec<Vec<&str>> =
        run.stdout.lines().rev().take(2).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(table, [["gauntlet::shares", "PASS", "PASS"], ["test", "1n2l2c1t", "1n2l2c2t"]], "{run}");
    if !has_nextest() {
        return;
    }
    // A job of two that share them runs the one, and does not miss the other.
    let part = ["test", "gauntlet", "--gauntlet", "--package", "ktstr-tests", "--partition", "count:1/2"];
    let part = command(&part);
    assert!(part.status.success() && part.stderr.contains("gauntlet: 2 of 16 variants"), "{part}");
    let of_part = machines(&part);
    assert!(of_part.len() == 1 && of_part.iter().all(|one| expected.iter().any(|of| of == one)), "{part}");
    assert!(part.stderr.contains("gauntlet: 1 of these 2 are in the part count:1/2"), "{part}");
    let topology = of_part.values().next().expect("one");
    let table: Vec<Vec<&str>> =
        part.stdout.lines().rev().take(2).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(table, [vec!["gauntlet::shares", "PASS"], vec!["test", topology]], "{part}");
    // A person's expression chooses among the variants, and adds no tests to them.
    let chosen = [
        "test",
        "gauntlet",
        "--gauntlet",
        "--package",
        "ktstr-tests",
        "--",
        "-E",
        "test(/_smt$/) | test(=other)",
    ];
    let chosen = command(&chosen);
    assert!(chosen.status.success(), "{chosen}");
    assert!(chosen.stderr.contains("gauntlet: 1 of these 2 are chosen"), "{chosen}");
    let (smt, _) = expected.iter().find(|(name, _)| name.ends_with("_smt")).expect("one");
    assert_eq!(machines(&chosen).keys().collect::<Vec<_>>(), [smt], "{chosen}");
}

/// The machine of a variant, though the binaries are asked for tests only, and need not have any variants.
#[test]
fn a_shell_is_in_the_guest_of_a_variant() {
    let folder = tempfile::tempdir().expect("a folder");
    let commands = folder.path().join("commands");
    fs::write(&commands, "echo $(nproc) CPUs under $(cat /sys/kernel/sched_ext/root/ops)\n").expect("a file");
    let shell = |test: &str| {
        let mut shell = cargo_ktstr();
        shell.args(["shell", test, "--package", "ktstr-tests"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        shell.env("KTSTR_RESULTS", folder.path()).env_remove("KTSTR_SAY");
        let output = shell.stdin(fs::File::open(&commands).expect("the commands")).output().expect("started");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, stdout, stderr) = shell("gauntlet::gauntlet_shares::llcs2_cpus4");
    assert!(code == Some(0) && stdout.contains("4 CPUs under demo\n"), "{code:?}\n{stdout}\n{stderr}");
    assert!(stderr.contains("gauntlet::shares on llcs2_cpus4 is coming up"), "{stderr}");
    let traces = fs::read_dir(folder.path()).expect("a folder").flatten().map(|entry| entry.path());
    let traces: Vec<PathBuf> = traces.filter(|path| path.to_string_lossy().ends_with(".trace.zst")).collect();
    let [trace] = traces.as_slice() else { panic!("not one trace: {traces:?}") };
    let trace = Trace::open(trace).expect("a trace");
    assert_eq!(trace.manifest().expect("a manifest").machine.topology, "1n2l2c1t", "{stderr}");
    // What is not run as a test has no shell either.
    let (code, _, stderr) = shell("gauntlet::gauntlet_shares::llcs1_cpus4");
    let why = "gauntlet::shares is not run on llcs1_cpus4: 1 LLC, `min_llcs` is 2";
    assert!(code == Some(3) && stderr.contains(why), "{code:?}\n{stderr}");
}

/// In the place of a test binary: lists its tests, and passes without running any.
const RUNS_NOTHING: &str = r#"#!/bin/sh
case " $* " in *" --list "*) exec "$@" ;; esac
"#;

/// With `--partition` nobody noticed that a variant had left nothing: what is another job's was not told from it.
#[test]
fn a_variant_that_leaves_no_trace_is_missed_by_the_job_whose_part_it_is() {
    if !has_nextest() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let stand_in = folder.path().join("runs-nothing");
    fs::write(&stand_in, RUNS_NOTHING).expect("a file");
    fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).expect("permissions");
    for (choice, planned, columns) in [
        ("", 2, 2),
        ("--partition count:1/2", 1, 1),
        ("--partition count:2/2", 1, 1),
        // The part is one of what a person's expression has.
        ("--partition count:1/1 -- -E test(/_smt$/)", 1, 1),
    ] {
        let mut test = cargo_ktstr();
        test.args(["test", "gauntlet", "--gauntlet", "--package", "ktstr-tests"]);
        test.args(choice.split_whitespace());
        test.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", &stand_in);
        let run = run_bounded(test.current_dir(env!("CARGO_MANIFEST_DIR")), LIMIT);
        assert_eq!(run.status.code(), Some(3), "{run}");
        let missed = format!("{planned} runs were planned, and 0 left a trace");
        assert!(run.stderr.contains(&missed), "no `{missed}` in {run}");
        let line = run.stdout.lines().find(|line| line.starts_with("gauntlet::shares"));
        let cells: Vec<&str> = line.unwrap_or_default().split_whitespace().skip(1).collect();
        assert_eq!(cells, vec!["-"; columns], "{run}");
    }
}

#[test]
fn a_machine_that_is_none_of_the_tests_is_skipped_with_the_reason() {
    let run = fixture("gauntlet_shares::nodes2_llcs2_cpus8").run();
    assert!(run.status.success(), "{run}");
    let line = "SKIP gauntlet_shares::nodes2_llcs2_cpus8: 2 NUMA nodes, `max_numa_nodes` is 1";
    assert_eq!(run.report().lines().next(), Some(line), "{run}");
    run.assert_replays();
}

#[test]
fn tests_say_what_they_are_without_being_run() {
    let run = command(&["list", "gauntlet", "--package", "ktstr-tests", "--json"]);
    assert!(run.status.success(), "{run}");
    let tests: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    let tests = tests.as_array().expect("an array");
    assert_eq!(tests.len(), 1, "plain tests and variants are none of ours:\n{run}");
    assert_eq!((&tests[0]["name"], &tests[0]["topology"]), (&"shares".into(), &"1n1l2c1t".into()), "{run}");
    let run = command(&["list", "no such test", "--package", "ktstr-tests"]);
    assert_eq!(run.status.code(), Some(3), "{run}");
    assert!(run.stderr.contains("no test with #[ktstr_test] has `no such test` in its name"), "{run}");
}

#[test]
fn a_budget_in_which_nothing_can_be_run_is_an_error() {
    let run = command(&["test", "gauntlet", "--gauntlet", "--budget", "1ms", "--package", "ktstr-tests"]);
    assert_eq!(run.status.code(), Some(3), "{run}");
    assert!(run.stderr.contains("beyond the budget"), "{run}");
    let run = command(&["test", "--gauntlet", "--budget", "soon"]);
    assert!(run.stderr.contains("write it as 10m"), "{run}");
}
