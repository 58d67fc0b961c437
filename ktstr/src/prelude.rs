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
//!
//! A `check` looks at whatever the trace has: captures as columns, snapshots with the scheduler's maps and the kernel's tasks, events, workers.
//!
//! ```
//! use ktstr::prelude::*;
//!
//! fn everybody_runs(trace: &Trace, v: &mut Verdict) -> Result<()> {
//!     let all = trace.captures();
//!     all.workers("cpu_share").each(0.1.., v);
//!     all.monitor("imbalance_ratio").each(..10.0, v);
//!     all.cpu(Cpu(1)).field("nr_running").each(..64, v);
//!     trace.periodic().var("nr_dispatched").rate(1.0..=1e6, TimeUnit::S, v);
//!     for capture in all.snapshots() {
//!         let runnable = capture.rq(Cpu(0))?.nr_running.context("the length of the runqueue was not recorded")?;
//!         claim!(v, runnable).at_most(16);
//!     }
//!     let ops = trace.events().into_iter().filter(|event| matches!(event.body, EventBody::Op { .. })).count();
//!     claim!(v, ops).at_least(1);
//!     let migrations = trace.workers().iter().map(|worker| worker.migrations).max().context("no worker has reported")?;
//!     claim!(v, migrations).at_most(1000).because("nobody is sent from CPU to CPU all the time");
//!     Ok(())
//! }
//!
//! // Tasks are in the memory that is kept with a capture, by `checkpoint` of the test.
//! fn few_are_runnable_at_the_attach(trace: &Trace, v: &mut Verdict) -> Result<()> {
//!     let all = trace.captures();
//!     let attach = all.snapshots().find(|capture| capture.sample().kind == CaptureKind::Attach);
//!     let tasks = attach.context("there is no capture of the attach")?.tasks()?;
//!     let runnable = tasks.tasks.iter().filter(|task| task.class == "ext" && task.state == 'R').count();
//!     claim!(v, runnable).at_most(16);
//!     Ok(())
//! }
//!
//! let mut v = Verdict::new();
//! everybody_runs(&Trace::open("../traces/steady.trace.zst".as_ref())?, &mut v)?;
//! few_are_runnable_at_the_attach(&Trace::open("../traces/stall.trace.zst".as_ref())?, &mut v)?;
//! assert_eq!(v.outcome(), Outcome::Pass);
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! Functions that checks share name what they take and return:
//!
//! ```
//! use ktstr::prelude::*;
//!
//! fn last(series: &Series) -> Option<Snapshot<'_>> {
//!     series.snapshots().last()
//! }
//! fn lost(column: &Column) -> Vec<&Absent> {
//!     column.points.iter().filter_map(|point: &Point| point.value.as_ref().err()).collect()
//! }
//! fn lengths(series: &Series) -> [Column; 2] {
//!     [series.rq(Cpu(0), RqField::NrRunning), series.scx(ScxField::EnableSeq)]
//! }
//! fn switches(cpu: SeriesCpu<'_>) -> Column {
//!     cpu.field("nr_switches")
//! }
//! fn first(map: SeriesMap<'_>) -> SeriesEntry<'_> {
//!     map.at(0)
//! }
//! fn most_runs(map: &MapView<'_>) -> Result<u64, ValueError> {
//!     let entry: MapEntry<'_> = map.max_by("nr_runs")?;
//!     let runs: Value<'_> = entry.get("nr_runs")?;
//!     runs.as_u64()
//! }
//! fn waiting(queues: &Dsqs) -> u64 {
//!     queues.dsqs.iter().map(|queue: &Dsq| queue.nr).sum()
//! }
//! fn named<'t>(tasks: &'t Tasks, comm: &str) -> Vec<&'t Task> {
//!     tasks.tasks.iter().filter(|task| task.comm == comm).collect()
//! }
//! fn is_crowded(sample: &Sample) -> bool {
//!     sample.cpus.iter().any(|cpu: &CpuState| cpu.nr_running > Some(4))
//! }
//! fn has_erred(scx: &ScxState) -> bool {
//!     scx.exit_kind != 0
//! }
//! fn waits(worker: &TracedWorker) -> u64 {
//!     worker.detail.as_ref().map_or(0, |detail: &WorkerDetail| detail.voluntary_switches)
//! }
//! fn is_of(event: &Event, wanted: Stage) -> bool {
//!     matches!(&event.body, EventBody::Stage { stage, .. } if *stage == wanted)
//! }
//! ```
//!
//! And so do those that bodies share:
//!
//! ```
//! use ktstr::prelude::*;
//!
//! fn start(groups: &[WorkerGroup]) -> Result<WorkloadHandle, WorkerError> {
//!     WorkloadHandle::spawn(groups)
//! }
//! fn checked(group: &WorkerGroup) -> Result<(), GroupError> {
//!     group.check()
//! }
//! fn bounds(work: &WorkType) -> Result<bool, RangeError> {
//!     work.check().map(|()| work.gang() == Gang::Alone)
//! }
//! fn make(groups: &Cgroups) -> Result<Cgroup> {
//!     groups.create("mine").context("a cgroup of mine")
//! }
//! fn first_llc(topo: &GuestTopology) -> Result<CpuSet> {
//!     let Some(llc) = topo.llcs.first() else { bail!("a machine without an LLC") };
//!     Ok(llc.clone())
//! }
//! fn shape(scheduler: &Scheduler) -> Option<Topology> {
//!     scheduler.topology
//! }
//! fn begin<'c>(call: PayloadCall<'c>) -> Result<PayloadHandle<'c>, PayloadError> {
//!     call.spawn()
//! }
//! fn has_ended(report: &PayloadReport) -> bool {
//!     report.end() == PayloadEnd::Ended
//! }
//! fn is_better(old: f64, new: f64, polarity: Polarity) -> bool {
//!     if polarity == Polarity::HigherBetter { new > old } else { new < old }
//! }
//! # let _ = PayloadOutput::ExitCode;
//! ```

pub use std::time::Duration;

pub use anyhow::{Context, Result, anyhow, bail, ensure};
pub use guest_init::message::WorkerReport;
pub use ktstr_macros::{Payload, declare_scheduler, ktstr_test};
pub use ktstr_replay::claim;
pub use ktstr_replay::claim::pattern::TimeUnit;
pub use ktstr_replay::kernel::dsq::{Dsq, Dsqs};
pub use ktstr_replay::kernel::task::{Task, Tasks};
pub use ktstr_replay::path::{Projection, RqField, ScxField};
pub use ktstr_replay::series::{
    Absent, Column, Point, Series, SeriesCpu, SeriesEntry, SeriesMap, TracedWorker,
};
pub use ktstr_replay::trace::Trace;
pub use ktstr_replay::trace::record::{
    CaptureKind, CpuState, Event, EventBody, PayloadEnd, PayloadOutput, Polarity, Sample, ScxState, Stage,
    WorkerDetail,
};
pub use ktstr_replay::units::{Cpu, GuestNs};
pub use ktstr_replay::value::{MapEntry, MapView, Scalar, Snapshot, Value, ValueError};
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
