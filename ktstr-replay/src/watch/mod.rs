//! Watches: what is watched, under which condition a store counts, and what a trace says of it all.
//!
//! [`WatchTarget`] is read from text and found in memory by who records; [`WatchLog`] is read from a trace by all who say
//! something of it.

mod condition;
pub(crate) mod json;
mod end;
mod log;
mod target;

pub use condition::WatchCondition;
pub use end::AskedEnd;
pub use log::{WatchLog, WatchSeen};
pub use target::{Missing, WatchTarget, scheduler_mark, sub_scheduler_marks};
