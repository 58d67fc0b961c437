//! The folders of runs: what is removed of them, and the traces of one, as people are told of them.

use std::env;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ktstr_replay::report;
use ktstr_replay::run::Run;
use ktstr_replay::text;
use ktstr_replay::trace::Trace;

use super::super::out;
use super::table::{Row, TestName};
use crate::gauntlet::{PRESETS, test_of_variant};
use crate::host::left::take_in;
use crate::host::live::{remove_unless_live, unless_live};
use crate::host::results::{ASKED, TRACE_SUFFIX, is_run_name};
use crate::host::shell::for_shell;
use crate::host::untraced::{Untraced, take};

/// Lines of a reason that are shown behind its first.
const REASON_LINES: usize = 12;

/// Say of each trace how its run ended, what was verified, and how to look at it again. Returns the rows of those that can be read.
pub(super) fn print_traces(results: &Path, kernel: &str) -> Result<Vec<Row>> {
    let here = env::current_dir().unwrap_or_default();
    let looked_at: Vec<_> = traces(results)?.into_iter().map(|path| (look_at(&path, kernel), path)).collect();
    let rows: Vec<Row> = looked_at.iter().filter_map(|((_, row), _)| row.clone()).collect();
    for ((summary, row), path) in looked_at {
        let shown = for_shell(path.strip_prefix(&here).unwrap_or(&path));
        let whose = row.as_ref().and_then(|row| row.test.told_apart(rows.iter().map(|row| &row.test)));
        let whose = whose.map(|krate| format!("{krate}:\n")).unwrap_or_default();
        out::write(&format!("{whose}{summary}\n  again: ktstr replay {shown} --assert\n"))?;
    }
    Ok(rows)
}

/// Say of each test that failed before it had a trace why. Returns their rows.
pub(super) fn print_untraced(results: &Path, kernel: &str) -> Result<Vec<Row>> {
    let taken = take(results).with_context(|| format!("could not list {}", results.display()))?;
    let row = |test: &Untraced| Row::untraced(name_of(test), machine_of(test), kernel);
    let rows: Vec<Row> = taken.iter().map(row).collect();
    for (test, row) in taken.iter().zip(&rows) {
        let whose = row.test.told_apart(rows.iter().map(|row| &row.test));
        let whose = whose.map(|krate| format!("{krate}:\n")).unwrap_or_default();
        out::write(&format!("{whose}{}", in_short(test)))?;
    }
    Ok(rows)
}

fn name_of(test: &Untraced) -> TestName {
    TestName::of(
        &text::printable(&test.package),
        &text::printable(&test.target),
        &text::printable(&test.name),
    )
}

/// The machine of a variant, as its column in the table of the gauntlet has it; of another test it is not told anywhere.
fn machine_of(test: &Untraced) -> String {
    let of = test_of_variant(&test.name);
    let preset = PRESETS.iter().find(|preset| preset.variant_of(&of) == test.name);
    preset.map_or_else(String::new, |preset| preset.topology.to_string())
}

/// `FAIL two: could not build it`, what else is said of it, and that there is no trace.
fn in_short(test: &Untraced) -> String {
    let mut lines = test.reason.lines().map(text::printable).filter(|line| !line.trim().is_empty());
    let mut said = format!("FAIL {}: {}\n", text::printable(&test.name), lines.next().unwrap_or_default());
    let more: Vec<String> = lines.collect();
    said.extend(more.iter().take(REASON_LINES).map(|line| format!("  {line}\n")));
    if more.len() > REASON_LINES {
        said.push_str(&format!("  and {} more lines, which it printed above\n", more.len() - REASON_LINES));
    }
    said.push_str("  it left no trace\n");
    said
}

/// The first two lines of a trace's report, or why there are none; and its row, if it can be read.
fn look_at(path: &Path, kernel: &str) -> (String, Option<Row>) {
    let trace = match Trace::open(path) {
        Ok(trace) => trace,
        Err(error) => return (format!("the trace cannot be read: {error}"), None),
    };
    let run = Run::load(&trace);
    let verdict = run.recorded_verdict();
    let summary = match &verdict {
        Some(verdict) => report::summary(&run, verdict),
        None => format!(
            "{} was not judged: its run was ended from outside",
            text::printable(&run.manifest().test.name)
        ),
    };
    (summary, Some(Row::of(run.manifest(), verdict.as_ref(), path, kernel)))
}

