//! Workspaces of others: two packages that are called almost the same inside, without a `[profile]`, outside of this checkout; and
//! archives of their tests, run elsewhere. Real cargo, real nextest, and four guests.
//!
//! What these build is kept below the target folder, and shares with the checkout's own build what is compiled alike.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ktstr::prelude::*;
use ktstr_replay::run::Run;
use ktstr_replay::trace::record::Manifest;
use ktstr_tests::{Ended, cargo_ktstr, ktstr, run_bounded, target_folder};
use tempfile::TempDir;

/// Longer than the library takes to be built once more, on a host that others use.
const LIMIT: Duration = Duration::from_secs(1800);
/// The packages: what `cargo ktstr new` writes.
const PACKAGES: [&str; 2] = ["scx_one", "scx_two"];
/// Is a variable of a scheduler's in one checkout only.
const OF_NEW: &str = "of_the_new_checkout";

/// A workspace in a folder of its own.
struct Scratch {
    root: TempDir,
}

impl Scratch {
    /// Writes it: each package as a newcomer has it, then a member.
    fn new() -> Self {
        let scratch = Self { root: tempfile::tempdir().expect("a folder") };
        let workspace = scratch.path("old");
        fs::create_dir(&workspace).expect("a folder");
        for package in PACKAGES {
            let ended = run(in_folder(cargo_ktstr(), &workspace).args(["new", package]));
            assert!(ended.status.success(), "{ended}");
        }
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Makes the packages members of one workspace without profiles, each with a test `stall` in `tests/sched.rs`; the second's fails.
    fn join(&self) {
        let workspace = self.path("old");
        let members = format!("[workspace]\nresolver = \"3\"\nmembers = {PACKAGES:?}\n");
        fs::write(workspace.join("Cargo.toml"), members).expect("a file");
        lock(&workspace);
        for package in PACKAGES {
            let folder = workspace.join(package);
            edit(&folder.join("Cargo.toml"), |text| {
                let (ours, _) = text.split_once("\n# What records and judges").expect("the profile");
                assert!(!ours.contains("profile") && !ours.contains("[workspace]"), "{ours}");
                format!("{ours}\n")
            });
            let (from, to) = (format!("tests/{package}.rs"), folder.join("tests/sched.rs"));
            fs::rename(folder.join(from), &to).expect("renamed");
            // One CPU each, so that both run at a time.
            let mut changes = vec![
                ("fn two_cgroups_share", "fn stall"),
                ("topology = (1, 1, 2, 1)", "topology = (1, 1, 1, 1)"),
                ("duration_s = 5", "duration_s = 1"),
                ("num_snapshots = 10", "num_snapshots = 2"),
            ];
            if package == "scx_two" {
                changes.push(("strictly_increasing(nr_dispatched)", "each(nr_dispatched <= 0)"));
            }
            edit(&to, |text| {
                changes.iter().fold(text, |text, (from, to)| {
                    assert!(text.contains(from), "no `{from}` in {text}");
                    text.replace(from, to)
                })
            });
        }
    }
}

/// Has cargo take the versions of this checkout, which are there.
fn lock(workspace: &Path) {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    fs::copy(ours, workspace.join("Cargo.lock")).expect("copied");
}

fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    fs::write(path, change(text)).expect("a file");
}

/// `command`, which builds in that folder as a stranger's does, apart from what makes it slower here.
fn in_folder(mut command: Command, folder: &Path) -> Command {
    command.current_dir(folder).env("CARGO_TARGET_DIR", target_folder());
    // As dependencies are built here: without, they are compiled anew.
    command.envs([("CARGO_PROFILE_DEV_DEBUG", "false"), ("CARGO_INCREMENTAL", "0"), ("CARGO_NET_OFFLINE", "true")]);
    for variable in ["KTSTR_RESULTS", "KTSTR_SAY", "KTSTR_KERNEL", "NEXTEST_RUN_ID", "NEXTEST_PROFILE"] {
        command.env_remove(variable);
    }
    // Of the test that runs this: those of the packages are looked at.
    for variable in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "NEXTEST_WORKSPACE_ROOT"] {
        command.env_remove(variable);
    }
    command
}

fn nextest(words: &[&str], folder: &Path) -> Command {
    let mut command = in_folder(Command::new("cargo"), folder);
    command.arg("nextest").args(words);
    command
}

fn run(command: &mut Command) -> Ended {
    run_bounded(command, LIMIT)
}

/// The traces in a folder, by their names.
fn traces(folder: &Path) -> BTreeMap<String, PathBuf> {
    let entries = folder.read_dir().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let name = |path: PathBuf| (path.file_name().expect("a name").to_string_lossy().into_owned(), path);
    entries.flatten().map(|entry| name(entry.path())).collect()
}

/// The outcome and the manifest of a trace.
fn judged(path: &Path) -> (Outcome, Manifest) {
    let trace = Trace::open(path).expect("a trace");
    let run = Run::load(&trace);
    (run.recorded_verdict().expect("a verdict").outcome(), run.manifest().clone())
}

fn unoptimized(manifest: &Manifest) -> bool {
    manifest.taints.iter().any(|taint| taint == Manifest::UNOPTIMIZED)
}

fn skips_without_nextest() -> bool {
    let probe = Command::new("cargo").args(["nextest", "--version"]).output();
    let is_there = probe.is_ok_and(|output| output.status.success());
    if !is_there {
        println!("cargo nextest is not installed: archives are not looked at");
    }
    !is_there
}

#[test]
fn the_workspace_of_another() {
    let scratch = Scratch::new();
    a_new_package_is_a_workspace_of_its_own(&scratch);
    scratch.join();
    packages_with_tests_of_one_name_run_together(&scratch);
    if !skips_without_nextest() {
        an_archive_is_run_elsewhere(&scratch);
    }
}

