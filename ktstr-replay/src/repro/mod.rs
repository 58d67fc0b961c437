//! Making a failure happen again: what a second machine is to look at, by the trace of the first.
//!
//! [`Chain::of`] is a function of the trace, which `ktstr replay TRACE --repro-chain` prints; the live run arms its watches and probes. A second machine's
//! recording is a further segment of the same file; [`second`] tells of it.

mod failure;
mod chain;
mod second;
mod last_calls;

pub use chain::{Chain, NoChain, Target, TargetKind};
pub(crate) use last_calls::last_calls;
pub(crate) use second::attempts;
pub use second::{is_same_failure, second};
