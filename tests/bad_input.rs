//! Bad input: one clear error each (what was tried, what was found, what to do), an exit code that is not 0, and
//! nothing half-written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ktstr::prelude::*;
use ktstr_tests::{Ended, cargo_ktstr, files_below, fixture, ktstr, run_bounded};
use tempfile::TempDir;

declare_scheduler!(ABSENT, { name = "absent", source = "no_such_scheduler" });
declare_scheduler!(NOWHERE, { name = "nowhere", binary = "scx_that_is_nowhere" });

#[ktstr_test(ignore, duration_s = 1)]
fn empty(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

#[ktstr_test(ignore, llcs = 16, cores = 64, threads = 2, duration_s = 1)]
fn with_2048_cpus(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

#[ktstr_test(ignore, memory_mib = 65_536, duration_s = 1)]
fn with_64_gib(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

#[ktstr_test(ignore, duration_s = 1, claims = ["nondecreasing(nr_dispatched", "each(x => 1)"])]
fn with_claims_that_do_not_parse(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

#[ktstr_test(ignore, duration_s = 1, scheduler = ABSENT)]
fn under_a_scheduler_without_source(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

#[ktstr_test(ignore, duration_s = 1, scheduler = NOWHERE)]
fn under_a_scheduler_that_is_nowhere(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

/// Whoever lists tests is told before any of them is run.
#[test]
fn claims_that_do_not_parse_are_shown_when_tests_are_listed() {
    let mut list = cargo_ktstr();
    list.args(["list", "bad_input", "--package", "ktstr-tests"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let ended = run_bounded(&mut list, Duration::from_secs(1200));
    // Of tests that are ignored, it is no failure.
    assert!(ended.status.success() && ended.stdout.contains("with_claims_that_do_not_parse"), "{ended}");
    let named =
        "ktstr: bad_input::with_claims_that_do_not_parse has claims, watches or probes that cannot be read:";
    for said in [named, "  | nondecreasing(nr_dispatched\n  |", "  | each(x => 1)\n  |        ^"] {
        assert!(ended.stderr.contains(said), "no `{said}` in {ended}");
    }
    assert_eq!(ended.stderr.matches("cannot be read:").count(), 1, "{ended}");
}

/// They were in the runner's summary alone, without a word of why.
#[test]
fn tests_that_leave_no_trace_are_told_last_with_their_reasons() {
    let results = tempfile::tempdir().expect("a folder");
    let mut test = cargo_ktstr();
    test.args(["test", "bad_input", "--package", "ktstr-tests", "--no-fail-fast", "--"]);
    test.args(["--", "--ignored", "--skip", "empty"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    test.env("KTSTR_RESULTS", results.path()).env_remove("KTSTR_SAY");
    let ended = run_bounded(&mut test, Duration::from_secs(1200));
    assert!(!ended.status.success(), "{ended}");
    let told: Vec<&str> = ended.stdout.split("it left no trace\n").collect();
    // In the order of their names.
    let expected: [(&str, &[&str]); 5] = [
        ("under_a_scheduler_that_is_nowhere", &["scx_that_is_nowhere"]),
        ("under_a_scheduler_without_source", &["no_such_scheduler"]),
        ("with_2048_cpus", &["1n16l64c2t"]),
        ("with_64_gib", &["65536 MiB"]),
        ("with_claims_that_do_not_parse", &["nondecreasing(nr_dispatched", "each(x => 1)", "^"]),
    ];
    assert_eq!(told.len(), expected.len() + 1, "{ended}");
    for (told, (name, words)) in told.iter().zip(expected) {
        let (_, reason) =
            told.split_once(&format!("FAIL {name}: ")).unwrap_or_else(|| panic!("{name}: {ended}"));
        assert!(words.iter().all(|word| reason.contains(word)), "{name}: {words:?} in {reason}");
    }
    assert_eq!(told.last().map(|rest| rest.trim()), Some(""), "the last lines: {ended}");
    // What `cargo ktstr test` has told is not left behind.
    assert_eq!(files_below(results.path(), ""), Vec::<PathBuf>::new());
}

/// A fixture that must fail before it boots anything: fast, without a result, and saying all of `words`.
fn refused(name: &str, variables: &[(&str, &Path)], words: &[&str]) {
    let mut fixture = fixture(name);
    for (key, value) in variables {
        fixture = fixture.env(key, value);
    }
    let run = fixture.run();
    assert!(!run.status.success(), "{name} passed:\n{run}");
    let text = format!("{}{}", run.stdout, run.stderr);
    for word in words {
        assert!(text.contains(word), "`{word}` is not said:\n{run}");
    }
    assert!(!text.contains("RUST_BACKTRACE"), "it panicked:\n{run}");
    assert_eq!(run.results(), Vec::<PathBuf>::new(), "{name} left results:\n{run}");
}

/// A command that must fail, saying all of `words` on standard error, in few lines.
fn fails(command: &mut Command, words: &[&str]) -> Ended {
    let ended = run_bounded(command, Duration::from_secs(120));
    assert_eq!(ended.status.code().filter(|code| *code != 101 && *code != 0), ended.status.code(), "{ended}");
    assert!(!ended.status.success(), "{ended}");
    for word in words {
        assert!(ended.stderr.contains(word), "`{word}` is not said:\n{ended}");
    }
    assert!(ended.stderr.lines().count() <= 30, "not one clear error:\n{ended}");
    ended
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces").join(name)
}

fn file_with(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.trace.zst");
    fs::write(&path, bytes).expect("a file");
    (folder, path)
}

#[test]
fn a_kernel_that_is_not_there() {
    let kernel = Path::new("/no/such/vmlinux");
    refused("empty", &[("KTSTR_KERNEL", kernel)], &["/no/such/vmlinux"]);
    fails(cargo_ktstr().args(["test", "--kernel", "/no/such/vmlinux", "none"]), &["/no/such/vmlinux"]);
}

#[test]
fn a_kernel_that_is_none() {
    let (_folder, path) = file_with(b"#!/bin/sh\necho not a kernel\n");
    let words = [path.to_str().expect("text"), "bzImage"];
    refused("empty", &[("KTSTR_KERNEL", &path)], &words);
    fails(cargo_ktstr().args(["test", "none", "--kernel"]).arg(&path), &words);
}

#[test]
fn a_kernel_version_that_is_not_had_lists_those_that_are() {
    refused("empty", &[("KTSTR_KERNEL", Path::new("5.99"))], &["5.99", "7."]);
    fails(ktstr().args(["kernel", "fetch", "5.99"]), &["5.99", "7."]);
}

#[test]
fn a_kernel_that_is_neither_path_nor_version() {
    refused("empty", &[("KTSTR_KERNEL", Path::new("newest"))], &["newest", "latest"]);
    fails(ktstr().args(["kernel", "fetch", "newest"]), &["newest", "latest"]);
}

/// It was taken for the newest one.
#[test]
fn a_kernel_without_a_name() {
    for command in ["test", "setup", "shell x"] {
        let words = command.split(' ');
        fails(cargo_ktstr().args(words).args(["--kernel", ""]), &["latest"]);
    }
    fails(ktstr().args(["kernel", "fetch", ""]), &["latest"]);
}

#[test]
fn no_apt() {
    let home = tempfile::tempdir().expect("a folder");
    let mut setup = cargo_ktstr();
    setup.arg("setup").env("PATH", home.path()).env("XDG_CACHE_HOME", home.path());
    fails(&mut setup, &["apt-get", "KTSTR_QEMU"]);
    refused("empty", &[("PATH", home.path()), ("XDG_CACHE_HOME", home.path())], &["apt-get"]);
    assert_nothing_provisioned(home.path());
}

/// A cache of 4 MiB, in a mount namespace of its own.
#[test]
fn no_space() {
    let unshare = ["--user", "--map-root-user", "--mount"];
    let allowed = Command::new("unshare").args(unshare).args(["mount", "-t", "tmpfs", "x", "/mnt"]).output();
    if !allowed.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: this host lets its users mount nothing ({allowed:?})");
        return;
    }
    let home = tempfile::tempdir().expect("a folder");
    let setup = cargo_ktstr();
    let mut inside = Command::new("unshare");
    inside.args(unshare).args(["sh", "-c", FILL_A_SMALL_DISK, "sh"]).arg(home.path());
    inside.arg(setup.get_program()).args(setup.get_args()).arg("setup").env("XDG_CACHE_HOME", home.path());
    let ended = fails(&mut inside, &["MiB", home.path().to_str().expect("text")]);
    let packages = ended.stdout.lines().filter(|line| line.ends_with(".deb")).count();
    assert_eq!(packages, 0, "a half fetch is left:\n{ended}");
}

/// Mounts a disk of 4 MiB at `$1`, runs the rest of the arguments, lists the files that this left, and exits as it
/// did.
const FILL_A_SMALL_DISK: &str = r#"
    mount -t tmpfs -o size=4m tmpfs "$1" || exit 99
    shift
    "$@"
    code=$?
    find "$XDG_CACHE_HOME" -type f
    exit $code"#;

/// No program and no package is left where a fetch could not be.
fn assert_nothing_provisioned(home: &Path) {
    for folder in ["bundles", "kernels", "staging"] {
        let left = fs::read_dir(home.join("ktstr").join(folder)).into_iter().flatten().count();
        assert_eq!(left, 0, "{folder} is not empty");
    }
}

#[test]
fn a_topology_that_no_machine_holds() {
    refused("with_2048_cpus", &[], &["1n16l64c2t", "2048"]);
}

#[test]
fn more_memory_than_the_host_has() {
    refused("with_64_gib", &[], &["65536 MiB"]);
}

#[test]
fn claims_that_do_not_parse() {
    refused("with_claims_that_do_not_parse", &[], &["nondecreasing(nr_dispatched", "each(x => 1)", "^"]);
}

#[test]
fn a_scheduler_without_source() {
    refused("under_a_scheduler_without_source", &[], &["no_such_scheduler"]);
}

#[test]
fn a_scheduler_that_is_nowhere() {
    refused("under_a_scheduler_that_is_nowhere", &[], &["scx_that_is_nowhere", "KTSTR_SCHEDULER"]);
}

#[test]
fn a_trace_that_is_not_there() {
    fails(ktstr().args(["replay", "/no/such.trace.zst", "--assert"]), &["/no/such.trace.zst"]);
}

#[test]
fn a_trace_that_is_none() {
    for bytes in [&b""[..], b"text\n", &[0; 4096], b"\x7fELF\x02\x01\x01"] {
        let (_folder, path) = file_with(bytes);
        fails(ktstr().arg("replay").arg(&path), &["x.trace.zst", "trace"]);
        fails(ktstr().arg("replay").arg(&path).arg("--assert"), &["x.trace.zst", "trace"]);
        assert_eq!(fs::read(&path).expect("the file"), bytes, "it was changed");
    }
}

/// A truncated trace is not bad input as long as its beginning is there: it opens, says that its end is missing, and is
/// no pass. Cut inside its first record it is no trace.
#[test]
fn a_trace_that_is_cut_off() {
    let whole = fs::read(golden("steady.trace.zst")).expect("the golden trace");
    let (_folder, path) = file_with(&whole[..whole.len() * 2 / 3]);
    let cut = run_bounded(ktstr().arg("replay").arg(&path).arg("--assert"), Duration::from_secs(20));
    assert_eq!(cut.status.code(), Some(2), "inconclusive: {cut}");
    assert!(cut.stdout.contains("the recording has no end"), "{cut}");
    let (_folder, path) = file_with(&whole[..100]);
    fails(ktstr().arg("replay").arg(&path), &["x.trace.zst"]);
}

#[test]
fn a_claim_with_a_typo() {
    let trace = golden("steady.trace.zst");
    let mut replay = ktstr();
    replay.arg("replay").arg(&trace).args(["--assert", "nondecreasin(nr_dispatched)"]);
    fails(&mut replay, &["nondecreasin", "nondecreasing", "^"]);
}

#[test]
fn a_variable_with_a_typo() {
    let trace = golden("steady.trace.zst");
    fails(
        ktstr().arg("replay").arg(&trace).args(["--var", "nr_dispatchd"]),
        &["nr_dispatchd", "nr_dispatched"],
    );
    let mut replay = ktstr();
    replay.arg("replay").arg(&trace).args(["--assert", "nondecreasing(nr_dispatchd)"]);
    let ended = run_bounded(&mut replay, Duration::from_secs(20));
    assert!(!ended.status.success() && ended.stdout.contains("nr_dispatched"), "{ended}");
}

#[test]
fn a_command_that_does_not_exist() {
    fails(ktstr().arg("repaly"), &["repaly", "replay"]);
    fails(cargo_ktstr().arg("tset"), &["tset", "test"]);
}
