//! How much of a trace its history is.

use std::fs;

use ktstr_replay::history::HistoryLog;
use ktstr_replay::trace::TraceWriter;
use ktstr_replay::trace::record::{Event, EventBody, Manifest};

/// The steps of the history among `events`, and the bytes of a trace that has these and nothing else.
///
/// # Panics
/// When such a trace cannot be written.
#[must_use]
pub fn history_size(events: &[Event]) -> (usize, u64) {
    let is_history = |event: &&Event| matches!(event.body, EventBody::History(_));
    let history: Vec<Event> = events.iter().filter(is_history).cloned().collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.trace.zst");
    let mut writer = TraceWriter::create(&path, &Manifest::default()).expect("a trace");
    // Each capture has a record of its own, as when they are recorded.
    for captured in history.chunk_by(|one, other| one.guest_ns == other.guest_ns) {
        writer.events(captured).expect("events");
    }
    writer.finish().expect("an end");
    (HistoryLog::of(&history).steps.len(), fs::metadata(&path).expect("the file").len())
}
