//! Control groups (version 2) of the guest, and how a test describes those that it wants.

mod def;
mod fs;
mod spec;

pub use def::CgroupDef;
pub use fs::{Cgroup, CgroupError, Cgroups};
pub use spec::{CpusetError, CpusetSpec};
