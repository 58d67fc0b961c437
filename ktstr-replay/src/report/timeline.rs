//! What happened when: stages, phases, operations, and captures that are not periodic.

use crate::run::Run;
use crate::text::seconds;
use crate::trace::record::{CaptureKind, EventBody};

use super::Section;
use crate::text::table::{Align, layout};
use crate::text::{clean, shorten};

/// Entries that are shown of the beginning, and of the end.
const EACH_END: usize = 20;

pub(super) fn section(run: &Run<'_>) -> Section {
    let mut entries: Vec<(u64, String)> = Vec::new();
    for event in &run.events {
        let text = match &event.body {
            EventBody::Stage { stage, detail } => with(stage.as_str(), detail),
            EventBody::Body { error: Some(_), .. } => "the body returned an error".to_owned(),
            EventBody::PhaseBegin { index, name } => format!("phase {index} begins: {name}"),
            EventBody::PhaseEnd { index } => format!("phase {index} ends"),
            EventBody::Op { name, detail } => with(name, detail),
            EventBody::End { end, detail } => with(&format!("the machine ended ({end:?})"), detail),
            _ => continue,
        };
        entries.push((event.guest_ns, text));
    }
    for sample in run.samples.iter().filter(|s| s.kind != CaptureKind::Periodic) {
        entries.push((sample.guest_ns, format!("capture {}", sample.tag)));
    }
    // Stable: what happened at the same time stays in the order in which it was recorded.
    entries.sort_by_key(|(at, _)| *at);
    let count = entries.len();
    let row = |(at, text): &(u64, String)| vec![seconds(run.since_start_ns(*at)), shorten(&clean(text), 140)];
    let mut rows: Vec<_> = entries.iter().take(EACH_END).map(row).collect();
    if count > 2 * EACH_END {
        rows.push(vec!["...".to_owned(), format!("{} more", count - 2 * EACH_END)]);
    }
    rows.extend(entries.iter().skip(EACH_END.max(count.saturating_sub(EACH_END))).map(row));
    Section { title: "timeline".to_owned(), lines: layout(&[Align::Right, Align::Left], &rows) }
}

fn with(what: &str, detail: &str) -> String {
    if detail.is_empty() { what.to_owned() } else { format!("{what}: {detail}") }
}