/// The traces in a folder, by name; none when there is no folder, as no test was run.
fn traces(results: &Path) -> Result<Vec<PathBuf>> {
    if !results.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(results).with_context(|| format!("could not list {}", results.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.to_str().is_some_and(|name| name.ends_with(TRACE_SUFFIX))).collect();
    paths.sort();
    Ok(paths)
}

/// Remove the folders of all but the newest runs. Those of runs that go on stay, and folders of other names, which are not ours.
pub(super) fn remove_old_runs(runs: &Path, keep: usize) -> Result<()> {
    if !runs.exists() {
        return Ok(());
    }
    let entries = fs::read_dir(runs).with_context(|| format!("could not list {}", runs.display()))?;
    let mut folders: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter(|entry| {
            entry.file_name().to_str().is_some_and(|name| is_run_name(name) && !name.starts_with(ASKED))
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    folders.sort();
    let old = folders.len().saturating_sub(keep);
    for (_, folder) in folders.into_iter().take(old) {
        let removed = remove_unless_live(&folder);
        if !removed.with_context(|| format!("could not remove {}", folder.display()))? {
            out::note(&format!("ktstr: {} is kept: its run goes on", folder.display()));
        }
    }
    Ok(())
}

/// Have what second machines saw whose process was killed become a part of the traces that it belongs to, in the folders of runs that have
/// ended.
pub(super) fn take_in_left(runs: &Path) {
    let entries = fs::read_dir(runs).into_iter().flatten().flatten();
    for run in entries.filter(|entry| entry.file_name().to_str().is_some_and(is_run_name)) {
        // A run on several kernels has a folder in its folder for each.
        let inner = fs::read_dir(run.path()).into_iter().flatten().flatten();
        let inner = inner.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        for folder in iter::once(run.path()).chain(inner.map(|entry| entry.path())) {
            unless_live(&folder, || take_in_of(&folder));
        }
    }
}

/// The same in one folder, into which nobody may write.
pub(super) fn take_in_of(folder: &Path) {
    for (path, taken) in take_in(folder).unwrap_or_default() {
        let path = path.display();
        out::note(&match taken {
            Ok(()) => format!("ktstr: {path}: a second machine whose process was killed is a part of it now"),
            Err(error) => format!("ktstr: {path} stays as it is: {error:#}"),
        });
    }
}

/// Remove what commands that were killed have left in the folder of runs besides traces.
pub(super) fn remove_left(runs: &Path) {
    let entries = fs::read_dir(runs).into_iter().flatten().flatten();
    let is_asked = |name: &str| name.starts_with(ASKED) && is_run_name(name);
    for entry in entries.filter(|entry| entry.file_name().to_str().is_some_and(is_asked)) {
        // It is small, and another command may be faster.
        let _ = remove_unless_live(&entry.path());
    }
}

#[cfg(test)]
mod tests {
    use ktstr_replay::trace::TraceWriter;
    use ktstr_replay::trace::record::Manifest;
    use ktstr_replay::verdict::{Finding, Origin, Outcome, Verdict};
    use tempfile::TempDir;

    use super::*;
    use crate::host::live::LiveFolder;

    /// Of a run on several kernels it stayed beside the first machine's for ever.
    #[test]
    fn a_second_machines_trace_is_taken_in_in_the_folder_of_a_kernel_too() {
        let dir = TempDir::new().expect("a folder");
        let of_kernel = dir.path().join("20261127T011152Z-1").join("1-7.1.13");
        fs::create_dir_all(&of_kernel).expect("a folder");
        let [first, second] = ["a.trace.zst", "a.repro.trace.zst"].map(|name| of_kernel.join(name));
        for (path, started_at) in [(&first, "1"), (&second, "2")] {
            let manifest = Manifest { started_at: started_at.to_owned(), ..Manifest::default() };
            TraceWriter::create(path, &manifest).and_then(TraceWriter::finish).expect("a trace");
        }
        let live = LiveFolder::make(&of_kernel).expect("held");
        take_in_left(dir.path());
        assert!(second.exists(), "its run goes on");
        drop(live);
        // A child that another test starts at this moment has a copy of the lock until its exec.
        let begun = std::time::Instant::now();
        while second.exists() {
            assert!(begun.elapsed().as_secs() < 60, "it is not taken in");
            take_in_left(dir.path());
        }
        assert_eq!(Trace::open(&first).expect("a trace").segments(), [1], "the machines beyond the first");
    }

    #[test]
    fn only_the_newest_runs_are_kept_and_those_that_go_on() {
        let dir = TempDir::new().expect("a folder");
        let run = |number: u32| format!("20261127T011152Z-{number}");
        // `KTSTR_RESULTS` may be a folder with other things in it.
        fs::create_dir(dir.path().join("src")).expect("a folder");
        for number in 1..5 {
            fs::create_dir(dir.path().join(run(number))).expect("a folder");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        // These are no runs, though the newest of all, and one is in use.
        let asked = ["asked-7", "asked-8"].map(|name| dir.path().join(name));
        fs::create_dir(&asked[0]).expect("a folder");
        let in_use = LiveFolder::make(&asked[1]).expect("held");
        let live = LiveFolder::make(&dir.path().join(run(2))).expect("held");
        remove_old_runs(dir.path(), 1).expect("removed");
        remove_left(dir.path());
        let left = || {
            let mut left: Vec<_> =
                fs::read_dir(dir.path()).expect("a folder").flatten().map(|e| e.file_name()).collect();
            left.sort();
            left
        };
        assert_eq!(left(), [run(2).as_str(), run(4).as_str(), "asked-8", "src"]);
        drop((live, in_use));
        remove_old_runs(dir.path(), 0).expect("removed");
        remove_left(dir.path());
        assert_eq!(left(), ["src"]);
        remove_old_runs(&dir.path().join("none"), 1).expect("nothing to remove");
    }

    #[test]
    fn a_trace_is_summed_up_by_its_verdict() {
        let dir = TempDir::new().expect("a folder");
        let path = dir.path().join("x.trace.zst");
        let (said, row) = look_at(&path, "7.3");
        assert!(said.starts_with("the trace cannot be read"));
        assert_eq!(row, None);
        let mut manifest = Manifest::default();
        manifest.test.name = "two".to_owned();
        let mut writer = TraceWriter::create(&path, &manifest).expect("a trace");
        writer.commit().expect("committed");
        assert_eq!(look_at(&path, "7.3").0, "two was not judged: its run was ended from outside");
        let mut verdict = Verdict::new();
        verdict.add(Finding::new(Origin::Run, "body", Outcome::Fail, "fell over"));
        writer.verdict(&verdict).expect("a verdict");
        writer.finish().expect("finished");
        let (text, _) = look_at(&path, "7.3");
        assert!(text.starts_with("FAIL two: fell over\n  checked: "), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn a_test_without_a_trace_is_summed_up_by_its_reason() {
        let untraced = |name: &str, reason: &str| {
            let (package, target) = ("p-q".to_owned(), "demo".to_owned());
            Untraced { package, target, name: name.to_owned(), reason: reason.to_owned() }
        };
        let one = untraced("a::two", "a claim: no `)`\n\n  | each(x\n  |       ^\n");
        assert_eq!(
            in_short(&one),
            "FAIL a::two: a claim: no `)`\n    | each(x\n    |       ^\n  it left no trace\n"
        );
        assert_eq!(name_of(&one), TestName::of("p-q", "demo", "a::two"));
        assert_eq!(machine_of(&one), "");
        let preset = PRESETS.first().expect("a machine");
        let variant = untraced(&preset.variant_of("a::two"), "no");
        assert_eq!(name_of(&variant), name_of(&one));
        assert_eq!(machine_of(&variant), preset.topology.to_string());
        let long = in_short(&untraced("two", &"line\n".repeat(100)));
        assert!(long.contains("and 87 more lines") && long.lines().count() == 15, "{long}");
        assert!(!in_short(&untraced("two", "\u{1b}[2J")).contains('\u{1b}'));
    }

    #[test]
    fn traces_are_listed_by_name() {
        let dir = TempDir::new().expect("a folder");
        for name in ["b.trace.zst", "a.trace.zst", "c.txt"] {
            fs::write(dir.path().join(name), "").expect("a file");
        }
        let names: Vec<_> = traces(dir.path()).expect("a list");
        assert_eq!(names, [dir.path().join("a.trace.zst"), dir.path().join("b.trace.zst")]);
        assert!(traces(&dir.path().join("none")).expect("no folder").is_empty());
    }
}
