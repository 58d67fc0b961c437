//! Operations: what a step does to the guest, besides its cgroups and workers.

use std::fmt;
use std::path::PathBuf;

use crate::cgroup::{CgroupDef, CpusetSpec};
use crate::cpu_set::CpuSet;
use crate::payload::{Payload, PayloadSpec};
use crate::probe::ProbeSpec;
use crate::scheduler::Scheduler;
use crate::watch::WatchSpec;
use crate::worker::{Affinity, WorkSpec};

/// Something that a step does to the guest. Each is a timed event of the trace. What it changes is as before at the end of the step,
/// however that ends, unless the operation says otherwise.
///
/// ```
/// use ktstr::prelude::*;
/// use std::time::Duration;
///
/// fn body(ctx: &Ctx) -> Result<AssertResult> {
///     let backdrop = Backdrop::new(vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")]);
///     let quarter = HoldSpec::Frac(0.25);
///     let steps = vec![
///         Step::new(vec![], quarter).named("before"),
///         Step::of_ops([Op::offline(1)], quarter).named("offline"),
///         Step::of_ops([Op::swap_cpusets("cg_0", "cg_1")], HoldSpec::Loop { interval: Duration::from_millis(200) }),
///     ];
///     execute_scenario(ctx, backdrop, steps)
/// }
/// ```
///
/// All of them:
///
/// ```
/// use ktstr::prelude::*;
///
/// declare_scheduler!(OTHER, { name = "other", source = "scx_other" });
///
/// #[derive(Payload)]
/// #[payload(binary = "sleep")]
/// #[default_args("5")]
/// struct Pause;
///
/// fn operations() -> Result<Vec<Op>> {
///     Ok(vec![
///         // Cgroups and their workers.
///         Op::add_cgroup(CgroupDef::named("new").workers(2)),
///         Op::spawn("new", WorkSpec::new(Bursty::default()).workers(1)),
///         Op::set_cpuset("new", CpusetSpec::Llc(0)),
///         Op::swap_cpusets("new", "old"),
///         Op::clear_cpuset("new"),
///         Op::set_cpu_weight("new", 300),
///         Op::set_affinity("new", Affinity::SingleCpu),
///         Op::move_tasks("new", "old"),
///         Op::freeze("new"),
///         Op::unfreeze("new"),
///         Op::stop_cgroup("new"),
///         Op::remove_cgroup("new"),
///         // The machine and its kernel.
///         Op::offline(1),
///         Op::online(1),
///         Op::irq_affinity(9, "0-1".parse()?),
///         Op::sysctl("kernel.sched_rt_runtime_us", "-1"),
///         Op::write_file("/sys/kernel/mm/transparent_hugepage/enabled", "never"),
///         Op::read_kernel("kernel.(int)panic_timeout"),
///         Op::write_kernel("bss.slice_ns", 5_000_000),
///         // What is recorded.
///         Op::capture_snapshot("here"),
///         Op::watch_snapshot("bss.nr_stalls"),
///         Op::probe("enqueue_task_scx(p->pid)"),
///         // The scheduler.
///         Op::detach_scheduler(),
///         Op::attach_scheduler(),
///         Op::restart_scheduler(),
///         Op::replace_scheduler(&OTHER),
///         // Payloads.
///         Op::run_payload(&Pause),
///         Op::wait_payload(&Pause),
///         Op::kill_payload(&Pause),
///     ])
/// }
/// assert!(operations()?.iter().all(|op| !op.to_string().is_empty()));
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "an operation does nothing until its step is executed"]
pub struct Op(pub(super) Kind);

