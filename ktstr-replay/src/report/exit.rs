//! The scheduler at its exit: its variables, and the kernel's dump.

use crate::run::Run;
use crate::text::seconds;
use crate::trace::record::Sample;
use crate::value::{Leaf, Snapshot, Value, changing};

use super::Section;
use crate::text::table::{Align, layout};
use crate::text::{clean, shorten};

/// Variables that are shown.
const VARIABLES: usize = 28;
/// Longest value, in characters.
const VALUE_CHARS: usize = 48;
/// Longest list of the variables that are zero, in characters.
const ZERO_CHARS: usize = 160;
/// Lines of the dump that are shown.
const DUMP_LINES: usize = 40;

/// The variables of `.bss` and `.data` at the exit, beside what they were in the capture before it.
pub(super) fn variables(run: &Run<'_>) -> Option<Section> {
    let index = run.scheduler_exit()?.sample?;
    let sample = run.samples.iter().find(|s| s.index == index)?;
    let before =
        run.samples.iter().rev().find(|s| s.index < index && s.missed.is_none() && !s.maps.is_empty());
    let now = run.samples.snapshot(sample);
    let then = before.map(|s| run.samples.snapshot(s));
    let title = format!(
        "scheduler's variables at its exit ({}, {})",
        clean(&sample.tag),
        seconds(run.since_start_ns(sample.guest_ns))
    );
    if now.vars().is_empty() {
        return Some(Section { title, lines: vec![absent(sample)] });
    }
    let (zero, shown): (Vec<Leaf<'_>>, Vec<_>) = changing(&now).into_iter().partition(|(_, v)| is_zero(v));
    let mut rows = vec![vec!["variable".to_owned(), "at exit".to_owned()]];
    if let Some(before) = before {
        let at = seconds(run.since_start_ns(before.guest_ns));
        rows[0].push(format!("in {} ({at})", clean(&before.tag)));
    }
    for (name, value) in shown.iter().take(VARIABLES) {
        let mut row = vec![clean(name), show(value)];
        if let Some(then) = &then {
            row.push(earlier(then, name, value));
        }
        rows.push(row);
    }
    let mut lines = layout(&[Align::Left, Align::Left, Align::Left], &rows);
    if shown.len() > VARIABLES {
        lines.push(format!(
            "and {} more; `ktstr replay TRACE --var NAME` prints any",
            shown.len() - VARIABLES
        ));
    }
    if !zero.is_empty() {
        let names: Vec<_> = zero.iter().map(|(name, _)| clean(name)).collect();
        lines.push(shorten(&format!("zero: {}", names.join(", ")), ZERO_CHARS));
    }
    Some(Section { title, lines })
}

fn is_zero(value: &Value<'_>) -> bool {
    match value.scalar() {
        Ok(scalar) => scalar.to_f64() == 0.0,
        Err(_) => value.bytes().iter().all(|b| *b == 0),
    }
}

fn absent(sample: &Sample) -> String {
    match sample.faults.first() {
        Some(fault) => format!("none were captured: {}", clean(fault)),
        None => "none were captured: the scheduler's maps were gone by then".to_owned(),
    }
}

pub(super) fn show(value: &Value<'_>) -> String {
    shorten(&clean(&value.render()), VALUE_CHARS)
}

/// The value in an earlier capture: only the difference matters.
fn earlier(then: &Snapshot<'_>, name: &str, now: &Value<'_>) -> String {
    match then.var(name) {
        Ok(value) if value.same(now) => "the same".to_owned(),
        Ok(value) => show(&value),
        Err(_) => "-".to_owned(),
    }
}

/// The beginning of the kernel's dump of the scheduler's state.
pub(super) fn dump(run: &Run<'_>) -> Option<Section> {
    let dump = run.scheduler_exit()?.dump?;
    let all: Vec<_> = dump.lines().map(clean).collect();
    let mut lines: Vec<_> = all.iter().take(DUMP_LINES).cloned().collect();
    if all.len() > DUMP_LINES {
        lines.push(format!("... {} more lines", all.len() - DUMP_LINES));
    }
    Some(Section { title: "sched_ext's dump".to_owned(), lines })
}
