//! What strange environments do to a run: one table. Machines are booted by two tests: with odd mounts, and by another user.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_record::provision::Cache;
use ktstr_tests::{cache_without_templates, cargo_ktstr, ktstr, run_bounded};
use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;

/// Longer than a run may take, on a host that others use.
const LIMIT: Duration = Duration::from_secs(900);
/// A user that owns nothing.
const NOBODY: u32 = 65534;

declare_scheduler!(NEVER, { name = "never", source = "scx_demo", topology = (1, 1, 2, 1), kernels = "99.." });
declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// Goes as far as a run goes without a machine: cache, kernel, trace, verdict, report.
#[ktstr_test(ignore, scheduler = NEVER, duration_s = 1)]
fn is_skipped(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

#[ktstr_test(host_only, ignore, duration_s = 1)]
fn is_on_the_host(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::fail("it is on the host"))
}

#[ktstr_test(ignore, scheduler = DEMO, duration_s = 1, claims = ["each(nr_dispatched >= 1)"])]
fn is_in_a_guest(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

/// Names of traces, and of files in the guest, are made of all modules.
mod nested {
    mod deeper {
        use ktstr::prelude::*;

        #[ktstr_test(host_only, ignore, duration_s = 1)]
        fn is_on_the_host(_ctx: &Ctx) -> Result<AssertResult> {
            Ok(AssertResult::fail("it is in a module in a module"))
        }

        #[ktstr_test(ignore, scheduler = crate::DEMO, duration_s = 1, claims = ["each(nr_dispatched >= 1)"])]
        fn is_in_a_guest(ctx: &Ctx) -> Result<AssertResult> {
            execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
        }
    }
}

/// Where a row is tried: a cache, and a folder for results.
struct Place {
    cache: TempDir,
    results: TempDir,
}

impl Place {
    fn command(&self, program: Command, results: &Path) -> Command {
        let mut command = program;
        command
            .env("XDG_CACHE_HOME", self.cache.path())
            .env("KTSTR_RESULTS", results)
            .env_remove("KTSTR_SAY");
        command
    }
}

fn fixture(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this test"));
    command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
    command
}

/// What is strange, what it does to a command, and what the run must say besides its report.
type Row = (&'static str, fn(&mut Command, &Place), &'static str);

const ROWS: &[Row] = &[
    (
        "another language",
        |command, _| {
            command.env("LC_ALL", "de_DE.UTF-8").env("LANGUAGE", "de");
        },
        "",
    ),
    (
        "a locale that is not there",
        |command, _| {
            command.env("LC_ALL", "xx_YY.no-such-charset");
        },
        "",
    ),
    (
        "no folder for temporary files",
        |command, _| {
            command.env("TMPDIR", "/no/such/folder");
        },
        "",
    ),
    (
        "temporary files where no programs are run from",
        |command, _| {
            command.env("TMPDIR", "/dev/shm");
        },
        "",
    ),
    (
        "no home",
        |command, _| {
            command.env_remove("HOME");
        },
        "",
    ),
    (
        "a home that is a file",
        |command, _| {
            command.env("HOME", "/etc/passwd");
        },
        "",
    ),
    (
        "a cache at a relative path",
        |command, place| {
            // The cache is then the one of the home.
            let home = place.results.path().join("home");
            fs::create_dir_all(&home).expect("a folder");
            let _again = std::os::unix::fs::symlink(place.cache.path(), home.join(".cache"));
            command.env("XDG_CACHE_HOME", "relative").env("HOME", &home);
        },
        "XDG_CACHE_HOME is `relative`, which is not an absolute path and is ignored",
    ),
    (
        "no programs, apt among them, and a warm cache",
        |command, _| {
            command.env("PATH", "/no/such/folder");
        },
        "",
    ),
    (
        "a variable that is no text",
        |command, _| {
            command.env("KTSTR_ODD", OsString::from_vec(vec![0xff, 0xfe]));
        },
        "",
    ),
    (
        "no environment",
        |command, place| {
            let kept = [("XDG_CACHE_HOME", place.cache.path()), ("KTSTR_RESULTS", place.results.path())];
            command.env_clear().envs(kept).env("PATH", "/usr/bin:/bin");
        },
        "",
    ),
];

#[test]
fn a_run_is_the_same_in_each_environment() {
    for (what, change, said) in ROWS {
        let place =
            Place { cache: cache_without_templates(), results: tempfile::tempdir().expect("a folder") };
        for (name, passes, words) in
            [("is_skipped", true, "is for kernels 99.."), ("is_on_the_host", false, "it is on the host")]
        {
            let mut command = place.command(fixture(name), place.results.path());
            change(&mut command, &place);
            let ended = run_bounded(&mut command, LIMIT);
            assert_eq!(ended.status.success(), passes, "{what}: {ended}");
            assert!(ended.stdout.contains(words), "{what}: {ended}");
            // What needs no cache has nothing to say of it.
            let is_said = ended.stdout.contains(said) || ended.stderr.contains(said);
            assert!(is_said || name == "is_on_the_host", "{what}: no `{said}` in {ended}");
            let trace = place.results.path().join(format!("ktstr-tests.environments.{name}.trace.zst"));
            let mut replay = place.command(ktstr(), place.results.path());
            replay.arg("replay").arg(&trace).arg("--assert");
            change(&mut replay, &place);
            let replayed = run_bounded(&mut replay, LIMIT);
            assert_eq!(replayed.status.success(), passes, "{what}: {replayed}");
            assert!(replayed.stdout.contains(words), "{what}: {replayed}");
        }
    }
}

/// Runs the rest of its arguments where programs cannot be run from `$1` and `/dev/shm` has 16 MiB. What is large in `$1` afterwards is told.
const ODD_MOUNTS: &str = r#"
    folder=$1
    mount -t tmpfs -o noexec,mode=1777 tmpfs "$folder" && mount -t tmpfs -o size=16m tmpfs /dev/shm || exit 99
    shift
    "$@"
    code=$?
    find "$folder" -size +1023k | sed 's/^/fetched: /'
    exit $code"#;

/// `command` with those mounts, in a mount namespace of its own; `None` where this host lets its users mount nothing.
fn with_odd_mounts(folder: &Path, command: &Command) -> Option<Command> {
    let unshare = ["--user", "--map-root-user", "--mount"];
    let allowed = Command::new("unshare").args(unshare).args(["mount", "-t", "tmpfs", "x", "/mnt"]).output();
    if !allowed.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: this host lets its users mount nothing ({allowed:?})");
        return None;
    }
    let mut inside = Command::new("unshare");
    inside.args(unshare).args(["sh", "-c", ODD_MOUNTS, "sh"]).arg(folder);
    inside.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => inside.env(name, value),
            None => inside.env_remove(name),
        };
    }
    Some(inside)
}