/// The operations.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    AddCgroup(Box<CgroupDef>),
    RemoveCgroup(String),
    StopCgroup(String),
    SetCpuset(String, CpusetSpec),
    ClearCpuset(String),
    SwapCpusets(String, String),
    SetCpuWeight(String, u32),
    Spawn(String, Box<WorkSpec>),
    SetAffinity(String, Affinity),
    MoveTasks { from: String, to: String },
    Freeze(String),
    Unfreeze(String),
    Capture(String),
    Watch(Box<WatchSpec>),
    Probe(Box<ProbeSpec>),
    Online { cpu: u32, online: bool },
    IrqAffinity(u32, CpuSet),
    WriteFile(PathBuf, String),
    Sysctl(String, String),
    ReadKernel(String),
    WriteKernel(String, i128),
    Scheduler(SchedulerOp),
    RunPayload(Box<PayloadSpec>),
    WaitPayload(&'static str),
    KillPayload(&'static str),
}

/// What is done with the scheduler under test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum SchedulerOp {
    Detach,
    Attach,
    Restart,
    Replace(&'static Scheduler),
}

impl Op {
    /// Make a cgroup and start its workers.
    pub fn add_cgroup(def: CgroupDef) -> Self {
        Self(Kind::AddCgroup(Box::new(def)))
    }

    /// Stop the workers of a cgroup, which report, and remove it. For good: it is not made again at the end of the step.
    pub fn remove_cgroup(name: impl Into<String>) -> Self {
        Self(Kind::RemoveCgroup(name.into()))
    }

    /// Stop the workers of a cgroup, which report. For good: they are not started again at the end of the step.
    pub fn stop_cgroup(name: impl Into<String>) -> Self {
        Self(Kind::StopCgroup(name.into()))
    }

    /// Let a cgroup use these CPUs.
    pub fn set_cpuset(name: impl Into<String>, cpuset: CpusetSpec) -> Self {
        Self(Kind::SetCpuset(name.into(), cpuset))
    }

    /// Let a cgroup use all CPUs of the one that it is in.
    pub fn clear_cpuset(name: impl Into<String>) -> Self {
        Self(Kind::ClearCpuset(name.into()))
    }

    /// Exchange the CPUs of two cgroups that have a cpuset each.
    pub fn swap_cpusets(one: impl Into<String>, other: impl Into<String>) -> Self {
        Self(Kind::SwapCpusets(one.into(), other.into()))
    }

    /// Give a cgroup a weight (`cpu.weight`), 1 to 10000.
    pub fn set_cpu_weight(name: impl Into<String>, weight: u32) -> Self {
        Self(Kind::SetCpuWeight(name.into(), weight))
    }

    /// Start more workers in a cgroup. They end, and report, with the step.
    pub fn spawn(name: impl Into<String>, group: WorkSpec) -> Self {
        Self(Kind::Spawn(name.into(), Box::new(group)))
    }

    /// Which of the cgroup's CPUs its workers may use. `Inherit` is all of them.
    pub fn set_affinity(name: impl Into<String>, affinity: Affinity) -> Self {
        Self(Kind::SetAffinity(name.into(), affinity))
    }

    /// Move all tasks that are in one cgroup into another. They are moved back at the end of the step.
    pub fn move_tasks(from: impl Into<String>, to: impl Into<String>) -> Self {
        Self(Kind::MoveTasks { from: from.into(), to: to.into() })
    }

    /// Stop all tasks of a cgroup where they are (`cgroup.freeze`).
    pub fn freeze(name: impl Into<String>) -> Self {
        Self(Kind::Freeze(name.into()))
    }

    /// Let the tasks of a frozen cgroup go on.
    pub fn unfreeze(name: impl Into<String>) -> Self {
        Self(Kind::Unfreeze(name.into()))
    }

    /// Take a capture of this name, and go on when it was taken.
    pub fn capture_snapshot(name: impl Into<String>) -> Self {
        Self(Kind::Capture(name.into()))
    }

    /// Watch something for stores: `Op::watch_snapshot("bss.nr_stalls")`, or a [`WatchSpec`] with a condition and bounds. Each store takes
    /// a capture, with who stored and what was there before. To the end of the run: the end of the step does not take it away. In a
    /// loop it is asked for once.
    pub fn watch_snapshot(watch: impl Into<WatchSpec>) -> Self {
        Self(Kind::Watch(Box::new(watch.into())))
    }

    /// Record the calls of a function: `Op::probe("enqueue_task_scx(p->pid)")`, or a [`ProbeSpec`] with a bound. To the end of the run:
    /// the end of the step does not take it away. In a loop it is asked for once.
    pub fn probe(probe: impl Into<ProbeSpec>) -> Self {
        Self(Kind::Probe(Box::new(probe.into())))
    }

    /// Take a CPU out of the running kernel. A sched_ext scheduler without `ops.cpu_offline` exits at that, with the code that asks
    /// for a restart. CPU 0 of x86 cannot be taken out.
    pub fn offline(cpu: u32) -> Self {
        Self(Kind::Online { cpu, online: false })
    }

    /// Bring a CPU back.
    pub fn online(cpu: u32) -> Self {
        Self(Kind::Online { cpu, online: true })
    }

    /// Let an interrupt be served by these CPUs (`/proc/irq/N/smp_affinity_list`).
    pub fn irq_affinity(irq: u32, cpus: CpuSet) -> Self {
        Self(Kind::IrqAffinity(irq, cpus))
    }

    /// Write a text to a file of the guest, such as one below `/sys`. At the end of the step the file has what it had (of a choice in
    /// brackets, `always [madvise] never`, that one), and is removed if it was not there.
    pub fn write_file(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self(Kind::WriteFile(path.into(), text.into()))
    }

    /// Set a kernel parameter: `Op::sysctl("kernel.sched_rt_runtime_us", "-1")`.
    pub fn sysctl(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self(Kind::Sysctl(name.into(), value.into()))
    }

    /// Read a number in the kernel's memory, which the trace then has as an event: `Op::read_kernel("scx_root->exit_kind")`, a symbol of
    /// the kernel or a variable of the scheduler, by the names that watches have. [`Ctx::read_kernel`](crate::prelude::Ctx::read_kernel)
    /// returns it.
    pub fn read_kernel(target: impl Into<String>) -> Self {
        Self(Kind::ReadKernel(target.into()))
    }

    /// Change a number in the kernel's memory: `Op::write_kernel("bss.slice_ns", 5_000_000)`. The value must be one of the number's
    /// type, as BTF has it. At the end of the step it has what it had. No watch fires at that.
    pub fn write_kernel(target: impl Into<String>, value: impl Into<i128>) -> Self {
        Self(Kind::WriteKernel(target.into(), value.into()))
    }

    /// End the scheduler as its user would, with SIGINT, so that the kernel's own schedules. It is attached again at the end of the step.
    pub const fn detach_scheduler() -> Self {
        Self(Kind::Scheduler(SchedulerOp::Detach))
    }

    /// Start the scheduler under test again, after it was detached.
    pub const fn attach_scheduler() -> Self {
        Self(Kind::Scheduler(SchedulerOp::Attach))
    }

    /// End the scheduler and start it again.
    pub const fn restart_scheduler() -> Self {
        Self(Kind::Scheduler(SchedulerOp::Restart))
    }

    /// End the scheduler and start another one, which is among the test's `staged_schedulers`. The first comes back at the end of the step.
    pub const fn replace_scheduler(other: &'static Scheduler) -> Self {
        Self(Kind::Scheduler(SchedulerOp::Replace(other)))
    }

    /// Start a payload, and go on: `Op::run_payload(&FIO)`, or a [`PayloadSpec`] with arguments, a cgroup and checks. It is ended with the
    /// step, if it is still running.
    pub fn run_payload(payload: impl Into<PayloadSpec>) -> Self {
        Self(Kind::RunPayload(Box::new(payload.into())))
    }

    /// Wait until a payload has ended that was started before, all runs of it. Its own timeout bounds that.
    pub fn wait_payload<P: Payload>(_: &P) -> Self {
        Self(Kind::WaitPayload(P::DEFINITION.name))
    }

    /// End a payload that was started before, all runs of it: with SIGTERM, and 5 s later with SIGKILL. One that has ended by itself is
    /// only reported.
    pub fn kill_payload<P: Payload>(_: &P) -> Self {
        Self(Kind::KillPayload(P::DEFINITION.name))
    }
}

/// As its author wrote it, in short: `offline 1`.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::AddCgroup(def) => write!(f, "add_cgroup {}", def.name),
            Kind::RemoveCgroup(name) => write!(f, "remove_cgroup {name}"),
            Kind::StopCgroup(name) => write!(f, "stop_cgroup {name}"),
            Kind::SetCpuset(name, _) => write!(f, "set_cpuset {name}"),
            Kind::ClearCpuset(name) => write!(f, "clear_cpuset {name}"),
            Kind::SwapCpusets(one, other) => write!(f, "swap_cpusets {one} {other}"),
            Kind::SetCpuWeight(name, weight) => write!(f, "set_cpu_weight {name} {weight}"),
            Kind::Spawn(name, _) => write!(f, "spawn {name}"),
            Kind::SetAffinity(name, _) => write!(f, "set_affinity {name}"),
            Kind::MoveTasks { from, to } => write!(f, "move_tasks {from} {to}"),
            Kind::Freeze(name) => write!(f, "freeze {name}"),
            Kind::Unfreeze(name) => write!(f, "unfreeze {name}"),
            Kind::Capture(name) => write!(f, "capture_snapshot {name}"),
            Kind::Watch(watch) => write!(f, "watch_snapshot {watch}"),
            Kind::Probe(probe) => write!(f, "probe {probe}"),
            Kind::Online { cpu, online: false } => write!(f, "offline {cpu}"),
            Kind::Online { cpu, online: true } => write!(f, "online {cpu}"),
            Kind::IrqAffinity(irq, cpus) => write!(f, "irq_affinity {irq} {cpus}"),
            Kind::WriteFile(path, _) => write!(f, "write_file {}", path.display()),
            Kind::Sysctl(name, _) => write!(f, "sysctl {name}"),
            Kind::ReadKernel(target) => write!(f, "read_kernel {target}"),
            Kind::WriteKernel(target, value) => write!(f, "write_kernel {target} {value}"),
            Kind::Scheduler(SchedulerOp::Detach) => f.write_str("detach_scheduler"),
            Kind::Scheduler(SchedulerOp::Attach) => f.write_str("attach_scheduler"),
            Kind::Scheduler(SchedulerOp::Restart) => f.write_str("restart_scheduler"),
            Kind::Scheduler(SchedulerOp::Replace(other)) => write!(f, "replace_scheduler {}", other.name),
            Kind::RunPayload(spec) => write!(f, "run_payload {}", spec.def.name),
            Kind::WaitPayload(name) => write!(f, "wait_payload {name}"),
            Kind::KillPayload(name) => write!(f, "kill_payload {name}"),
        }
    }
}
