//! A shell for a person in the guest of a test: `cargo ktstr shell`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_replay::run::Run;
use ktstr_replay::trace::record::CaptureKind;
use ktstr_tests::{cargo_ktstr, ktstr, run_bounded, written};
use tempfile::TempDir;

/// Longer than a run may take, on a host that others use.
const LIMIT: Duration = Duration::from_secs(900);

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// Its body must not run where a person has a shell; its claim does not hold.
#[ktstr_test(ignore, scheduler = DEMO, duration_s = 1, claims = ["each(nr_dispatched <= 0)"], num_snapshots = 3)]
fn has_a_shell(_ctx: &Ctx) -> Result<AssertResult> {
    bail!("the body ran")
}

fn shell(results: &Path) -> Command {
    let mut command = cargo_ktstr();
    // By the name of this test target, which has one test.
    command.args(["shell", "person", "--package", "ktstr-tests"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("KTSTR_RESULTS", results).env_remove("KTSTR_SAY");
    command
}

fn the_trace(results: &TempDir) -> PathBuf {
    let traces = results.path().read_dir().expect("a folder").flatten().map(|entry| entry.path());
    let traces: Vec<PathBuf> = traces.filter(|path| path.to_string_lossy().ends_with(".trace.zst")).collect();
    let [path] = traces.as_slice() else { panic!("not one trace: {traces:?}") };
    path.clone()
}

/// The run is recorded and replays; the shell's output is in it.
fn check_trace(path: &Path, words: &str) {
    let trace = Trace::open(path).expect("a trace");
    let run = Run::load(&trace);
    let verdict = run.recorded_verdict().expect("a verdict");
    assert_eq!(verdict.outcome(), Outcome::Pass, "{verdict:?}");
    let written = written(&trace);
    assert!(written.contains(words), "no `{words}` in {written}");
    let kinds: Vec<CaptureKind> = trace.samples().flatten().map(|sample| sample.kind).collect();
    assert!(kinds.contains(&CaptureKind::Attach) && kinds.contains(&CaptureKind::End), "{kinds:?}");
    let replayed = run_bounded(ktstr().arg("replay").arg(path).arg("--assert"), LIMIT);
    assert!(replayed.status.success(), "{replayed}");
}

#[test]
fn commands_of_a_pipe_are_run_in_the_guest_and_recorded() {
    let results = tempfile::tempdir().expect("a folder");
    let mut child = shell(results.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"cat /sys/kernel/sched_ext/root/ops; echo $(nproc) CPUs\n").expect("written");
    // The end of the input ends the shell.
    drop(stdin);
    let output = child.wait_with_output().expect("its output");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("demo\n2 CPUs\n"), "{stdout}\n{stderr}");
    let path = the_trace(&results);
    assert!(stdout.contains(&path.display().to_string()), "the path of the trace is not in {stdout}");
    check_trace(&path, "demo\n2 CPUs\n");
}

/// A terminal of this host, and the program's end of it.
fn terminal() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    let size = libc::winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the call writes two descriptors and reads a winsize; the other pointers may be null.
    let opened = unsafe {
        libc::openpty(&raw mut ours, &raw mut theirs, std::ptr::null_mut(), std::ptr::null(), &raw const size)
    };
    assert_eq!(opened, 0, "openpty");
    // SAFETY: the call has made it, for this use.
    let ours = unsafe { File::from_raw_fd(ours) };
    // SAFETY: as above.
    let theirs = unsafe { OwnedFd::from_raw_fd(theirs) };
    (ours, theirs)
}

/// Ctrl-C ends what runs in the guest and nothing else, the guest's terminal has the size of this one, and `exit` ends the run.
#[test]
fn a_terminal_is_that_of_the_guest() {
    let results = tempfile::tempdir().expect("a folder");
    let (ours, theirs) = terminal();
    let (stdout, stderr) =
        (theirs.try_clone().expect("a descriptor"), theirs.try_clone().expect("a descriptor"));
    let mut command = shell(results.path());
    let mut child = command.stdin(theirs).stdout(stdout).stderr(stderr).spawn().expect("started");
    // Our copies of the program's end are closed, so that reading ends when it has.
    drop(command);
    let mut typed = ours.try_clone().expect("a descriptor");
    let mut screen = Screen::of(ours);
    screen.await_text("guest:");
    typed.write_all(b"stty size; sleep 6543\n").expect("typed");
    screen.await_text("33 77");
    // It is echoed, and then the command runs; the shell reads no Ctrl-C of its own before that.
    thread::sleep(Duration::from_secs(1));
    typed.write_all(b"\x03").expect("typed");
    typed.write_all(b"echo $((40+2)) answers; exit\n").expect("typed");
    screen.await_text("42 answers");
    let status = child.wait().expect("ended");
    assert!(status.success(), "{}", screen.text);
    check_trace(&the_trace(&results), "42 answers");
}

/// What a terminal shows.
struct Screen {
    text: String,
    pieces: std::sync::mpsc::Receiver<String>,
}

impl Screen {
    fn of(mut terminal: File) -> Self {
        let (sender, pieces) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = terminal.read(&mut piece) {
                if sender.send(String::from_utf8_lossy(&piece[..length]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { text: String::new(), pieces }
    }

    fn await_text(&mut self, words: &str) {
        let begun = Instant::now();
        while !self.text.contains(words) {
            let left = LIMIT.saturating_sub(begun.elapsed());
            match self.pieces.recv_timeout(left) {
                Ok(piece) => self.text.push_str(&piece),
                Err(error) => panic!("no `{words}` ({error}) in:\n{}", self.text),
            }
        }
    }
}
