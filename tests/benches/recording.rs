//! What recording costs the guest: the work that its workers get done with captures, against the same run without.
//!
//! A program of its own and not a harness's: one run takes half a minute, and is itself the sample. Runs with and without
//! captures take turns, so that a host that slows down slows down both.

use std::path::Path;
use std::process::{Command, Stdio};

use ktstr_replay::trace::Trace;
use ktstr_replay::trace::record::{EventBody, Stage};

fn main() {
    let rounds = if std::env::args().any(|arg| arg == "--test") { 1 } else { 5 };
    let mut shares = Vec::new();
    for _ in 0..rounds {
        let [without, with] = ["without_captures", "twenty_checkpoints"].map(run);
        shares.push(100.0 * (1.0 - with.per_host_second() / without.per_host_second()));
        println!(
            "{:.1} % fewer units of work in a second: {without:?} without captures, {with:?}",
            shares[shares.len() - 1]
        );
    }
    shares.sort_by(f64::total_cmp);
    println!(
        "twenty checkpoints in 12 s take {:.1} % of the guest's work (median of {rounds}), promised 5 %",
        shares[rounds / 2]
    );
}

/// What the workers of a run did.
#[derive(Debug)]
struct Work {
    units: u64,
    host_s: f64,
}

impl Work {
    fn per_host_second(&self) -> f64 {
        self.units as f64 / self.host_s
    }

    /// Of the trace's workers, between the beginning and the end of the test's body.
    fn of(trace: &Trace) -> Self {
        let events = trace.events();
        let units = |body: &EventBody| match body {
            EventBody::Worker(report) => report.work_units,
            _ => 0,
        };
        let host_ns = |wanted: Stage| {
            let is = |body: &EventBody| matches!(body, EventBody::Stage { stage, .. } if *stage == wanted);
            events.iter().find(|event| is(&event.body)).expect("a stage").host_ns
        };
        Self {
            units: events.iter().map(|event| units(&event.body)).sum(),
            host_s: (host_ns(Stage::BodyEnded) - host_ns(Stage::BodyStarted)) as f64 / 1e9,
        }
    }
}

/// Run a test of `tests/size.rs`.
fn run(test: &str) -> Work {
    let results = tempfile::tempdir().expect("a folder for the trace");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "--quiet", "--package", "ktstr-tests", "--test", "size", "--"]);
    command.args(["--exact", test, "--include-ignored"]).env("KTSTR_RESULTS", results.path());
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).stdin(Stdio::null());
    let output = command.output().expect("starting cargo");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{command:?} failed:\n{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Work::of(&Trace::open(&only_file(results.path())).expect("a trace"))
}

fn only_file(folder: &Path) -> std::path::PathBuf {
    let mut entries = folder.read_dir().expect("the results");
    let entry = entries.next().expect("a trace").expect("a trace");
    assert!(entries.next().is_none(), "one run, one trace");
    entry.path()
}
