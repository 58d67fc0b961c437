//! Control groups (version 2) of the guest, and how a test describes those that it wants.

mod cpuset;
mod limits;
mod def;
mod fs;

pub use cpuset::{CpusetError, CpusetSpec};
pub use def::CgroupDef;
pub use fs::{Cgroup, CgroupError, Cgroups, check_name};