/// A run, setup and what tells of the host say the same of a cache that cannot be used; nothing is fetched before.
fn is_refused(what: &str, of: impl Fn(Command) -> Option<Command>, words: &[&str]) {
    let mut setup = cargo_ktstr();
    setup.arg("setup");
    let mut doctor = ktstr();
    doctor.arg("doctor");
    for command in [fixture("is_skipped"), setup, doctor] {
        let Some(mut command) = of(command) else { return };
        let ended = run_bounded(&mut command, LIMIT);
        assert!(!ended.status.success(), "{what}: {ended}");
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(words.iter().all(|word| said.contains(word)), "{what}: not all of {words:?} in {ended}");
        assert!(!said.contains("fetched: "), "{what}: it was fetched all the same: {ended}");
        assert!(!said.contains("GLIBC") && !said.contains("RUST_BACKTRACE"), "{what}: {ended}");
    }
}

/// Programs of such a cache ended in `GLIBC_2.38 not found`.
#[test]
fn a_cache_whose_path_loaders_take_apart_is_refused_before_a_download() {
    let results = tempfile::tempdir().expect("a folder");
    let rows = [(&b"a:b"[..], "has a `:`"), (b"a;b", "has a `;`"), (b"a\xffb", "is not UTF-8")];
    for (name, words) in rows {
        let home = results.path().join(OsString::from_vec(name.to_vec()));
        let of = |mut command: Command| {
            command.env("XDG_CACHE_HOME", &home).env("KTSTR_RESULTS", results.path()).env_remove("KTSTR_SAY");
            Some(command)
        };
        is_refused(words, of, &[words, "set XDG_CACHE_HOME"]);
        assert!(!home.exists(), "{words}: it was made");
    }
    let left: Vec<_> =
        results.path().read_dir().expect("a folder").flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// All that was said was "Permission denied".
#[test]
fn a_cache_that_programs_cannot_be_run_from_is_refused_before_a_download() {
    let (home, results) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let of = |mut command: Command| {
        command
            .env("XDG_CACHE_HOME", home.path())
            .env("KTSTR_RESULTS", results.path())
            .env_remove("KTSTR_SAY");
        with_odd_mounts(home.path(), &command)
    };
    is_refused("noexec", of, &["noexec", "XDG_CACHE_HOME"]);
}

#[test]
fn a_guest_runs_where_temporary_files_are_no_programs_and_shared_memory_is_small() {
    let place = Place { cache: cache_without_templates(), results: tempfile::tempdir().expect("a folder") };
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = place.command(fixture("nested::deeper::is_in_a_guest"), place.results.path());
    command.env("TMPDIR", folder.path());
    let Some(mut command) = with_odd_mounts(folder.path(), &command) else { return };
    let ended = run_bounded(&mut command, LIMIT);
    assert!(ended.status.success() && ended.stdout.contains("PASS nested::deeper::is_in_a_guest"), "{ended}");
    let trace = place.results.path().join("ktstr-tests.environments.nested.deeper.is_in_a_guest.trace.zst");
    let replayed = run_bounded(ktstr().arg("replay").arg(&trace).arg("--assert"), LIMIT);
    assert!(
        replayed.status.success() && replayed.stdout.contains("PASS nested::deeper::is_in_a_guest"),
        "{replayed}"
    );
}

#[test]
fn a_test_in_a_module_in_a_module_is_found_by_its_name() {
    let results = tempfile::tempdir().expect("a folder");
    let mut command = cargo_ktstr();
    command.args([
        "test",
        "environments",
        "--run-ignored",
        "only",
        "--",
        "-E",
        "test(=nested::deeper::is_on_the_host)",
    ]);
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("KTSTR_RESULTS", results.path())
        .env_remove("KTSTR_SAY");
    let ended = run_bounded(&mut command, LIMIT);
    assert!(!ended.status.success(), "{ended}");
    assert!(
        ended.stdout.contains("FAIL nested::deeper::is_on_the_host: it is in a module in a module"),
        "{ended}"
    );
    assert!(
        ended.stdout.contains("ktstr-tests.environments.nested.deeper.is_on_the_host.trace.zst"),
        "{ended}"
    );
}

/// What tells of the host says whether tests can run here: this host, on which they do, and one with nothing.
#[test]
fn what_a_host_has_and_lacks_is_told_and_is_the_exit_code() {
    let check = || {
        let mut command = cargo_ktstr();
        command.args(["setup", "--check"]);
        command
    };
    let empty = tempfile::tempdir().expect("a folder");
    let bare = |mut command: Command| {
        command.env("PATH", empty.path()).env("XDG_CACHE_HOME", empty.path());
        command
    };
    let doctor = |words: &[&str]| {
        let mut command = ktstr();
        command.arg("doctor").args(words);
        command
    };
    for (mut text, mut as_json, mut of_setup, is_ready) in [
        (doctor(&[]), doctor(&["--json"]), check(), true),
        (bare(doctor(&[])), bare(doctor(&["--json"])), bare(check()), false),
    ] {
        let end = if is_ready { "tests can run here\n" } else { "tests cannot run here yet\n" };
        for command in [&mut text, &mut of_setup] {
            let ended = run_bounded(command, LIMIT);
            assert_eq!(ended.status.code(), Some(i32::from(!is_ready)), "{ended}");
            assert!(ended.stdout.ends_with(end), "{ended}");
        }
        let ended = run_bounded(&mut as_json, LIMIT);
        assert_eq!(ended.status.code(), Some(i32::from(!is_ready)), "{ended}");
        let said: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
        assert_eq!(said["ready"], is_ready, "{ended}");
        let state = |name: &str| {
            let rows = said["host"].as_array().expect("rows");
            rows.iter()
                .find(|row| row["name"] == name)
                .map(|row| row["state"].as_str().expect("a state").to_owned())
        };
        let there = |is_there: &str, is_not: &str| Some(if is_ready { is_there } else { is_not }.to_owned());
        assert_eq!(state("apt"), there("ok", "lacks"), "{ended}");
        assert_eq!(state("kernels"), there("ok", "note"), "{ended}");
        assert_eq!(state("cache"), Some("ok".to_owned()), "{ended}");
    }
    for folder in ["bundles", "kernels", "apt"] {
        assert!(!empty.path().join("ktstr").join(folder).exists(), "it has fetched something: {folder}");
    }
}

#[test]
fn results_can_be_in_any_folder_and_the_command_that_is_shown_works() {
    let place = Place { cache: cache_without_templates(), results: tempfile::tempdir().expect("a folder") };
    for name in ["with a space", "it's \"quoted\"", "\u{2603} $HOME;`id`", "-rf", "a\\b"] {
        let results = place.results.path().join(name);
        let ended = run_bounded(&mut place.command(fixture("is_on_the_host"), &results), LIMIT);
        let again =
            ended.stdout.split("ktstr replay ").nth(1).or_else(|| ended.stderr.split("ktstr replay ").nth(1));
        let again = again.and_then(|text| text.lines().next()).unwrap_or_else(|| panic!("{name}: {ended}"));
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("\"$0\" replay {again}")]).arg(ktstr().get_program());
        let replayed = run_bounded(&mut shell, LIMIT);
        assert!(replayed.stdout.contains("it is on the host"), "{name}: `{again}`: {replayed}");
    }
}

