//! Tests that are run as child processes of a test, and the traces that they leave.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use ktstr_replay::claim::Claim;
use ktstr_replay::judge::CheckSource;
use ktstr_replay::run::Run;
use ktstr_replay::series::Samples;
use ktstr_replay::trace::Trace;
use ktstr_replay::trace::record::{CaptureKind, EventBody, Sample, Stage};
use ktstr_replay::verdict::Finding;
use tempfile::TempDir;

use crate::child::{Ended, run_bounded};
use crate::ktstr::ktstr;

/// Longer than any fixture may take. Machines wait for free CPUs of the host, so a busy host makes it long.
const LIMIT: Duration = Duration::from_secs(900);
/// How often a fixture is run that the host is not to disturb.
const TRIES: usize = 4;

/// An ignored test of this binary, to be run as a child.
#[derive(Debug)]
pub struct Fixture {
    name: String,
    command: Command,
    results: TempDir,
}

/// The test `name` (`module::function`) of the calling test's own binary.
pub fn fixture(name: &str) -> Fixture {
    let mut command = Command::new(env::current_exe().expect("the path of this test"));
    command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
    let results = tempfile::tempdir().expect("a folder for traces");
    // What it says is looked for in its own stderr.
    command.env("KTSTR_RESULTS", results.path()).env_remove("KTSTR_SAY");
    // One that dies is not run again, unless that is what is looked at.
    command.env("KTSTR_AUTO_REPRO", "0");
    Fixture { name: name.to_owned(), command, results }
}

impl Fixture {
    /// Runs it with this in its environment.
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// The command that runs it, and the folder that its trace goes to.
    pub fn into_parts(self) -> (Command, TempDir) {
        (self.command, self.results)
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When there is no test of that name, or it does not end.
    pub fn run(self) -> TestRun {
        let Self { name, mut command, results } = self;
        ran(&name, &mut command, results)
    }

    /// Runs it to its end, and again where the host did not run its machine for a while after the body had begun: a scheduler whose
    /// watchdog saw that ends for another reason, and of what is judged by the clock nothing can be said. A host that never leaves it
    /// alone gets the last of some runs.
    ///
    /// # Panics
    /// As [`Fixture::run`].
    pub fn run_undisturbed(self) -> TestRun {
        let Self { name, mut command, mut results } = self;
        for _ in 1..TRIES {
            let run = ran(&name, &mut command, results);
            if !run.was_disturbed() {
                return run;
            }
            println!("the host did not run the machine of {name} for a while: once more");
            results = tempfile::tempdir().expect("a folder for traces");
            command.env("KTSTR_RESULTS", results.path());
        }
        ran(&name, &mut command, results)
    }
}

fn ran(name: &str, command: &mut Command, results: TempDir) -> TestRun {
    let ended = run_bounded(command, LIMIT);
    assert!(ended.stdout.contains("running 1 test"), "no test {name}:\n{ended}");
    TestRun { ended, results }
}

/// A fixture that ended. Its traces go with it, unless the test that looks at it fails.
#[derive(Debug)]
pub struct TestRun {
    ended: Ended,
    results: TempDir,
}

impl Drop for TestRun {
    fn drop(&mut self) {
        if thread::panicking() {
            self.results.disable_cleanup(true);
            eprintln!("the traces are kept in {}", self.results.path().display());
        }
    }
}

impl Deref for TestRun {
    type Target = Ended;

    fn deref(&self) -> &Ended {
        &self.ended
    }
}

impl fmt::Display for TestRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ended.fmt(f)
    }
}

/// A value of one capture.
#[derive(Debug)]
pub struct Point {
    /// The capture's tag.
    pub tag: String,
    /// The value.
    pub value: u64,
}

