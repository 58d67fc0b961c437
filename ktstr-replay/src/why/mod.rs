//! Why a run ended as it did: what the evidence tells, from the verdict back.
//!
//! [`Story`] is told by `ktstr why`. `Scene` (the last checkpoint before the scheduler's end, and the kernel's own dump)
//! is what the story and the report have in common. Everything here is a function of the trace; what is concluded rather
//! than seen says "may".

mod counters;
mod cpus;
mod dump;
mod exit;
mod queues;
mod scene;
mod story;

pub use dump::{Dump, DumpCpu, DumpTask};
pub use scene::Waiting;
pub(crate) use scene::{Moment, Scene};
pub use story::{Sentence, Story, tell};
