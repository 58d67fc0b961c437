//! The golden traces: every reading of each prints what it always printed. And the tests whose runs they are.
//!
//! `tests/golden/READING/TRACE.txt` is what a command prints, `.json` beside it what it prints with `--json`, where it has that.
//! When a change is meant, `KTSTR_UPDATE_GOLDENS=1 cargo test -p ktstr-tests --test golden` writes them anew, and `git diff` is
//! what is reviewed. `traces/README.md` says how the traces are made from the fixtures here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ktstr::prelude::*;
use ktstr_tests::{DUMP, Ended, Printed, READINGS, files_below, json_of, ktstr, run_reading};
use serde_json::Value;
use similar::TextDiff;

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 5,
    num_snapshots = 10,
    checkpoint = "never",
    not_starved,
    claims = ["nondecreasing(nr_dispatched)", "each(nr_dispatched >= 1)", "always(alive)"]
)]
fn steady(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

#[ktstr_test(
    ignore,
    scheduler = DEMO,
    memory_mib = 256,
    duration_s = 8,
    num_snapshots = 10,
    claims = ["strictly_increasing(nr_dispatched)", "always(alive)"],
    attached = false,
    extra_sched_args = ["--stall-after-ms", "2000", "--timeout-ms", "2000"]
)]
fn stall(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

/// With a watch, a probe and the history, and a second machine in which it happens again.
#[ktstr_test(
    ignore,
    scheduler = DEMO,
    memory_mib = 256,
    duration_s = 4,
    num_snapshots = 3,
    checkpoint = "never",
    watch = ["scx_root->exit_kind"],
    probe = ["demo_exit(arg0->kind, arg0->msg)", "sched_fork(p->pid, clone_flags) returns"],
    claims = [
        "count(event(sched_switch)) >= 1",
        "never(watch(\"scx_root->exit_kind\" where new >= 1024))",
        "p99(wakeup_latency) <= 1s",
    ],
    extra_sched_args = ["--exit-after-ms", "1000", "--exit-message", "the demo gave up"]
)]
fn watched(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

/// Set, the goldens are written and not compared.
const UPDATE: &str = "KTSTR_UPDATE_GOLDENS";
/// Lines of a table for programs that a golden keeps.
const KEPT_ROWS: usize = 40;
/// Elements of a JSON list that a golden keeps, from its beginning.
const KEPT_ELEMENTS: usize = 3;

#[test]
fn every_reading_of_every_golden_trace_is_as_ever() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let traces = files_below(&root.join("../traces"), ".trace.zst");
    assert!(traces.len() >= 3, "{traces:?}");
    let goldens = root.join("golden");
    let found = readings(&traces);
    if std::env::var_os(UPDATE).is_some() {
        fs::remove_dir_all(&goldens).expect("the old goldens");
        for (name, text) in &found {
            let path = goldens.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a golden");
        }
        return;
    }
    let expected: BTreeMap<String, String> = files_below(&goldens, "")
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&goldens).expect("below").to_str().expect("UTF-8").to_owned();
            (name, fs::read_to_string(&path).expect("a golden"))
        })
        .collect();
    let names: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    let of = |texts: &'_ BTreeMap<String, String>, name| texts.get(name).cloned().unwrap_or_default();
    let differences: Vec<String> = names
        .into_iter()
        .filter(|name| expected.get(*name) != found.get(*name))
        .map(|name| {
            let (old, new) = (of(&expected, name), of(&found, name));
            let diff = TextDiff::from_lines(&old, &new);
            diff.unified_diff().header(name, "now").to_string()
        })
        .collect();
    let (count, all) = (differences.len(), differences.join("\n"));
    assert!(count == 0, "{count} goldens differ; if they should, set {UPDATE}=1 and review them:\n{all}");
}

/// A command, view or option that is added without a row of `READINGS` has no golden.
#[test]
fn every_command_and_option_that_reads_a_trace_is_among_the_readings() {
    // What reads no trace, and what every command has.
    let (no_reading, common) = (
        ["import", "kernel", "setup", "doctor", "machine", "selftest", "completions", "help"],
        ["--json", "--help", "--version"],
    );
    let mut commands = Vec::new();
    for command in help(&[]).0.into_iter().filter(|command| !no_reading.contains(&command.as_str())) {
        let below = help(&[&command]).0.into_iter().filter(|name| name != "help");
        let below: Vec<_> = below.map(|name| vec![command.clone(), name]).collect();
        commands.extend(if below.is_empty() { vec![vec![command]] } else { below });
    }
    assert!(commands.len() >= 8, "{commands:?}");
    for command in commands {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let rows: Vec<_> = READINGS.iter().filter(|(_, args)| args.starts_with(&words)).collect();
        assert!(!rows.is_empty(), "no reading of `ktstr {}`", words.join(" "));
        for option in help(&words).1.into_iter().filter(|option| !common.contains(&option.as_str())) {
            let has = rows.iter().any(|(_, args)| args.contains(&option.as_str()));
            assert!(has, "no reading of `ktstr {}` has {option}", words.join(" "));
        }
    }
}

