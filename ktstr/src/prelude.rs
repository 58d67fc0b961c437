//! Everything that the author of a test needs: `use ktstr::prelude::*;`.

pub use anyhow::{Context, Result, anyhow, bail, ensure};
pub use guest_init::message::WorkerReport;
pub use ktstr_macros::{declare_scheduler, ktstr_test};
pub use ktstr_replay::claim;
pub use ktstr_replay::trace::Trace;
pub use ktstr_replay::verdict::{Outcome, Verdict};

pub use crate::assert::AssertResult;
pub use crate::cgroup::{Cgroup, CgroupDef, Cgroups, CpusetSpec};
pub use crate::cpu_set::CpuSet;
pub use crate::ctx::Ctx;
pub use crate::guest_topo::GuestTopology;
pub use crate::scenario::{HoldSpec, Step, execute_defs, execute_steps};
pub use crate::test_def::{IncludedFile, Scheduler, Topology};
pub use crate::worker::{WorkType, WorkerGroup, Workload};
