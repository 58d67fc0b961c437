//! Tasks: every thread of the guest, and the idle task of each CPU.
//!
//! Sources: `include/linux/sched.h`, `include/linux/sched/ext.h`, `fs/proc/array.c` of Linux.

mod affinity;
mod current;
mod entity;
mod read;

pub(in crate::kernel) use affinity::Affinities;
pub use current::{OfTask, current_task, running_task};
pub(in crate::kernel) use entity::named_flags;
pub use entity::{DsqId, Entity};
pub use read::{Task, Tasks, read_tasks};
pub(in crate::kernel) use read::{TaskName, class_of, task_addresses};
