//! Payloads as processes of the host: each way to end, and what is kept of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ktstr_replay::trace::record::{MetricCheck as Recorded, PayloadEnd, PayloadOutput};
use tempfile::TempDir;

use super::*;

/// A shell that does what its last argument says.
pub const SHELL: PayloadDef = PayloadDef {
    name: "shell",
    binary: "sh",
    package: None,
    output: PayloadOutput::Json,
    args: &["-c"],
    metrics: &[],
    checks: &[],
    include_files: &[],
    manifest_dir: "/",
};

/// [`SHELL`], as an author names it.
pub struct Shell;

impl Payload for Shell {
    const DEFINITION: &'static PayloadDef = &SHELL;
}

/// Make `root` a guest that has the shell.
pub fn install(root: &Path) -> Launch {
    let launch = Launch {
        program: "/bin/sh".to_owned(),
        env: vec!["PATH=/usr/bin:/bin".to_owned(), "GIVEN=yes".to_owned()],
        ..Launch::default()
    };
    let path = root.join(Launch::path("shell").trim_start_matches('/'));
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    fs::write(path, serde_json::to_vec(&launch).expect("JSON")).expect("a file");
    launch
}

/// Long enough for any of these, on a host that is busy.
const LONG: Duration = Duration::from_secs(300);

fn started(script: &str, timeout: Duration, cgroup: Option<PathBuf>) -> (TempDir, Running) {
    let dir = TempDir::new().expect("a folder");
    install(dir.path());
    let spec = PayloadSpec::of(&Shell).arg(script);
    let running = Running::start(&spec, dir.path(), cgroup, timeout);
    (dir, running.unwrap_or_else(|report| panic!("{report:?}")))
}

fn ran(script: &str) -> PayloadReport {
    started(script, LONG, None).1.wait()
}

#[test]
fn exit_code_output_and_metrics_are_kept() {
    let report = ran("echo note; echo '{\"a\": {\"b\": 1.5}, \"c\": 2}'; echo problem >&2; exit 3");
    assert_eq!((report.end(), report.exit_code()), (PayloadEnd::Ended, Some(3)));
    assert_eq!((report.metric("a.b"), report.metric("c"), report.metric("d")), (Some(1.5), Some(2.0), None));
    assert!(report.stdout().starts_with("note\n{") && report.stderr() == "problem\n");
    let run = report.recorded();
    assert_eq!((run.stderr_bytes, run.stderr_tail.as_str(), run.signal), (8, "problem\n", None));
    assert!(run.pid > 0 && run.wall_ns > 0 && run.began_ns > 0);
}

#[test]
fn metrics_of_standard_error_count_where_standard_output_has_none() {
    assert_eq!(ran("echo text; echo '{\"x\": 7}' >&2").metric("x"), Some(7.0));
    let report = ran("echo text");
    assert!(report.recorded().metrics_fault.as_deref().is_some_and(|why| why.contains("stdout has no JSON")));
    let silent = ran("exit 0");
    assert_eq!(silent.recorded().metrics_fault.as_deref(), Some("it wrote nothing"));
}

#[test]
fn its_cpu_time_has_that_of_the_children_that_it_waited_for() {
    // A child of it uses the CPU until it has had 20 ticks of 10 ms, by its own count.
    let child =
        "while read -r stat </proc/self/stat; set -- $stat; [ $((${14} + ${15})) -lt 20 ]; do :; done";
    let report = ran(&format!("( {child} ); echo '{{\"done\": 1}}'"));
    assert_eq!(report.metric("done"), Some(1.0), "{report:?}");
    let cpu_ns = report.recorded().cpu_ns;
    assert!(cpu_ns >= 200_000_000, "{cpu_ns}");
}

#[test]
fn a_timeout_that_no_clock_reaches_is_none() {
    let (_dir, running) = started("exit 0", Duration::MAX, None);
    assert_eq!(running.wait().exit_code(), Some(0));
}

#[test]
fn a_signal_is_no_exit_code() {
    let report = ran("kill -SEGV $$");
    assert_eq!(
        (report.end(), report.exit_code(), report.recorded().signal),
        (PayloadEnd::Ended, None, Some(11))
    );
}

#[test]
fn one_that_takes_too_long_is_ended_and_its_output_is_kept() {
    let (_dir, running) = started("echo '{\"x\": 1}'; exec sleep 1000", Duration::from_secs(2), None);
    let report = running.wait();
    let run = report.recorded();
    assert_eq!((run.end, run.exit_code), (PayloadEnd::TimedOut, None));
    // On a busy host it may not come to its end within the 5 s after SIGTERM.
    assert!(matches!(run.signal, Some(9 | 15)), "{:?}", run.signal);
    assert_eq!(run.timeout_ns, 2_000_000_000);
    // A busy host may not have let it come to that.
    assert_eq!(report.metric("x"), (run.stdout_bytes > 0).then_some(1.0));
}

