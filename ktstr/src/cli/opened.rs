//! Opening a trace for a command, and saying what else is in its file.

use std::path::Path;

use ktstr_replay::trace::{AfterEnd, Trace, TraceError};

use super::out;

/// Open a trace, and tell of what follows it in its file.
///
/// # Errors
/// As [`Trace::open`].
pub(super) fn open(path: &Path) -> Result<Trace, TraceError> {
    let trace = Trace::open(path)?;
    if let Some(after) = trace.after_end() {
        out::note(&format!("note: {}: {}", path.display(), what_follows(&after)));
    }
    Ok(trace)
}

/// The part of a trace that is of the run's machine `number`.
///
/// # Errors
/// [`NoSegment`].
pub(super) fn segment(trace: Trace, number: u16) -> Result<Trace, NoSegment> {
    if number == 0 {
        return Ok(trace);
    }
    trace.segment(number).ok_or_else(|| NoSegment { number, have: trace.segments() })
}

/// A segment that a trace does not have.
#[derive(Debug, thiserror::Error)]
#[error("the trace has no segment {number}: {}", in_words(.have))]
pub(super) struct NoSegment {
    number: u16,
    have: Vec<u16>,
}

fn in_words(have: &[u16]) -> String {
    match have {
        [] => "the run had one machine, which is segment 0".to_owned(),
        more => {
            let more: Vec<_> = more.iter().map(u16::to_string).collect();
            format!("besides 0, the first machine, it has {}", more.join(", "))
        }
    }
}

/// In words, what follows a trace in its file.
pub(super) fn what_follows(after: &AfterEnd) -> String {
    let AfterEnd { offset, bytes, is_trace, skipped } = after;
    let counted = |bytes: u64| if bytes == 1 { "1 byte".to_owned() } else { format!("{bytes} bytes") };
    if *is_trace {
        let between = match *skipped {
            0 => String::new(),
            skipped => format!(", after {} of neither", counted(skipped)),
        };
        return format!(
            "a second trace begins at byte {offset}{between}; this is of the first. `ktstr trace repair FILE NEW` makes a file of each"
        );
    }
    let bytes = counted(*bytes);
    format!("{bytes} after the trace's end, from {offset} on, are not of it and are not read")
}
