//! Every command that reads a trace.

use std::path::Path;
use std::time::Duration;

use crate::child::{Ended, run_bounded};
use crate::ktstr::ktstr;

const LIMIT: Duration = Duration::from_secs(120);

/// What a command prints when it is asked for JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printed {
    /// One JSON document with `--json`.
    Document,
    /// An object a line with `--json`.
    Lines,
    /// Something else: it has no `--json`.
    Other,
}

use Printed::{Document, Lines, Other};

/// A text with the kernel's dump of a stall.
pub const DUMP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ktstr-replay/src/pasted/dumps/stall.txt");

/// Every subcommand of `ktstr` that reads a trace, and every option of it: `tests/golden.rs` compares them with what `--help`
/// lists. `TRACE` stands for the trace, `OTHER` for a second one, `NEW` for a file to write, `DUMP` for [`DUMP`].
pub const READINGS: &[(Printed, &[&str])] = &[
    (Document, &["trace", "info", "TRACE"]),
    (Document, &["trace", "info", "TRACE", "--records"]),
    (Document, &["trace", "verify", "TRACE"]),
    (Document, &["trace", "repair", "TRACE", "NEW"]),
    (Document, &["trace", "slim", "TRACE", "NEW", "--level", "1", "--redact", "--drop", "console"]),
    (
        Document,
        &["trace", "slim", "TRACE", "NEW", "--level", "1", "--pages", "read", "--keep-checkpoints", "1"],
    ),
    (Document, &["trace", "slim", "TRACE", "NEW", "--level", "1", "--for-upload"]),
    (Document, &["trace", "diff", "TRACE", "TRACE"]),
    (Document, &["trace", "diff", "TRACE", "OTHER"]),
    (Document, &["trace", "diff", "OTHER", "TRACE", "--only", "verdict"]),
    (Lines, &["trace", "export", "TRACE"]),
    (Other, &["trace", "export", "TRACE", "--csv"]),
    (Other, &["trace", "export", "TRACE", "--csv", "events"]),
    (Other, &["trace", "export", "TRACE", "--vmcore", "NEW"]),
    (Other, &["trace", "export", "TRACE", "--vmcore", "NEW", "--at", "attach"]),
    (Document, &["why", "TRACE"]),
    (Document, &["why", "TRACE", "--segment", "1"]),
    (Document, &["why", "--dump", "DUMP", "--nth", "1"]),
    (Lines, &["trace", "export", "TRACE", "--segment", "1"]),
    (Document, &["trace", "diff", "TRACE", "TRACE", "--segment", "1"]),
    (Document, &["trace", "diff", "TRACE", "TRACE", "--segment-a", "0", "--segment", "1"]),
    (Document, &["trace", "slim", "TRACE", "NEW", "--level", "1", "--drop", "segments"]),
    (Document, &["replay", "TRACE"]),
    (Document, &["replay", "TRACE", "--assert"]),
    (Other, &["replay", "TRACE", "--full"]),
    (Document, &["replay", "TRACE", "--assert", "each(nr_enqueued >= 1)", "always(alive)"]),
    (
        Document,
        &[
            "replay",
            "TRACE",
            "--assert",
            "count(event(sched_migrate_task)) in 0..100",
            "never(probe(demo_enqueue where p->pid == 1))",
            "eventually(event(phase_begin), by=1s)",
        ],
    ),
    (Document, &["replay", "TRACE", "--var", "nr_enqueued"]),
    (Document, &["replay", "TRACE", "--var", "nr_enqueue"]),
    (Document, &["replay", "TRACE", "--var", "rq[1].nr_running", "--var", "rq[1].curr->pid"]),
    (Document, &["replay", "TRACE", "--tasks"]),
    (Document, &["replay", "TRACE", "--runqueues"]),
    (Document, &["replay", "TRACE", "--dsqs"]),
    (Document, &["replay", "TRACE", "--scx"]),
    (Document, &["replay", "TRACE", "--stacks"]),
    (Document, &["replay", "TRACE", "--stacks", "--debuginfo", "nowhere"]),
    (Document, &["replay", "TRACE", "--cgroups"]),
    (Document, &["replay", "TRACE", "--cpu-time"]),
    (Document, &["replay", "TRACE", "--dmesg"]),
    (Document, &["replay", "TRACE", "--maps"]),
    (Document, &["replay", "TRACE", "--map", "scx_demo.bss"]),
    (Document, &["replay", "TRACE", "--map", "demo_ops", "--follow"]),
    (Document, &["replay", "TRACE", "--map", "nowhere"]),
    (Document, &["replay", "TRACE", "--progs"]),
    (Document, &["replay", "TRACE", "--stats"]),
    (Document, &["replay", "TRACE", "--stats", "--at", "attach"]),
    (Document, &["replay", "TRACE", "--watches"]),
    (Document, &["replay", "TRACE", "--dump"]),
    (Document, &["replay", "TRACE", "--events"]),
    (
        Document,
        &["replay", "TRACE", "--events", "--task", "1", "--cpu", "0", "--from", "-30s", "--to", "0.5s"],
    ),
    (Document, &["replay", "TRACE", "--probes"]),
    (Document, &["replay", "TRACE", "--repro-chain"]),
    (Document, &["replay", "TRACE", "--segment", "1"]),
    (Document, &["replay", "TRACE", "--runqueues", "--dsqs", "--at", "attach"]),
    (Document, &["replay", "TRACE", "--tasks", "--at", "nowhere"]),
];

/// Runs a reading, in a folder of its own that must hold nothing after it but the file that was asked for: no name of a
/// file comes out of a trace.
///
/// # Panics
/// When it leaves another file, or does not end.
pub fn run_reading(args: &[&str], json: bool, trace: &Path, other: &Path) -> Ended {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = ktstr();
    command.current_dir(folder.path());
    for arg in args {
        match *arg {
            "TRACE" => command.arg(trace),
            "OTHER" => command.arg(other),
            "NEW" => command.arg("new"),
            "DUMP" => command.arg(DUMP),
            word => command.arg(word),
        };
    }
    if json {
        command.arg("--json");
    }
    let ended = run_bounded(&mut command, LIMIT);
    for left in std::fs::read_dir(folder.path()).expect("the folder") {
        let name = left.expect("a file").file_name();
        assert!(args.contains(&"NEW") && name == "new", "{args:?} left {name:?}:\n{ended}");
    }
    ended
}

/// The JSON documents that a reading printed when it was asked for JSON: an object each. What cannot be told (a trace without
/// memory has no tasks) is an error on stderr, with nothing on stdout, and gives none.
///
/// # Panics
/// When it printed something else.
pub fn json_of(form: Printed, args: &[&str], ended: &Ended) -> Vec<serde_json::Value> {
    if ended.stdout.is_empty() {
        assert!(!ended.status.success() && ended.stderr.starts_with("error: "), "{args:?}: {ended}");
        return Vec::new();
    }
    let documents: Vec<&str> = match form {
        Lines => ended.stdout.lines().collect(),
        Document | Other => vec![&ended.stdout],
    };
    let parse = |document: &str| {
        let value: Result<serde_json::Value, _> = serde_json::from_str(document);
        value.ok().filter(serde_json::Value::is_object)
    };
    let all: Option<Vec<_>> = documents.into_iter().map(parse).collect();
    all.unwrap_or_else(|| panic!("{args:?} prints no JSON: {ended}"))
}
