//! Probes: which function's calls are recorded, what is read at each, and what a trace says of them.
//!
//! [`ProbeTarget`] is read from text and found in memory by who records; [`ProbeLog`] is read from a trace by all who say
//! something of it.

pub(crate) mod json;
mod log;
mod read;
mod site;
mod target;

pub use log::{ProbeCall, ProbeLog, ProbeSeen};
pub use site::ProbeSite;
pub use target::ProbeTarget;