#[test]
fn one_that_is_ended_may_write_its_summary_and_one_that_will_not_end_is_killed() {
    let script = "trap 'echo \"{\\\"x\\\": 1}\"; exit 4' TERM; echo ready >&2; while :; do sleep 0.01; done";
    let (_dir, running) = started(script, LONG, None);
    std::thread::sleep(Duration::from_millis(500));
    running.end();
    let report = running.wait();
    // The trap may not have been set yet: then the signal has killed it.
    assert_eq!(report.end(), PayloadEnd::Stopped);
    if report.exit_code() == Some(4) {
        assert_eq!(report.metric("x"), Some(1.0));
    }
    let (_dir, running) = started("trap '' TERM; echo ready; while :; do sleep 0.01; done", LONG, None);
    std::thread::sleep(Duration::from_millis(500));
    running.end();
    assert_eq!(running.wait().end(), PayloadEnd::Stopped);
}

#[test]
fn what_it_leaves_behind_is_killed_and_holds_nothing_up() {
    let report = ran("sleep 1000 & echo \"{\\\"left\\\": $!}\"");
    let left = report.metric("left").expect("a process id") as i32;
    let is_there = || {
        let stat = fs::read_to_string(format!("/proc/{left}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    let until = Instant::now() + LONG;
    while is_there() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!is_there(), "process {left} is left");
}

#[test]
fn it_starts_in_its_cgroup_and_among_its_files_with_nothing_else_in_its_environment() {
    let cgroup = TempDir::new().expect("a folder");
    fs::write(cgroup.path().join("cgroup.procs"), "").expect("a file");
    let script = "pwd; env; tr '\\0' ' ' < /proc/self/cmdline";
    let dir = TempDir::new().expect("a folder");
    install(dir.path());
    let files = dir.path().join("ktstr/files");
    fs::create_dir_all(&files).expect("a folder");
    let spec = PayloadSpec::of(&Shell).arg(script).in_cgroup("cg");
    let running = Running::start(&spec, dir.path(), Some(cgroup.path().to_owned()), LONG).expect("started");
    let report = running.wait();
    assert_eq!(fs::read_to_string(cgroup.path().join("cgroup.procs")).expect("the file"), "0");
    assert!(report.stdout().starts_with(&format!("{}\n", files.canonicalize().expect("there").display())));
    assert!(
        report.stdout().contains("GIVEN=yes") && !report.stdout().contains("CARGO"),
        "{}",
        report.stdout()
    );
    assert_eq!((report.recorded().cgroup.as_str(), report.recorded().args.len()), ("cg", 2));
}

#[test]
fn what_cannot_be_started_is_a_run_with_the_reason() {
    let dir = TempDir::new().expect("a folder");
    let spec = PayloadSpec::of(&Shell).arg("exit 0");
    let why = |cgroup: Option<PathBuf>| {
        let report = Running::start(&spec, dir.path(), cgroup, LONG).expect_err("not started");
        assert_eq!((report.end(), report.recorded().pid), (PayloadEnd::NotStarted, 0));
        report.recorded().fault.clone().unwrap_or_default()
    };
    assert!(why(None).contains("is not in the guest"));
    let mut launch = install(dir.path());
    assert!(why(Some(dir.path().join("none"))).contains("put into its cgroup"));
    launch.program = "/no/such/program".to_owned();
    let path = dir.path().join("ktstr/payloads/shell.json");
    fs::write(path, serde_json::to_vec(&launch).expect("JSON")).expect("a file");
    assert!(why(None).contains("there is no /no/such/program"), "{}", why(None));
}

#[test]
fn a_run_carries_the_checks_of_definition_and_test_and_keeps_what_they_are_about() {
    let spec = PayloadSpec { def: &CHECKED, ..PayloadSpec::of(&Shell) };
    let dir = TempDir::new().expect("a folder");
    install(dir.path());
    // More numbers than are kept; those that are judged come last.
    let script = "printf '{'; i=0; while [ $i -lt 3000 ]; do printf '\"a%d\": 1, ' $i; i=$((i+1)); done; echo '\"z\": 3, \"y\": 2}'";
    let spec = spec.arg(script).check(MetricCheck::max("y", 9.0));
    let report = Running::start(&spec, dir.path(), None, LONG).expect("started").wait();
    let run = report.recorded();
    let checks =
        [Recorded::Min { path: "z".into(), limit: 1.0 }, Recorded::Max { path: "y".into(), limit: 9.0 }];
    assert_eq!(run.checks, checks);
    assert_eq!((report.metric("z"), report.metric("y")), (Some(3.0), Some(2.0)));
    assert_eq!((run.metrics.len(), run.metrics_left_out), (2002, 1000));
}

/// [`SHELL`] with a check.
const CHECKED: PayloadDef = PayloadDef { checks: &[MetricCheck::min("z", 1.0)], ..SHELL };

#[test]
fn one_that_is_dropped_is_ended() {
    let (_dir, running) = started("exec sleep 1000", LONG, None);
    let pid = running.pid();
    drop(running);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}