#[test]
fn without_home_and_cache_a_run_says_what_to_set() {
    let results = tempfile::tempdir().expect("a folder");
    let mut command = fixture("is_skipped");
    command.env("KTSTR_RESULTS", results.path()).env_remove("HOME").env_remove("XDG_CACHE_HOME");
    let ended = run_bounded(&mut command, LIMIT);
    assert!(!ended.status.success(), "{ended}");
    assert!(ended.stdout.contains("XDG_CACHE_HOME") || ended.stderr.contains("XDG_CACHE_HOME"), "{ended}");
}

/// The file that was being written stayed, with all of the disk that it took.
#[test]
fn nothing_is_left_of_a_slim_that_a_signal_ends() {
    let trace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces/stall.trace.zst");
    for options in [&["--level", "19"][..], &["--level", "19", "--for-upload"]] {
        let is_interrupted = |_: u32| {
            let folder = tempfile::tempdir().expect("a folder");
            let mut command = ktstr();
            command.args(["trace", "slim"]).args(options).arg(&trace).arg(folder.path().join("new.gz"));
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
            let count = || folder.path().read_dir().expect("a folder").count();
            let begun = Instant::now();
            let mut ended = None;
            while count() == 0 && ended.is_none() && begun.elapsed() < LIMIT {
                ended = child.try_wait().expect("waited");
            }
            // Nobody else has its number while it is not waited for. SIGINT is ignored by what a shell has put into the background.
            let status = ended.unwrap_or_else(|| {
                kill_process(Pid::from_child(&child), Signal::TERM).expect("signalled");
                child.wait().expect("ended")
            });
            let left: Vec<PathBuf> =
                folder.path().read_dir().expect("a folder").flatten().map(|e| e.path()).collect();
            // It may be faster than the signal, on a host that is busy: then the whole file is there, and nothing else.
            let is_done = left == [folder.path().join("new.gz")];
            match status.signal() {
                Some(signal) => assert!(signal == 15 && (is_done || left.is_empty()), "{status}: {left:?}"),
                None => {
                    assert!(if status.success() { is_done } else { left.is_empty() }, "{status}: {left:?}")
                }
            }
            status.signal().is_some() && left.is_empty()
        };
        assert!((0..50).any(is_interrupted), "{options:?}: it was never interrupted");
    }
}

