//! Control groups: the unified hierarchy.
//!
//! Sources: `include/linux/cgroup-defs.h`, `fs/kernfs/dir.c`, `kernel/sched/core.c` of Linux.

mod path;

pub use path::Paths;
