//! Dispatch queues: where tasks of sched_ext wait, in the order in which they would be taken.
//!
//! Sources: `include/linux/sched/ext.h`, `kernel/sched/ext.c`, `include/linux/rhashtable.h` of Linux.

mod queue;
mod rbtree;
mod read;
mod rhash;

pub use queue::{Dsq, DsqOrder, QueuedTask};
pub use read::{Dsqs, read_dsqs};