/// The commands and options that `--help` of a command lists.
fn help(command: &[&str]) -> (Vec<String>, Vec<String>) {
    let output = ktstr().args(command).arg("--help").output().expect("ktstr runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let listed = text.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| line.starts_with("  "));
    // A description that goes on is indented further.
    let is_name = |line: &&str| !line.starts_with("   ");
    let first_word = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let commands = listed.filter(is_name).filter_map(first_word).collect();
    let option = |line: &str| {
        let mut words = line.split_whitespace().take_while(|word| word.starts_with('-'));
        let long = words.find(|word| word.starts_with("--"))?;
        long.split(['=', '[', '.']).next().map(str::to_owned)
    };
    (commands, text.lines().filter_map(option).collect())
}

/// What every reading of the traces prints, by the name of its golden.
fn readings(traces: &[PathBuf]) -> BTreeMap<String, String> {
    let jobs: Vec<_> = (0..traces.len()).flat_map(|nth| READINGS.iter().map(move |row| (nth, row))).collect();
    let (next, workers) = (AtomicUsize::new(0), thread::available_parallelism().map_or(1, usize::from));
    let work = || {
        let mut found = Vec::new();
        while let Some((nth, (form, args))) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            // Each is compared with the one that follows it.
            found.extend(goldens(*form, args, &traces[*nth], &traces[(nth + 1) % traces.len()]));
        }
        found
    };
    let all: Vec<(String, String)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    let count = all.len();
    let found = BTreeMap::from_iter(all);
    assert_eq!(found.len(), count, "two readings have the same name");
    found
}

/// The goldens of one reading of one trace: its text, and its JSON where it has that.
fn goldens(form: Printed, args: &[&str], trace: &Path, other: &Path) -> Vec<(String, String)> {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let neutral = |text: &str| {
        let named = |text: &str, path: &Path| text.replace(path.to_str().expect("UTF-8"), &name(path));
        named(&named(text, trace), other).replace(DUMP, "DUMP")
    };
    let trace_name = name(trace);
    let to = format!("{}/{}", reading_name(args), trace_name.trim_end_matches(".trace.zst"));
    let mut found = Vec::new();
    if form != Printed::Lines {
        let ended = run_reading(args, false, trace, other);
        let words = args.iter().map(|word| match *word {
            "TRACE" => trace_name.clone(),
            "OTHER" => name(other),
            word if word.contains(' ') => format!("'{word}'"),
            word => word.to_owned(),
        });
        let command = words.collect::<Vec<_>>().join(" ");
        let rows = if args.contains(&"--csv") { KEPT_ROWS } else { usize::MAX };
        let (text, code) = (printed(&neutral(&ended.stdout), rows), ended.status.code());
        let mut text = format!("$ ktstr {command}\n{text}");
        if !ended.stderr.is_empty() {
            text.push_str(&format!("--- stderr\n{}", neutral(&ended.stderr)));
        }
        text.push_str(&format!("--- exit code {}\n", code.expect("an exit code")));
        found.push((format!("{to}.txt"), text));
    }
    if form != Printed::Other {
        let ended = run_reading(args, true, trace, other);
        let ended = Ended { stdout: neutral(&ended.stdout), ..ended };
        let documents = json_of(form, args, &ended).into_iter().map(shortened);
        let texts = documents.map(|json| match form {
            Printed::Lines => format!("{json}\n"),
            Printed::Document | Printed::Other => format!("{json:#}\n"),
        });
        let text = printed(&texts.collect::<String>(), usize::MAX);
        if !text.is_empty() {
            let text = if form == Printed::Lines { printed(&text, KEPT_ROWS) } else { text };
            found.push((format!("{to}.json"), text));
        }
    }
    found
}

/// The name of a reading's folder: its words, without the trace where that is the only one.
fn reading_name(args: &[&str]) -> String {
    let traces = args.iter().filter(|word| matches!(**word, "TRACE" | "OTHER")).count();
    let words = args.iter().filter(|word| traces > 1 || **word != "TRACE");
    let text = words.copied().collect::<Vec<_>>().join("-").to_lowercase();
    let parts = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// The first lines of a text, and how many more there are.
fn printed(text: &str, kept: usize) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let more = lines.len().saturating_sub(kept);
    lines.truncate(kept);
    let mut text: String = lines.into_iter().map(|line| format!("{line}\n")).collect();
    if more > 0 {
        text.push_str(&format!("({more} lines more)\n"));
    }
    text
}

/// JSON with the first elements of each list, and how many more there are.
fn shortened(value: Value) -> Value {
    match value {
        Value::Array(mut values) => {
            let more = values.len().saturating_sub(KEPT_ELEMENTS);
            values.truncate(KEPT_ELEMENTS);
            let mut values: Vec<_> = values.into_iter().map(shortened).collect();
            values.extend((more > 0).then(|| format!("({more} more)").into()));
            Value::Array(values)
        }
        Value::Object(members) => members.into_iter().map(|(key, value)| (key, shortened(value))).collect(),
        other => other,
    }
}
