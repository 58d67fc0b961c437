//! Control groups: the unified hierarchy.
//!
//! Sources: `include/linux/cgroup-defs.h`, `fs/kernfs/dir.c`, `kernel/sched/core.c` of Linux.

mod path;
mod tree;

pub use path::Paths;
pub use tree::{Cgroup, Cgroups, read_cgroups};
