//! Workspaces of others: two packages that are called almost the same inside, without a `[profile]`, outside of this checkout; and
//! archives of their tests, run elsewhere. Real cargo, real nextest, and four guests.
//!
//! The library is compiled once more for it, without optimization, as that is what cargo does here unless it is told otherwise, and takes
//! the least time. It is kept in the target folder, and shares with the checkout's own build what is compiled alike; or in a folder of its
//! own, in which it was compiled ahead. What a new package's profile says, and what `cargo ktstr test` tells cargo, is looked at in the
//! graph of what cargo would build; the latter is taken out of the words of the run itself.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ktstr::prelude::*;
use ktstr_record::provision::{Cache, KernelSpec, Provisioner};
use ktstr_record::scheduler::build_c;
use ktstr_replay::run::Run;
use ktstr_replay::trace::record::Manifest;
use ktstr_tests::{Ended, cargo_ktstr, has_nextest, ktstr, run_bounded, target_folder};
use tempfile::TempDir;

/// Longer than the library takes to be built once more, on a host that others use.
const LIMIT: Duration = Duration::from_secs(1800);
/// The packages: what `cargo ktstr new` writes.
const PACKAGES: [&str; 2] = ["scx_one", "scx_two"];
/// In the place of cargo: writes down its words, each on a line and an empty one behind, and does without the settings among them.
const CARGO: &str = r#"#!/bin/sh
{ printf '%s\n' "$@"; echo; } >>"$0.words"
for word; do
  shift
  case $is_setting$word in
    yes*) is_setting= ;;
    --config) is_setting=yes ;;
    *) set -- "$@" "$word" ;;
  esac
done
exec cargo "$@"
"#;
/// Has the variants of tests compiled. This repository has it set.
const GAUNTLET: &str = "KTSTR_GAUNTLET";
/// Names a folder for what is compiled here, instead of the target folder: other tests build in that one, and would wait for a build that
/// goes on beside them.
const OWN_TARGET: &str = "KTSTR_WORKSPACE_TARGET";
/// Begins the profile in the manifest of a new package.
const PROFILE: &str = "\n# What records and judges";
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

    /// Writes [`CARGO`], or what was made of it, under this name.
    fn write_cargo(&self, name: &str, script: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, script).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
        path
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
                let (ours, _) = text.split_once(PROFILE).expect("the profile");
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
                // It has its program as a file; that it fails is by what that counts.
                changes.push(("source = \"scx_two\"", "binary_path = \"programs/two\""));
                let programs = folder.join("programs");
                fs::create_dir(&programs).expect("a folder");
                fs::copy(program(&folder.join(package), package), programs.join("two")).expect("a copy");
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

