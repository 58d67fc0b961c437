//! What happened in a run, by the names that claims have for it: steps of the history, fires of watches, calls of probes, what the
//! scenario did. And which of those may be missing, so that no claim says "never" about a time that was not recorded.
//!
//! [`Timeline::matching`] finds events, [`Timeline::doubts`] what may have happened besides, [`Timeline::measured`] the times between
//! events.
//!
//! ```
//! use ktstr_replay::trace::Trace;
//!
//! let trace = Trace::open("../traces/steady.trace.zst".as_ref())?;
//! let timeline = trace.timeline();
//! let began = timeline.matching(&"event(phase_begin)".parse()?)?;
//! assert!(!began.sure.is_empty());
//! // The trace is of a release that had no history.
//! let switches = "event(sched_switch)".parse()?;
//! assert!(timeline.matching(&switches)?.sure.is_empty() && !timeline.doubts(&switches).is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod build;
mod doubts;
mod happened;
mod matching;
mod shown;
mod tasks;
#[cfg(test)]
mod tests;

pub(crate) use build::Logs;
pub use build::Timeline;
pub use doubts::Doubt;
pub use happened::Happened;
pub use matching::{Matches, NoSource};
