//! Several traces at once: a line for each, and the worst of their exit codes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use anyhow::Context;
use ktstr_replay::report;
use ktstr_replay::run::Run;
use ktstr_replay::text::printable;
use ktstr_replay::trace::Trace;
use ktstr_replay::verdict::Verdict;
use serde_json::{Value, json};

use super::readings::By;
use crate::cli::opened::what_follows;
use crate::cli::{COULD_NOT, out};

/// One trace, judged.
struct Judged {
    verdict: Verdict,
    title: String,
    /// Notes on it: bytes that follow it in its file, a missing verdict.
    notes: Vec<String>,
}

/// Judge each of `traces`, on all CPUs, and print a line for each in their order.
///
/// A trace that cannot be read is an error on stderr, and does not keep the others from being judged.
///
/// # Errors
/// When nothing can be written.
pub(super) fn print_all(traces: &[PathBuf], by: &By, as_json: bool) -> anyhow::Result<ExitCode> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(traces.len());
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    let mut worst = 0;
    let mut documents = Vec::new();
    thread::scope(|scope| {
        for _ in 0..workers {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some((nth, path)) = {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    traces.get(nth).map(|path| (nth, path))
                } {
                    // Nobody listens any more when the output cannot be written.
                    if sender.send((nth, judge(path, by))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut due = traces.iter().enumerate();
        let mut expected = due.next();
        for (nth, judged) in results {
            early.insert(nth, judged);
            while let Some((nth, path)) = expected
                && let Some(judged) = early.remove(&nth)
            {
                let code = print_one(path, judged, as_json, &mut documents)?;
                worst = worse(worst, code);
                expected = due.next();
            }
        }
        anyhow::Ok(())
    })?;
    if as_json {
        out::write_json(&json!({ "traces": documents }))?;
    }
    Ok(ExitCode::from(worst))
}

fn judge(path: &Path, by: &By) -> anyhow::Result<Judged> {
    let trace = Trace::open(path).with_context(|| format!("could not replay {}", path.display()))?;
    let run = Run::load(&trace);
    let (verdict, none_recorded) = by.verdict(&run);
    let mut notes: Vec<String> = trace.after_end().iter().map(what_follows).collect();
    if none_recorded {
        notes.push("no verdict is recorded in the trace; it is judged now".to_owned());
    }
    Ok(Judged { title: report::title(&run, &verdict), verdict, notes })
}

/// Print the line of a trace; its exit code.
fn print_one(
    path: &Path,
    judged: anyhow::Result<Judged>,
    as_json: bool,
    documents: &mut Vec<Value>,
) -> anyhow::Result<u8> {
    let judged = match judged {
        Ok(judged) => judged,
        Err(error) => {
            out::error(&error);
            if as_json {
                documents.push(json!({ "trace": out::path(path), "error": format!("{error:#}") }));
            }
            return Ok(COULD_NOT);
        }
    };
    for note in &judged.notes {
        out::note(&format!("note: {}: {note}", path.display()));
    }
    if as_json {
        documents.push(json!({ "trace": out::path(path), "verdict": judged.verdict }));
    } else {
        // A line for each, also of a file whose name has a newline.
        out::write(&format!("{}: {}\n", printable(&path.display().to_string()), judged.title))?;
    }
    Ok(judged.verdict.exit_code())
}

/// The worse of two exit codes: 3 (could not be read), 1 (failed), 2 (inconclusive), 0.
fn worse(one: u8, other: u8) -> u8 {
    let rank = |code: &u8| match code {
        0 => 0,
        2 => 1,
        1 => 2,
        _ => 3,
    };
    [one, other].into_iter().max_by_key(rank).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_worse_than_what_cannot_be_told_and_less_than_what_cannot_be_read() {
        let mut codes = vec![3, 1, 2, 0];
        assert_eq!(codes.iter().copied().fold(0, worse), 3);
        for expected in [3, 1, 2, 0] {
            assert_eq!(codes.iter().rev().copied().fold(0, worse), expected);
            codes.remove(0);
        }
    }
}
