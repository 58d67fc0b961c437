//! Control groups (version 2) of the guest, and how a test describes those that it wants.

mod def;
mod fs;

pub use def::{CgroupDef, CpusetError, CpusetSpec};
pub use fs::{Cgroup, CgroupError, Cgroups};