/// Copies of the parts of the cache that a run needs, of which the files are shared and the folders are `owner`'s, if one is given.
fn shared_cache(to: &Path, owner: Option<u32>) {
    let cache = Cache::open().expect("the cache");
    for part in ["bundles", "kernels"] {
        share(&cache.path(part), &to.join(part), owner);
    }
    chown(to, owner, owner).expect("its owner");
}

fn share(from: &Path, to: &Path, owner: Option<u32>) {
    fs::create_dir_all(to).expect("a folder");
    for entry in from.read_dir().expect("a folder").flatten() {
        let (path, there) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().expect("its type");
        if kind.is_dir() {
            share(&path, &there, owner);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&path).expect("a link"), &there).expect("a link");
        } else if fs::hard_link(&path, &there).is_err() {
            fs::copy(&path, &there).expect("copied");
        }
    }
    chown(to, owner, owner).expect("its owner");
}

/// The first command of the README is for users without privileges, too: emulator, BPF toolchain, a scheduler of C sources, a guest.
/// Who runs this test without them has shown that by all the others.
#[test]
fn a_user_without_privileges_runs_a_scheduler_in_a_guest() {
    let place = tempfile::tempdir().expect("a folder");
    let root = place.path();
    let (home, workspace) = (root.join("home"), root.join("checkout"));
    let exe = workspace.join("target/debug/deps/environments-1");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(exe.parent().expect("a folder")).expect("folders");
    fs::create_dir_all(workspace.join("tests/scx_demo")).expect("folders");
    fs::write(workspace.join("Cargo.toml"), "[workspace]\n").expect("a file");
    fs::copy(sources.join("Cargo.toml"), workspace.join("tests/Cargo.toml")).expect("copied");
    for entry in sources.join("scx_demo").read_dir().expect("a folder").flatten() {
        fs::copy(entry.path(), workspace.join("tests/scx_demo").join(entry.file_name())).expect("copied");
    }
    fs::copy(env::current_exe().expect("this test"), &exe).expect("copied");
    let is_root = getuid().is_root();
    // Who is not root keeps what is theirs: the number of a user need not be that of one of its groups.
    let owner = is_root.then_some(NOBODY);
    shared_cache(&home.join(".cache/ktstr"), owner);
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).expect("permissions");
    for folder in
        [&home, &home.join(".cache"), &workspace, &workspace.join("target"), &workspace.join("tests")]
    {
        chown(folder, owner, owner).expect("its owner");
    }
    let mut command = Command::new(&exe);
    command
        .args(["--exact", "is_in_a_guest", "--ignored", "--nocapture", "--test-threads=1"])
        .current_dir(workspace.join("tests"))
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .env("HOME", &home)
        .env("CARGO_MANIFEST_DIR", workspace.join("tests"))
        .env("CARGO_PKG_NAME", "ktstr-tests");
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
    }
    let ended = run_bounded(&mut command, LIMIT);
    assert!(ended.status.success(), "{ended}");
    assert!(ended.stdout.contains("PASS is_in_a_guest"), "{ended}");
    let shown = format!("{}/target/ktstr", workspace.display());
    assert!(ended.stderr.contains(&format!("traces go to {shown}")), "{ended}");
}
