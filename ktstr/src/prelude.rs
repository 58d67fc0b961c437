//! Everything that the author of a test needs.
//!
//! ```
//! use ktstr::prelude::*;
//!
//! declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", topology = (1, 1, 2, 1) });
//!
//! #[ktstr_test(scheduler = DEMO, cores = 4, num_snapshots = 10, claims = ["each(nr_dispatched >= 1)"], check = steady)]
//! fn two_cgroups(ctx: &Ctx) -> Result<AssertResult> {
//!     execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
//! }
//!
//! /// Judges the trace on the host, after the run and whenever the trace is judged again.
//! fn steady(trace: &Trace, verdict: &mut Verdict) -> Result<()> {
//!     trace.periodic().var("nr_dispatched").strictly_increasing(verdict);
//!     Ok(())
//! }
//!
//! assert_eq!(DEMO.name, "demo");
//! ```

pub use anyhow::{Context, Result, anyhow, bail, ensure};
pub use guest_init::message::WorkerReport;
pub use ktstr_macros::{Payload, declare_scheduler, ktstr_test};
pub use ktstr_replay::claim;
pub use ktstr_replay::trace::Trace;
pub use ktstr_replay::trace::record::{PayloadEnd, PayloadOutput, Polarity};
pub use ktstr_replay::units::Cpu;
pub use ktstr_replay::verdict::{Outcome, Verdict};

pub use crate::assert::AssertResult;
pub use crate::cgroup::{Cgroup, CgroupDef, Cgroups, CpusetSpec};
pub use crate::cpu_set::CpuSet;
pub use crate::ctx::Ctx;
pub use crate::gauntlet::Constraints;
pub use crate::guest_topo::GuestTopology;
pub use crate::limits::Assert;
pub use crate::payload::{MetricCheck, Payload, PayloadReport, PayloadSpec};
pub use crate::payload_call::{PayloadCall, PayloadError, PayloadHandle};
pub use crate::probe::ProbeSpec;
pub use crate::scenario::canned as scenarios;
pub use crate::scenario::{Backdrop, HoldSpec, Op, Step, execute_defs, execute_scenario, execute_steps};
pub use crate::scheduler::Scheduler;
pub use crate::test_def::{IncludedFile, Topology};
pub use crate::watch::WatchSpec;
pub use crate::worker::kinds::*;
pub use crate::worker::{
    Affinity, CloneMode, Gang, GroupError, MemPolicy, RangeError, SchedPolicy, Settings, WorkSpec, WorkType,
    Worker, WorkerError, WorkerGroup, WorkloadHandle,
};