/// The program of a scheduler with these sources, as tests have it built that declare them.
fn program(sources: &Path, name: &str) -> PathBuf {
    let provisioner = Provisioner::open().expect("provisioning");
    let kernel = provisioner.kernel(&KernelSpec::Latest).expect("a kernel");
    let toolchain = provisioner.toolchain().expect("the toolchain");
    let cache = Cache::open().expect("the cache");
    build_c(sources, name, &kernel, &toolchain, &cache).expect("the scheduler")
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
    let target = env::var_os(OWN_TARGET).map_or_else(target_folder, PathBuf::from);
    command.current_dir(folder).env("CARGO_TARGET_DIR", target);
    // As dependencies are built here: without, they are compiled anew.
    command.envs([
        ("CARGO_PROFILE_DEV_DEBUG", "false"),
        ("CARGO_INCREMENTAL", "0"),
        ("CARGO_NET_OFFLINE", "true"),
    ]);
    for variable in
        ["KTSTR_RESULTS", "KTSTR_SAY", "KTSTR_KERNEL", "NEXTEST_RUN_ID", "NEXTEST_PROFILE", GAUNTLET]
    {
        command.env_remove(variable);
    }
    // Of the test that runs this: those of the packages are looked at.
    for variable in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "NEXTEST_WORKSPACE_ROOT"]
    {
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

/// Compiles what takes long in the other test: `.ci/whole` has it done beside the tests before that one.
#[test]
#[ignore = "compiles ahead, into the folder of KTSTR_WORKSPACE_TARGET"]
fn is_compiled_ahead() {
    assert!(env::var_os(OWN_TARGET).is_some(), "{OWN_TARGET} names no folder");
    let scratch = Scratch::new();
    let folder = scratch.path("old").join(PACKAGES[0]);
    lock(&folder);
    edit(&folder.join("Cargo.toml"), without_profile);
    let ended = run(in_folder(Command::new("cargo"), &folder).args(["test", "--no-run"]));
    assert!(ended.status.success(), "{ended}");
}

#[test]
fn the_workspace_of_another() {
    let scratch = Scratch::new();
    a_new_package_is_a_workspace_of_its_own(&scratch);
    scratch.join();
    packages_with_tests_of_one_name_run_together(&scratch);
    variants_are_compiled_for_the_gauntlet_alone(&scratch);
    an_optimized_build_is_cargos_own(&scratch);
    if has_nextest() {
        an_archive_is_run_elsewhere(&scratch);
    }
}

/// The manifest of a new package as it is without its profile.
fn without_profile(text: String) -> String {
    let (before, profile) = text.split_once(PROFILE).expect("the profile");
    let (_, after) = profile.split_once("\n\n").expect("what is behind the profile");
    format!("{before}\n{after}")
}

/// It was a member of this workspace in all tests, and did not have its own profile. What that says is looked at; by it, the library would
/// be compiled once more.
fn a_new_package_is_a_workspace_of_its_own(scratch: &Scratch) {
    let folder = scratch.path("old").join(PACKAGES[0]);
    lock(&folder);
    let as_written = levels(&folder, &["test"]);
    for (package, level) in
        [("ktstr-record", "2"), ("ktstr-replay", "2"), ("zstd-sys", "2"), ("scx_one", "0")]
    {
        assert_eq!(as_written.get(package).map(String::as_str), Some(level), "{package} in {as_written:?}");
    }
    let manifest = folder.join("Cargo.toml");
    let with_profile = fs::read_to_string(&manifest).expect("a manifest");
    edit(&manifest, without_profile);
    // A list is built as the tests are, with these settings.
    let cargo = scratch.write_cargo("cargo that lists", CARGO);
    let ended = run(in_folder(cargo_ktstr(), &folder).args(["list", "--json"]).env("CARGO", &cargo));
    assert!(ended.status.success(), "{ended}");
    let tests: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!((&tests[0]["name"], &tests[0]["cpus"]), (&"two_cgroups_share".into(), &2.into()), "{ended}");

    // A claim with a slip of the pen is shown, and is a failure.
    let test = folder.join(format!("tests/{}.rs", PACKAGES[0]));
    let test_as_written = fs::read_to_string(&test).expect("a test");
    edit(&test, |text| {
        text.replace("strictly_increasing(nr_dispatched)", "strictly_increasing(nr_dispatched")
    });
    let ended = run(in_folder(cargo_ktstr(), &folder).args(["list"]).env("CARGO", &cargo));
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    assert!(ended.stderr.contains("  | strictly_increasing(nr_dispatched\n  | "), "{ended}");
    fs::write(&test, test_as_written).expect("a file");
    fs::write(&manifest, with_profile).expect("a file");
    fs::remove_file(folder.join("Cargo.lock")).expect("removed");
}

/// One of them always failed, as both wanted one file; and what recorded them was not optimized, as no profile said it.
fn packages_with_tests_of_one_name_run_together(scratch: &Scratch) {
    let (workspace, results) = (scratch.path("old"), scratch.path("results of both"));
    let cargo = scratch.write_cargo("cargo", CARGO);
    let mut command = in_folder(cargo_ktstr(), &workspace);
    command.args(["test", "--no-fail-fast"]).env("KTSTR_RESULTS", &results).env("CARGO", &cargo);
    command.env("PATH", with_an_emulator_that_fails(scratch)).env_remove("KTSTR_QEMU");
    let ended = run(&mut command);
    assert!(!ended.status.success(), "one of them fails: {ended}");
    let [run] = traces(&results).into_values().collect::<Vec<_>>().try_into().expect("a folder of the run");
    let traces = traces(&run);
    let names = PACKAGES.map(|package| format!("{package}.sched.stall.trace.zst"));
    assert!(traces.keys().eq(&names), "{traces:?}\n{ended}");
    for (package, (path, outcome)) in PACKAGES.iter().zip(traces.values().zip([Outcome::Pass, Outcome::Fail]))
    {
        let (found, manifest) = judged(path);
        assert_eq!(found, outcome, "{package}: {ended}");
        assert_eq!(manifest.test.package, format!("{package}::sched"));
        let program = manifest.scheduler.as_ref().map(|scheduler| scheduler.binary.as_str());
        assert_eq!(program == Some("two"), *package == "scx_two", "{program:?}: {ended}");
        let said = format!("{package}::sched:\n{outcome} stall");
        assert!(ended.stdout.contains(&said), "no `{said}` in {ended}");
    }
    assert!(!ended.stderr.contains("this build records without"), "who runs this need not be told: {ended}");
    // Whoever waits for minutes sees what for, and what is known of the host is said once, though the tests are processes of their own.
    for package in PACKAGES {
        let said = format!("Compiling {package} ");
        assert!(ended.stderr.contains(&said), "no `{said}` in {ended}");
    }
    // It was compiled once more for the tests than for their list, which took as long as all else here.
    assert!(!ended.stderr.contains("Compiling ktstr-record "), "{ended}");
    let is_emulated = ended.stderr.contains(", QEMU ");
    assert_eq!(ended.stderr.matches("is not used: ").count(), usize::from(is_emulated), "{ended}");

    let words = fs::read_to_string(scratch.path("cargo.words")).expect("words");
    let commands: Vec<Vec<&str>> = words.split("\n\n").map(|words| words.lines().collect()).collect();
    let of_builds: Vec<&Vec<&str>> = commands.iter().filter(|words| words.contains(&"-p")).collect();
    assert!(!of_builds.is_empty(), "{commands:?}");
    if has_nextest() {
        // nextest built them once more, and asked for the workspace again: half of what both take where nothing is to be compiled.
        let given = |words: &[&str]| {
            ["--cargo-metadata", "--binaries-metadata"].iter().all(|option| words.contains(option))
        };
        let runs: Vec<_> = commands.iter().filter(|words| words.starts_with(&["nextest", "run"])).collect();
        let asked = commands.iter().filter(|words| words.starts_with(&["metadata"])).count();
        assert_eq!((of_builds.len(), runs.len(), asked), (1, 1, 1), "{commands:?}");
        assert!(given(runs[0]), "{commands:?}");
    }
    let settings = |words: &[&str]| words.iter().filter(|word| word.starts_with("profile.")).count();
    assert!(of_builds.iter().all(|words| settings(words) == settings(of_builds[0])), "{commands:?}");
    // What of them cargo itself takes.
    let of_cargo = of_builds[0].windows(2).filter(|words| matches!(words[0], "-p" | "--config"));
    let of_cargo: Vec<&str> = ["test"].into_iter().chain(of_cargo.flatten().copied()).collect();
    let optimized = levels(&workspace, &of_cargo);
    for package in ["ktstr-record", "ktstr-replay", "rkyv", "zstd-sys"] {
        assert_eq!(optimized.get(package).map(String::as_str), Some("2"), "{package} in {optimized:?}");
    }
    // That is by these words.
    let plain = levels(&workspace, &["test", "-p", PACKAGES[0]]);
    assert!(plain.values().all(|level| level == "0"), "{plain:?}");
    assert_eq!(optimized.get("scx_one"), plain.get("scx_one"));
}

/// They are sixteen functions for each test. Where they are compiled, every runner finds them.
fn variants_are_compiled_for_the_gauntlet_alone(scratch: &Scratch) {
    let (workspace, cargo) = (scratch.path("old"), scratch.path("cargo"));
    let listed = |value: &str| {
        let mut command = in_folder(Command::new("cargo"), &workspace);
        command.args(["test", "-p", PACKAGES[0], "--test", "sched", "--", "--list", "--ignored"]);
        let ended = run(command.env(GAUNTLET, value));
        assert!(ended.status.success(), "{ended}");
        ended.stdout.lines().filter(|line| line.starts_with("gauntlet_stall::")).count()
    };
    assert_eq!(["", "1", "0"].map(listed), [0, 16, 0]);
    let mut command = in_folder(cargo_ktstr(), &workspace);
    // Where the host has few CPUs, one machine is all that there is time for.
    command.args(["test", "--gauntlet", "--budget", "20s", "--package", PACKAGES[0]]);
    // A part that is all of it, of which nextest's list says what is in it.
    command.args(has_nextest().then_some(["--partition", "count:1/1"]).into_iter().flatten());
    command.env("KTSTR_RESULTS", scratch.path("results of the gauntlet")).env("CARGO", &cargo);
    // Who runs this test may have it, as this repository's cargo does.
    command.env_remove(GAUNTLET);
    let ended = run(&mut command);
    assert!(ended.status.success() && ended.stderr.contains("of 16 variants"), "{ended}");
    assert!(ended.stdout.contains("PASS gauntlet_stall::"), "{ended}");
}

/// Who asks for cargo's release profile gets it, for what is built first and for the library: our settings are for the other one.
fn an_optimized_build_is_cargos_own(scratch: &Scratch) {
    let workspace = scratch.path("old");
    let script = CARGO.replace("exec cargo", r#"[ "$1" != test ] || exit 7; exec cargo"#);
    let cargo = scratch.write_cargo("cargo that builds nothing", &script);
    let mut command = in_folder(cargo_ktstr(), &workspace);
    let ended = run(command.args(["test", "--", "--release"]).env("CARGO", &cargo));
    assert_eq!(ended.status.code(), Some(7), "{ended}");
    let words = fs::read_to_string(scratch.path("cargo that builds nothing.words")).expect("words");
    let build: Vec<&str> = words
        .split("\n\n")
        .map(|words| words.lines().collect())
        .find(|words: &Vec<&str>| words.contains(&"-p"))
        .expect("a build");
    assert!(build.contains(&"--release"), "{build:?}");
    let optimized = levels(&workspace, &build);
    for package in ["ktstr-record", "ktstr-replay", "rkyv", "zstd-sys", "scx_one"] {
        assert_eq!(optimized.get(package).map(String::as_str), Some("3"), "{package} in {optimized:?}");
    }
}

/// A `PATH` on which the first emulator is one that cannot be used.
fn with_an_emulator_that_fails(scratch: &Scratch) -> OsString {
    let folder = scratch.path("bin");
    fs::create_dir(&folder).expect("a folder");
    let emulator = folder.join("qemu-system-x86_64");
    fs::write(&emulator, "#!/bin/sh\nexit 1\n").expect("a file");
    fs::set_permissions(&emulator, fs::Permissions::from_mode(0o755)).expect("permissions");
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths([folder].into_iter().chain(env::split_paths(&path))).expect("a path")
}

/// The levels at which cargo would have its packages' libraries and programs optimized, given these words.
fn levels(workspace: &Path, words: &[&str]) -> BTreeMap<String, String> {
    // The graph is for those who develop cargo, who have it say more than its releases do.
    let is_of_build = |word: &&&str| !matches!(**word, "--no-run") && !word.starts_with("--message-format");
    let mut command = in_folder(Command::new("cargo"), workspace);
    command.arg("test").args(words.iter().skip(1).filter(is_of_build));
    command.args(["--no-run", "-Z", "unstable-options", "--unit-graph"]).env("RUSTC_BOOTSTRAP", "1");
    let ended = run(&mut command);
    let graph: serde_json::Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}"));
    let units = graph["units"].as_array().expect("units").iter();
    let of_target = units
        .filter(|unit| unit["mode"] != "run-custom-build" && unit["target"]["kind"][0] != "custom-build");
    let level = |unit: &serde_json::Value| {
        let id = unit["pkg_id"].as_str()?;
        let name = id.rsplit_once('#')?.1.split('@').next()?;
        // `path+file:///a/name#0.1.0` is `name`.
        let name = if name.starts_with(|c: char| c.is_ascii_digit()) {
            id.rsplit_once('#')?.0.rsplit('/').next()?
        } else {
            name
        };
        Some((name.to_owned(), unit["profile"]["opt_level"].as_str()?.to_owned()))
    };
    of_target.filter_map(level).collect()
}

/// Of an archive the sources of the checkout that compiled it were tested in silence, and the traces were removed with it.
fn an_archive_is_run_elsewhere(scratch: &Scratch) {
    let [old, new, away] = ["old", "new", "away"].map(|name| scratch.path(name));
    let archive = scratch.path("tests.tar.zst");
    let archive = archive.to_str().expect("a path");
    let ended = run(&mut nextest(&["archive", "--archive-file", archive], &old));
    assert!(ended.status.success(), "{ended}");
    assert!(Command::new("cp").arg("-r").args([&old, &new]).status().expect("cp").success());
    let source = |workspace: &Path| workspace.join("scx_one/scx_one/scx_one.bpf.c");
    edit(&source(&new), |text| {
        text.replace("\nu64 nr_enqueued;", &format!("\nu64 {OF_NEW} = 4711;\nu64 nr_enqueued;"))
    });

    fs::rename(&old, &away).expect("moved away");
    let new_text = new.to_str().expect("a path");
    let mut words =
        vec!["run", "--archive-file", archive, "--workspace-remap", new_text, "-E", "package(scx_one)"];
    // What a test that passes says is kept from people otherwise.
    words.extend(["--success-output", "final"]);
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

/// The outcome of the only trace in a folder, and its manifest; its scheduler is that of the new checkout.
fn of_new(folder: &Path, ended: &Ended) -> (Outcome, Manifest) {
    let traces = traces(folder);
    let [(name, path)] = traces.iter().collect::<Vec<_>>().try_into().expect("a trace");
    assert_eq!(name, "scx_one.sched.stall.trace.zst", "{ended}");
    let replayed = run(ktstr().arg("replay").arg(path).args(["--var", OF_NEW]));
    assert!(replayed.status.success() && replayed.stdout.contains("4711"), "{replayed}\n{ended}");
    judged(path)
}
