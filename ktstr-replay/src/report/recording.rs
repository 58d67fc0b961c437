//! What was recorded, as columns side by side (`ktstr replay --var`), and what was not.

use std::collections::BTreeMap;

use crate::memory::LeftOut;
use crate::repro;
use crate::run::Run;
use crate::series::Column;
use crate::text::{Align, layout};
use crate::text::{clean, seconds, shorten};
use crate::trace::record::Sample;
use crate::verdict::Verdict;

use super::{Detail, Section};

/// Longest reason for a missing value, in characters.
const REASON_CHARS: usize = 60;
/// Lines of each sort.
const LISTED: usize = 10;

/// What came of running the test again because the scheduler died.
pub(super) fn repro(run: &Run<'_>) -> Option<Section> {
    if run.trace.segment_number() != 0 {
        return None;
    }
    let (second, info) = repro::second(run.trace)?;
    let mut lines = repro::attempts(&info, second.segment_number());
    // Where it did not happen nobody came to that end.
    if info.attempts.last().is_some_and(|last| last.reproduced) {
        lines.extend(repro::last_calls(&Run::load(&second)));
    }
    Some(Section { title: "run again, to see how the scheduler died".to_owned(), lines })
}

/// A line for each sample, with its tag, its time and the columns' values. The columns are of one series.
pub fn columns(columns: &[&Column]) -> String {
    let Some(first) = columns.first() else { return String::new() };
    let mut head = vec!["sample".to_owned(), "time".to_owned()];
    head.extend(columns.iter().map(|c| clean(&c.projection.to_string())));
    let mut rows = vec![head];
    for (i, point) in first.points.iter().enumerate() {
        let mut row = vec![clean(&point.tag), seconds(first.since_start_ns(point))];
        row.extend(columns.iter().map(|column| match column.points.get(i).map(|p| &p.value) {
            Some(Ok(value)) => value.to_string(),
            Some(Err(why)) => format!("({})", shorten(&clean(&why.to_string()), REASON_CHARS)),
            None => "-".to_owned(),
        }));
        rows.push(row);
    }
    let mut align = vec![Align::Left, Align::Right];
    align.resize(2 + columns.len(), Align::Right);
    let mut out = layout(&align, &rows).join("\n");
    out.push('\n');
    out
}

/// What is not in the trace: missed captures, losses, parts of captures that could not be read.
pub(super) fn absent(run: &Run<'_>, verdict: &Verdict, detail: Detail) -> Option<Section> {
    let most = detail.most(LISTED);
    let mut lines = Vec::new();
    // The same reason comes again with each capture after an end.
    let mut missed: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in run.samples.iter() {
        if let Some(why) = &sample.missed {
            missed.entry(why).or_default().push(sample);
        }
    }
    let missed = missed.iter().filter_map(|(why, samples)| {
        let at =
            |sample: &Sample| format!("{} at {}", sample.tag, seconds(run.since_start_ns(sample.guest_ns)));
        Some(match samples.as_slice() {
            [] => return None,
            [one] => format!("capture {} was missed: {why}", at(one)),
            [first, .., last] => {
                format!("{} captures were missed, {} to {}: {why}", samples.len(), at(first), at(last))
            }
        })
    });
    extend(&mut lines, missed.collect(), most);
    // The same fault comes again with each capture.
    let mut faults: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for sample in run.samples.iter() {
        for fault in &sample.faults {
            faults.entry(fault).or_insert((0, &sample.tag)).0 += 1;
        }
    }
    let faults = faults.iter().map(|(fault, (count, first))| match count {
        1 => format!("not read in capture {first}: {fault}"),
        n => format!("not read in {n} captures, first in {first}: {fault}"),
    });
    extend(&mut lines, faults.collect(), most);
    // The same reason comes again with each capture after an end.
    let mut unanswered: BTreeMap<String, (usize, &str)> = BTreeMap::new();
    for sample in run.samples.iter() {
        for why in run.samples.stats().of_sample(sample.index).iter().filter_map(|reply| reply.json().err()) {
            unanswered.entry(why.to_string()).or_insert((0, &sample.tag)).0 += 1;
        }
    }
    let unanswered = unanswered.iter().map(|(why, (count, first))| match count {
        1 => format!("after capture {first}: {why}"),
        n => format!("after {n} captures, first {first}: {why}"),
    });
    extend(&mut lines, unanswered.collect(), most);
    let losses = run.losses.iter().map(|loss| {
        let count = if loss.count == 0 { String::new() } else { format!("{} ", loss.count) };
        format!("lost: {count}{:?}: {}", loss.kind, loss.detail)
    });
    extend(&mut lines, losses.collect(), most);
    lines.extend(left_out(run));
    // A judgement of the damaged trace has listed it already; the verdict of a whole one has not.
    if !verdict.findings.iter().any(|f| f.what == "trace") {
        extend(&mut lines, run.damage.iter().map(|damage| format!("damaged: {damage}")).collect(), most);
    }
    (!lines.is_empty()).then(|| Section { title: "not in the trace".to_owned(), lines })
}

/// What checkpoints leave out on purpose; the guest channel, which is ours, is not worth a line.
fn left_out(run: &Run<'_>) -> Option<String> {
    let mut parts = run.trace.left_out();
    parts.retain(|part| part.why != LeftOut::Channel);
    let each = parts.iter().map(|part| format!("{} {}", part.why.as_str(), mib(part.bytes())));
    let each = each.collect::<Vec<_>>().join(", ");
    (!each.is_empty()).then(|| format!("left out of checkpoints, as no decoder reads it: {each}"))
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn extend(lines: &mut Vec<String>, more: Vec<String>, most: usize) {
    let rest = more.len().saturating_sub(most);
    lines.extend(more.iter().take(most).map(|l| shorten(&clean(l), 160)));
    if rest > 0 {
        lines.push(format!("and {rest} more like it"));
    }
}