impl TestRun {
    /// The files that it left for its results.
    ///
    /// # Panics
    /// When the folder cannot be read.
    pub fn results(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.results.path()).expect("the results");
        entries.map(|entry| entry.expect("a result").path()).collect()
    }

    /// The one trace that it left; of two the second, where the emulator failed in the first.
    ///
    /// # Panics
    /// When it left another number of files.
    pub fn trace_path(&self) -> PathBuf {
        let is_second = |path: &&PathBuf| path.to_string_lossy().ends_with(".2.trace.zst");
        match self.results().as_slice() {
            [trace] => trace.clone(),
            both @ [_, _] if self.stdout.contains("the test is run once more") => both
                .iter()
                .find(is_second)
                .unwrap_or_else(|| panic!("no second trace in {both:?}:\n{self}"))
                .clone(),
            other => panic!("not one trace but {other:?}:\n{self}"),
        }
    }

    /// Whether a trace of it says that the host did not run the machine for a while, after the body had begun.
    pub fn was_disturbed(&self) -> bool {
        let is_disturbed = |path: &PathBuf| {
            let Ok(trace) = Trace::open(path) else { return false };
            let is_begin =
                |body: &EventBody| matches!(body, EventBody::Stage { stage: Stage::BodyStarted, .. });
            let begun =
                trace.events().into_iter().find(|event| is_begin(&event.body)).map(|event| event.host_ns);
            trace.host_gaps().iter().any(|gap| begun.is_some_and(|begun| gap.end >= begun))
        };
        self.results().iter().any(is_disturbed)
    }

    /// That it passes; of one that the host disturbed, that nothing of it fails.
    ///
    /// # Panics
    /// When it does not.
    pub fn assert_holds(&self) {
        let fails = self.report().lines().any(|line| line.starts_with("FAIL "));
        assert!(self.status.success() || self.was_disturbed() && !fails, "it does not pass:\n{self}");
    }

    /// What a claim comes to on the trace, by the code that judges the run.
    ///
    /// # Panics
    /// When it is no claim.
    pub fn claimed(&self, text: &str) -> Finding {
        self.all_claimed(&[text.to_owned()]).remove(0)
    }

    /// The same of several, of a trace that is read once.
    ///
    /// # Panics
    /// When one is no claim.
    pub fn all_claimed(&self, texts: &[String]) -> Vec<Finding> {
        let parse = |text: &String| text.parse::<Claim>().unwrap_or_else(|error| panic!("{error}"));
        let claims: Vec<Claim> = texts.iter().map(parse).collect();
        let trace = self.trace();
        let verdict = Run::load(&trace).judge(Some(&claims), CheckSource::Recorded);
        let found = |claim: &Claim| {
            let claim = claim.to_string();
            let finding = verdict.findings.iter().find(|finding| finding.what == claim);
            finding.unwrap_or_else(|| panic!("`{claim}` was not judged:\n{self}")).clone()
        };
        claims.iter().map(found).collect()
    }

    /// The trace.
    ///
    /// # Panics
    /// When it does not open.
    pub fn trace(&self) -> Trace {
        Trace::open(&self.trace_path()).unwrap_or_else(|error| panic!("{error}\n{self}"))
    }

    /// Guest time from one stage to another.
    ///
    /// # Panics
    /// When one of them was not reached.
    pub fn between(&self, from: Stage, to: Stage) -> Duration {
        let events = self.trace().events();
        let at_ns = |wanted: Stage| {
            let is = |body: &EventBody| matches!(body, EventBody::Stage { stage, .. } if *stage == wanted);
            let event = events.iter().find(|event| is(&event.body));
            event.unwrap_or_else(|| panic!("{wanted:?} was not reached:\n{self}")).guest_ns
        };
        Duration::from_nanos(at_ns(to).saturating_since(at_ns(from)))
    }

    /// The only capture of a kind.
    ///
    /// # Panics
    /// When there is none, or more than one.
    pub fn sample(&self, kind: CaptureKind) -> Sample {
        let mut found = self.samples_of(kind);
        assert_eq!(found.len(), 1, "captures of kind {kind:?}:\n{self}");
        found.remove(0)
    }

    /// The captures of a kind, in the order in which they were taken.
    pub fn samples_of(&self, kind: CaptureKind) -> Vec<Sample> {
        let samples = Samples::load(&self.trace());
        samples.iter().filter(|sample| sample.kind == kind).cloned().collect()
    }

    /// A variable of the scheduler at the only capture of a kind, as text.
    ///
    /// # Panics
    /// When it is not there.
    pub fn var_at(&self, kind: CaptureKind, path: &str) -> String {
        let samples = Samples::load(&self.trace());
        let sample = self.sample(kind);
        let snapshot = samples.snapshot(&sample);
        snapshot.var(path).unwrap_or_else(|error| panic!("{error}\n{self}")).render()
    }

    /// A counter of the scheduler over the periodic captures.
    ///
    /// # Panics
    /// When a capture does not have it.
    pub fn series(&self, path: &str) -> Vec<Point> {
        let samples = Samples::load(&self.trace());
        let periodic = samples.iter().filter(|sample| sample.kind == CaptureKind::Periodic);
        let point = |sample: &Sample| {
            let snapshot = samples.snapshot(sample);
            let value = snapshot.var(path).and_then(|value| value.as_u64());
            Point {
                tag: sample.tag.clone(),
                value: value.unwrap_or_else(|error| panic!("{}: {error}", sample.tag)),
            }
        };
        periodic.map(point).collect()
    }

    /// Runs `ktstr replay TRACE --assert`, and compares: its report is, byte for byte, part of what the live run
    /// printed, but for the line that says where the report comes from; and its exit code is the verdict's.
    ///
    /// # Panics
    /// When it differs.
    pub fn assert_replays(&self) {
        let replay = self.replay();
        let report = without_provenance(&replay.stdout);
        assert!(report.lines().count() >= 3, "hardly a report:\n{replay}");
        let live = without_provenance(&self.stdout);
        assert!(live.contains(&report), "replay's report is not the live one.\n{replay}\n=== live\n{self}");
        assert_eq!(replay.status.success(), self.status.success(), "{replay}\n=== live\n{self}");
    }

    /// The report, without its provenance, as replay prints it again.
    pub fn report(&self) -> String {
        without_provenance(&self.replay().stdout)
    }

    /// The part of the report that is about a claim or check: the line with its outcome and the indented ones below.
    ///
    /// # Panics
    /// When there is none.
    pub fn section(&self, what: &str) -> String {
        let report = self.report();
        // An outcome is padded to a column, so two blanks at least follow it.
        let is_about = |line: &&str| {
            line.split_once("  ")
                .is_some_and(|(outcome, rest)| !outcome.is_empty() && rest.trim_start().starts_with(what))
        };
        let mut lines = report.lines().skip_while(|line| !is_about(line));
        let first = lines.next().unwrap_or_else(|| panic!("{what} is not in the report:\n{report}"));
        let below = lines.take_while(|line| line.starts_with(' '));
        std::iter::once(first).chain(below).collect::<Vec<_>>().join("\n")
    }

    fn replay(&self) -> Ended {
        run_bounded(ktstr().arg("replay").arg(self.trace_path()).arg("--assert"), LIMIT)
    }
}

/// All lines but the one that names the trace.
fn without_provenance(report: &str) -> String {
    let kept: Vec<&str> = report.lines().filter(|line| !line.contains(".trace.zst")).collect();
    kept.join("\n")
}
