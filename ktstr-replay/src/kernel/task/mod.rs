//! Tasks: every thread of the guest, and the idle task of each CPU.
//!
//! Sources: `include/linux/sched.h`, `include/linux/sched/ext.h`, `fs/proc/array.c` of Linux.

mod entity;
mod flags;
mod read;
mod state;
mod walk;

pub use entity::{DsqId, Entity};
pub use flags::named_flags;
pub use read::{Task, Tasks, read_tasks};
pub(crate) use state::class_of;
pub use walk::task_addresses;
