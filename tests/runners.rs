//! What runs tests, how it is ended, and where the results go. No machine is booted: what is ended waits for CPUs of the host,
//! and what leaves a trace is skipped.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_tests::{
    Tree, cache_without_templates, cargo_ktstr, descendants, fixture, has_nextest, run_bounded,
};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

/// Longer than what is built or looked up before a wait for CPUs takes.
const TO_START: Duration = Duration::from_secs(300);
/// Longer than it takes to end, and shorter than the patience of those that wait for CPUs.
const TO_END: Duration = Duration::from_secs(60);
/// What is said of the wait. Locks of the cache are waited for, too, which is no part of a recording.
const WAITING: &str = "of this host, which other machines of tests have";

declare_scheduler!(NEVER, { name = "never", source = "scx_demo", topology = (1, 1, 2, 1), kernels = "99.." });
declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

#[ktstr_test(ignore, duration_s = 1)]
fn waits(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

#[ktstr_test(ignore, scheduler = NEVER, duration_s = 1)]
fn never(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

#[ktstr_test(ignore, scheduler = NEVER, duration_s = 1, llcs = 1, cores = 64, threads = 1)]
fn takes_all_cpus(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

#[ktstr_test(ignore, scheduler = NEVER, duration_s = 1, llcs = 1, cores = 64, threads = 1)]
fn takes_all_cpus_too(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

#[ktstr_test(ignore, scheduler = DEMO, duration_s = 1)]
fn of_demo(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

/// A cache whose CPUs another machine waits for, so that all others wait behind it.
struct BusyHost {
    home: TempDir,
    _queue: File,
}

impl BusyHost {
    fn new() -> Self {
        let home = cache_without_templates();
        let slots = home.path().join("ktstr/slots");
        fs::create_dir_all(&slots).expect("a folder");
        let queue = File::create(slots.join("queue")).expect("a file");
        queue.lock().expect("a lock");
        Self { home, _queue: queue }
    }

    /// Starts `command`, and waits until a test of it has said that it waits.
    fn start(&self, mut command: Command) -> Waiting {
        command.env("XDG_CACHE_HOME", self.home.path()).env_remove("KTSTR_SAY").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a child");
        let (sender, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut waiting = Waiting { child, seen: Tree::default(), lines };
        let mut said = Vec::new();
        loop {
            match waiting.lines.recv_timeout(TO_START) {
                Ok(line) if line.contains(WAITING) => break,
                Ok(line) => said.push(line),
                Err(error) => panic!("it does not wait ({error}): {said:#?}"),
            }
        }
        waiting.seen = descendants(waiting.child.id());
        waiting
    }
}

/// A run that waits. It does not outlast the test that started it.
struct Waiting {
    child: Child,
    seen: Tree,
    lines: Receiver<String>,
}

impl Waiting {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits until nothing of it is left.
    fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waiting") {
                break status;
            }
            assert!(began.elapsed() < TO_END, "it has not ended: {:?}", self.seen);
            sleep(Duration::from_millis(10));
        };
        while !self.seen.left().is_empty() {
            assert!(began.elapsed() < TO_END, "still there: {:#?}", self.seen.left());
            sleep(Duration::from_millis(10));
        }
        (status, self.lines.iter().collect())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Of one that has ended the number may be another's by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.seen.merge(descendants(self.child.id()));
        }
        self.seen.kill();
        // Both fail only where it was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().expect("a folder").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// All traces below a folder.
fn traces(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in folder.read_dir().expect("a folder").flatten() {
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => found.extend(traces(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

#[test]
fn a_test_that_waits_for_cpus_ends_at_each_signal_and_when_its_runner_is_killed() {
    let host = BusyHost::new();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (command, results) = fixture("waits").into_parts();
        let waiting = host.start(command);
        kill_process(waiting.pid(), signal).expect("signalled");
        let (status, _) = waiting.ended();
        assert_eq!(status.code(), Some(101), "{signal:?}: libtest says that the test failed");
        assert!(names(results.path()).is_empty(), "{signal:?}: nothing was recorded");
    }
    let (command, _results) = fixture("waits").into_parts();
    let mut runner = Command::new("sh");
    runner.args(["-c", r#""$@" & wait"#, "sh"]).arg(command.get_program()).args(command.get_args());
    runner.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("NEXTEST", "1");
    let waiting = host.start(runner);
    kill_process(waiting.pid(), Signal::KILL).expect("killed");
    waiting.ended();
}

/// A test of this file that failed left a run behind, which waited for CPUs for an hour.
#[test]
fn a_run_that_nobody_waits_for_ends_with_the_test_that_started_it() {
    let host = BusyHost::new();
    let results = tempfile::tempdir().expect("a folder");
    let mut command = cargo_ktstr();
    command.args(["test", "runners", "--run-ignored", "only"]).env("KTSTR_RESULTS", results.path());
    let waiting = host.start(command);
    let seen = waiting.seen.clone();
    assert!(seen.left().len() > 2, "cargo ktstr, a runner and a test: {:?}", seen.left());
    drop(waiting);
    let began = Instant::now();
    while !seen.left().is_empty() {
        assert!(began.elapsed() < TO_END, "still there: {:#?}", seen.left());
        sleep(Duration::from_millis(10));
    }
}

/// SIGTERM was not passed on, and the run held its CPUs for 15 s more; SIGKILL left the tests running to their ends.
#[test]
fn whichever_process_of_cargo_ktstr_gets_which_signal_nothing_is_left() {
    let host = BusyHost::new();
    let start = || {
        let results = tempfile::tempdir().expect("a folder");
        let mut command = cargo_ktstr();
        command.args(["test", "runners", "--run-ignored", "only", "--no-fail-fast"]);
        command.env("KTSTR_RESULTS", results.path());
        (host.start(command), results)
    };
    let (waiting, results) = start();
    kill_process(waiting.pid(), Signal::TERM).expect("signalled");
    let (status, said) = waiting.ended();
    assert_eq!(status.code(), Some(143), "{said:#?}");
    let left = traces(results.path());
    assert!(left.iter().all(|path| path.ends_with("ktstr-tests.runners.never.trace.zst")), "{left:?}");

    let (waiting, _results) = start();
    kill_process_group(waiting.pid(), Signal::INT).expect("signalled");
    let (status, said) = waiting.ended();
    assert_eq!(status.code(), Some(130), "{said:#?}");

    let (waiting, _results) = start();
    kill_process(waiting.pid(), Signal::KILL).expect("killed");
    waiting.ended();

    let (waiting, _results) = start();
    let mut runners = waiting.seen.pids_of("nextest");
    runners.extend(waiting.seen.pids_of("cargo test"));
    for runner in runners {
        let runner = Pid::from_raw(i32::try_from(runner).expect("a pid")).expect("a pid");
        kill_process(runner, Signal::KILL).expect("killed");
    }
    let (status, said) = waiting.ended();
    assert!(matches!(status.code(), Some(137 | 101)), "{status}: {said:#?}");
}

/// Two runs of one name wanted the same file, and one of them failed.
#[test]
fn runs_of_one_name_in_one_folder_have_a_trace_each() {
    let results = tempfile::tempdir().expect("a folder");
    thread::scope(|scope| {
        for _ in 0..4 {
            let run = || fixture("never").env("KTSTR_RESULTS", results.path()).run();
            scope.spawn(move || {
                let run = run();
                assert!(run.status.success(), "{run}");
            });
        }
    });
    let expected =
        ["2.", "3.", "4.", ""].map(|number| format!("ktstr-tests.runners.never.{number}trace.zst"));
    assert_eq!(names(results.path()), expected);
    for path in traces(results.path()) {
        assert!(Trace::open(&path).is_ok_and(|trace| trace.is_finalized()), "{}", path.display());
    }
}

/// Of an archive that nextest has unpacked, the sources of the machine that compiled it were taken, and the traces were removed
/// with the archive.
#[test]
fn a_test_binary_that_is_run_elsewhere_takes_the_sources_there_and_keeps_its_traces_there() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let (workspace, deps) =
        (elsewhere.path().join("ws"), elsewhere.path().join("nextest-archive-x/target/debug/deps"));
    for folder in [&workspace.join("tests"), &deps] {
        fs::create_dir_all(folder).expect("a folder");
    }
    fs::write(workspace.join("Cargo.toml"), "[workspace]\n").expect("a file");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), workspace.join("tests/Cargo.toml"))
        .expect("copied");
    let exe = deps.join("runners-1");
    fs::copy(std::env::current_exe().expect("this test"), &exe).expect("copied");
    let run = |name: &str| {
        let mut command = Command::new(&exe);
        command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
        command.current_dir(workspace.join("tests")).env("CARGO_MANIFEST_DIR", workspace.join("tests"));
        command.env("CARGO_PKG_NAME", "ktstr-tests").env("NEXTEST_RUN_ID", "the-run");
        command.env_remove("KTSTR_RESULTS").env_remove("KTSTR_SAY").env_remove("NEXTEST_WORKSPACE_ROOT");
        run_bounded(&mut command, TO_START)
    };
    // The folder is there where this test was compiled.
    let ended = run("of_demo");
    let missing = format!("there is no folder {}", workspace.join("tests/scx_demo").display());
    assert!(ended.stdout.contains(&missing) || ended.stderr.contains(&missing), "{ended}");
    let ended = run("never");
    assert!(ended.status.success(), "{ended}");
    let results = workspace.join("target/ktstr/the-run");
    assert_eq!(names(&results), ["ktstr-tests.runners.never.trace.zst"]);
    assert!(ended.stderr.contains(&format!("traces go to {}", results.display())), "{ended}");
}

/// The newer run removed the folder of one that went on, and its trace with it.
#[test]
fn who_keeps_no_runs_keeps_those_of_other_terminals_that_go_on() {
    let host = BusyHost::new();
    let results = tempfile::tempdir().expect("a folder");
    let old = results.path().join("20251127T011152Z-1");
    fs::create_dir(&old).expect("a folder");
    let run = |words: &[&str]| {
        let mut command = cargo_ktstr();
        command
            .args(["test", "runners", "--run-ignored", "only"])
            .args(words)
            .env("KTSTR_RESULTS", results.path());
        command
    };
    let waiting = host.start(run(&["--no-fail-fast"]));
    let folders = names(results.path());
    let [live] =
        folders.iter().filter(|name| !old.ends_with(name)).collect::<Vec<_>>().try_into().expect("a run");
    let ended = run_bounded(
        run(&["--keep", "0", "--", "-E", "none()", "--no-tests", "pass"]).env_remove("KTSTR_SAY"),
        TO_START,
    );
    let kept = format!("{} is kept: its run goes on", results.path().join(live).display());
    assert!(ended.stderr.contains(&kept), "no `{kept}` in {ended}");
    assert!(!old.exists() && results.path().join(live).is_dir(), "{:?}", names(results.path()));
    kill_process(waiting.pid(), Signal::TERM).expect("signalled");
    waiting.ended();
    run_bounded(
        run(&["--keep", "0", "--", "-E", "none()", "--no-tests", "pass"]).env_remove("KTSTR_SAY"),
        TO_START,
    );
    assert!(names(results.path()).is_empty(), "{:?}", names(results.path()));
}

/// Both were started, one of them waited for the CPUs of the other, and nextest took that for its time.
#[test]
fn nextest_does_not_start_a_test_that_would_wait_for_the_cpus_of_another() {
    if !has_nextest() {
        return;
    }
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() >= 2 * 64) {
        println!("not run: both of the tests fit on this host");
        return;
    }
    let results = tempfile::tempdir().expect("a folder");
    let mut command = cargo_ktstr();
    // So many threads that all is started at once otherwise.
    command.args([
        "test",
        "runners",
        "--run-ignored",
        "only",
        "-j",
        "8",
        "--",
        "-E",
        "test(/^takes_all_cpus/)",
    ]);
    command.args(["--message-format", "libtest-json"]).env("NEXTEST_EXPERIMENTAL_LIBTEST_JSON", "1");
    command.env("KTSTR_RESULTS", results.path()).env_remove("KTSTR_SAY");
    let ended = run_bounded(command.current_dir(env!("CARGO_MANIFEST_DIR")), TO_START);
    assert!(ended.status.success(), "{ended}");
    let event = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        // Those that are not selected are told of, too.
        let is_of_test = event["name"].as_str()?.contains("takes_all_cpus") && event["type"] == "test";
        is_of_test.then(|| event["event"].as_str().map(str::to_owned))?
    };
    let events: Vec<String> = ended.stdout.lines().filter_map(event).collect();
    assert_eq!(events, ["started", "ok", "started", "ok"], "{ended}");
}
