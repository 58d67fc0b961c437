//! What is not in the trace: missed captures, losses, parts of captures that could not be read.

use std::collections::BTreeMap;

use crate::memory::LeftOut;
use crate::run::Run;
use crate::text::seconds;
use crate::verdict::Verdict;

use super::Section;
use crate::text::{clean, shorten};

/// Lines of each sort.
const LISTED: usize = 10;

pub(super) fn section(run: &Run<'_>, verdict: &Verdict) -> Option<Section> {
    let mut lines = Vec::new();
    let missed = run.samples.iter().filter_map(|s| {
        let at = seconds(run.since_start_ns(s.guest_ns));
        s.missed.as_ref().map(|why| format!("capture {} at {at} was missed: {why}", s.tag))
    });
    extend(&mut lines, missed.collect());
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
    extend(&mut lines, faults.collect());
    let losses = run.losses.iter().map(|loss| {
        let count = if loss.count == 0 { String::new() } else { format!("{} ", loss.count) };
        format!("lost: {count}{:?}: {}", loss.kind, loss.detail)
    });
    extend(&mut lines, losses.collect());
    lines.extend(left_out(run));
    // A judgement of the damaged trace has listed it already; the verdict of a whole one has not.
    if !verdict.findings.iter().any(|f| f.what == "trace") {
        extend(&mut lines, run.damage.iter().map(|damage| format!("damaged: {damage}")).collect());
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

fn extend(lines: &mut Vec<String>, more: Vec<String>) {
    let rest = more.len().saturating_sub(LISTED);
    lines.extend(more.iter().take(LISTED).map(|l| shorten(&clean(l), 160)));
    if rest > 0 {
        lines.push(format!("and {rest} more like it"));
    }
}