/// It was a member of this workspace in all tests, and did not have its own profile.
fn a_new_package_is_a_workspace_of_its_own(scratch: &Scratch) {
    let folder = scratch.path("old").join(PACKAGES[0]);
    lock(&folder);
    let ended = run(in_folder(cargo_ktstr(), &folder).args(["list", "--json"]));
    assert!(ended.status.success(), "{ended}");
    let tests: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!((&tests[0]["name"], &tests[0]["cpus"]), (&"two_cgroups_share".into(), &2.into()), "{ended}");
    fs::remove_file(folder.join("Cargo.lock")).expect("removed");
}

/// One of them always failed, as both wanted one file; and what recorded them was not optimized, as no profile said it.
fn packages_with_tests_of_one_name_run_together(scratch: &Scratch) {
    let results = scratch.path("results of both");
    let mut command = in_folder(cargo_ktstr(), &scratch.path("old"));
    let ended = run(command.args(["test", "--no-fail-fast"]).env("KTSTR_RESULTS", &results));
    assert!(!ended.status.success(), "one of them fails: {ended}");
    let [run] = traces(&results).into_values().collect::<Vec<_>>().try_into().expect("a folder of the run");
    let traces = traces(&run);
    let names = PACKAGES.map(|package| format!("{package}.sched.stall.trace.zst"));
    assert!(traces.keys().eq(&names), "{traces:?}\n{ended}");
    for (package, (path, outcome)) in PACKAGES.iter().zip(traces.values().zip([Outcome::Pass, Outcome::Fail])) {
        let (found, manifest) = judged(path);
        assert_eq!(found, outcome, "{package}: {ended}");
        assert_eq!(manifest.test.package, format!("{package}::sched"));
        assert!(!unoptimized(&manifest), "{package}: {:?}", manifest.taints);
        let said = format!("{package}::sched:\n{outcome} stall");
        assert!(ended.stdout.contains(&said), "no `{said}` in {ended}");
    }
    assert!(!ended.stderr.contains("without optimization"), "{ended}");
}

/// Of an archive the sources of the checkout that compiled it were tested in silence, and the traces were removed with it.
fn an_archive_is_run_elsewhere(scratch: &Scratch) {
    let [old, new, away] = ["old", "new", "away"].map(|name| scratch.path(name));
    let archive = scratch.path("tests.tar.zst");
    let archive = archive.to_str().expect("a path");
    // What is not optimized is the recorder alone: nothing else tells the difference, and it is compiled once more for this.
    let mut words = vec!["archive", "--archive-file", archive];
    let settings: Vec<String> = OPTIMIZED.iter().map(|of| format!("profile.dev.package.{of}.opt-level=2")).collect();
    words.extend(settings.iter().flat_map(|setting| ["--config", setting]));
    let ended = run(&mut nextest(&words, &old));
    assert!(ended.status.success(), "{ended}");
    assert!(Command::new("cp").arg("-r").args([&old, &new]).status().expect("cp").success());
    let source = |workspace: &Path| workspace.join("scx_one/scx_one/scx_one.bpf.c");
    edit(&source(&new), |text| text.replace("\nu64 nr_enqueued;", &format!("\nu64 {OF_NEW} = 4711;\nu64 nr_enqueued;")));

    fs::rename(&old, &away).expect("moved away");
    let new_text = new.to_str().expect("a path");
    let words = ["run", "--archive-file", archive, "--workspace-remap", new_text, "-E", "package(scx_one)"];
    let ended = run(nextest(&words, scratch.root.path()).env_remove("CARGO_TARGET_DIR"));
    let runs = new.join("target/ktstr");
    let [folder] = traces(&runs).into_values().collect::<Vec<_>>().try_into().expect("a folder of the run");
    assert!(ended.stderr.contains(&format!("traces go to {}", folder.display())), "{ended}");
    let (outcome, manifest) = of_new(&folder, &ended);
    assert_eq!(outcome, Outcome::Pass, "{ended}");
    assert!(unoptimized(&manifest), "{:?}", manifest.taints);
    assert_eq!(ended.stderr.matches("this build records without optimization").count(), 1, "{ended}");

    // The old checkout is there again, and its scheduler is none any more.
    fs::rename(&away, &old).expect("moved back");
    edit(&source(&old), |text| format!("#error these are the sources of the old checkout\n{text}"));
    let results = scratch.path("results of the archive");
    let mut command = nextest(&words, scratch.root.path());
    let ended = run(command.env_remove("CARGO_TARGET_DIR").env("KTSTR_RESULTS", &results));
    assert_eq!(of_new(&results, &ended).0, Outcome::Pass, "{ended}");
    assert!(!ended.stderr.contains("traces go to"), "who gave the folder knows it: {ended}");
}

/// The packages besides the recorder that are optimized, as in what `cargo ktstr new` writes.
const OPTIMIZED: [&str; 8] =
    ["ktstr-replay", "bytecheck", "memchr", "object", "rkyv", "vm-memory", "xxhash-rust", "zstd-sys"];

/// The outcome of the only trace in a folder, and its manifest; its scheduler is that of the new checkout.
fn of_new(folder: &Path, ended: &Ended) -> (Outcome, Manifest) {
    let traces = traces(folder);
    let [(name, path)] = traces.iter().collect::<Vec<_>>().try_into().expect("a trace");
    assert_eq!(name, "scx_one.sched.stall.trace.zst", "{ended}");
    let replayed = run(ktstr().arg("replay").arg(path).args(["--var", OF_NEW]));
    assert!(replayed.status.success() && replayed.stdout.contains("4711"), "{replayed}\n{ended}");
    judged(path)
}
