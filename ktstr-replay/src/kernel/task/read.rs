//! Every task with what a scheduler's author asks of it.

use std::collections::HashMap;

use serde::Serialize;

use super::{Entity, state, task_addresses};
use crate::kernel::cgroup::Paths;
use crate::kernel::mirror::{At, Text, mirror};
use crate::kernel::{FieldMissing, Gaps, Jiffies, KernelError, KernelView};
use crate::units::KernelVirt;

mirror! {
    /// `struct task_struct`.
    struct RawTask, RawTaskLayout = "task_struct" {
        state: u64 = "__state" | "state",
        exit_state: u64,
        flags: u64,
        on_cpu: u64,
        pid: i64,
        tgid: i64,
        comm: Text,
        cpu: Result<u64, FieldMissing> = "thread_info.cpu" | "cpu",
        sched_class: KernelVirt,
        policy: u64,
        prio: i64,
        static_prio: i64,
        rt_priority: u64,
        mm: KernelVirt,
        utime: u64,
        stime: u64,
        sum_exec_runtime: u64 = "se.sum_exec_runtime",
        nvcsw: u64,
        nivcsw: u64,
        nr_cpus_allowed: u64,
        cgroup: Result<KernelVirt, FieldMissing> = "cgroups",
        scx: Result<At, FieldMissing>,
    }
}

mirror! {
    /// `struct css_set`: which cgroups a task is in.
    struct CssSet, CssSetLayout = "css_set" {
        dfl_cgrp: KernelVirt,
    }
}

/// `PF_KTHREAD` of `include/linux/sched.h`.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// A thread.
#[derive(Clone, Debug, Serialize)]
pub struct Task {
    /// Thread id; 0 for idle tasks.
    pub pid: i64,
    /// Process id.
    pub tgid: i64,
    /// Command name.
    pub comm: String,
    /// State as `ps` shows it: `R`, `S`, `D`, `I`, ...
    pub state: char,
    /// CPU that it runs on, or ran on last.
    pub cpu: Option<u64>,
    /// Whether it is running on that CPU.
    pub on_cpu: bool,
    /// Scheduling class: `ext`, `fair`, `rt`, `idle`, ...
    pub class: String,
    /// `NORMAL`, `EXT`, `FIFO`, ...
    pub policy: String,
    /// The kernel's priority, 120 for nice 0.
    pub prio: i64,
    /// The priority before boosts.
    pub static_prio: i64,
    /// Nice value.
    pub nice: i64,
    /// Real-time priority, 0 for others.
    pub rt_priority: u64,
    /// Path in the unified cgroup hierarchy.
    pub cgroup: Option<String>,
    /// A kernel thread (or idle task).
    pub kernel_thread: bool,
    /// It has an address space of its own.
    pub has_mm: bool,
    /// Time in user mode, in ns.
    pub utime_ns: u64,
    /// Time in the kernel, in ns.
    pub stime_ns: u64,
    /// Time on a CPU, in ns.
    pub sum_exec_runtime_ns: u64,
    /// Times it gave up its CPU.
    pub voluntary_switches: u64,
    /// Times it was made to.
    pub involuntary_switches: u64,
    /// How many CPUs it may run on.
    pub nr_cpus_allowed: u64,
    /// As sched_ext sees it; `None` where the kernel has none.
    pub scx: Option<Entity>,
    /// Where its `task_struct` is.
    #[serde(skip)]
    pub at: KernelVirt,
    /// Where its cgroup of the unified hierarchy is.
    #[serde(skip)]
    pub cgroup_at: Option<KernelVirt>,
}

/// All tasks at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tasks {
    /// The tasks: idle ones by CPU, then by process in the kernel's order.
    pub tasks: Vec<Task>,
    /// What could not be read.
    pub gaps: Gaps,
}

impl Tasks {
    /// The tasks by the address of their `task_struct`.
    #[must_use]
    pub fn by_address(&self) -> HashMap<KernelVirt, &Task> {
        self.tasks.iter().map(|task| (task.at, task)).collect()
    }

    /// The task with this pid; idle tasks have none.
    #[must_use]
    pub fn by_pid(&self, pid: i64) -> Option<&Task> {
        self.tasks.iter().find(|task| task.pid == pid && pid != 0)
    }
}

/// Read all tasks. What cannot be read of one is a fault, and the others stay.
///
/// # Errors
/// Those of [`task_addresses`].
pub fn read_tasks(view: &KernelView<'_>) -> Result<Tasks, KernelError> {
    let mut gaps = Gaps::default();
    let jiffies = gaps.read("the age of tasks", Jiffies::read(view));
    let mut paths = Paths::default();
    let mut tasks = Vec::new();
    for at in task_addresses(view, &mut gaps)? {
        let task = one(view, at, jiffies, &mut paths, &mut gaps);
        tasks.extend(gaps.read(format_args!("the task at {at}"), task));
    }
    Ok(Tasks { tasks, gaps })
}

fn one(
    view: &KernelView<'_>,
    at: KernelVirt,
    jiffies: Option<Jiffies>,
    paths: &mut Paths,
    gaps: &mut Gaps,
) -> Result<Task, KernelError> {
    let raw: RawTask = view.mirror(at)?;
    let set = gaps.field(raw.cgroup).filter(|set| set.0 != 0);
    let set = set.and_then(|set| gaps.read("a task's cgroup", view.mirror::<CssSet>(set)));
    let cgroup_at = set.map(|set| set.dfl_cgrp);
    let entity = gaps.field(raw.scx).map(|at| Entity::read(view, at.0, jiffies, gaps));
    Ok(Task {
        pid: raw.pid,
        tgid: raw.tgid,
        comm: raw.comm.0,
        state: state::letter(raw.state, raw.exit_state),
        cpu: gaps.field(raw.cpu),
        on_cpu: raw.on_cpu != 0,
        class: state::class_of(view, raw.sched_class),
        policy: state::policy(raw.policy),
        prio: raw.prio,
        static_prio: raw.static_prio,
        nice: raw.static_prio.saturating_sub(120),
        rt_priority: raw.rt_priority,
        cgroup: cgroup_at.and_then(|cgroup| gaps.read("a task's cgroup", paths.of(view, cgroup))),
        kernel_thread: raw.flags & KERNEL_THREAD != 0,
        has_mm: raw.mm.0 != 0,
        utime_ns: raw.utime,
        stime_ns: raw.stime,
        sum_exec_runtime_ns: raw.sum_exec_runtime,
        voluntary_switches: raw.nvcsw,
        involuntary_switches: raw.nivcsw,
        nr_cpus_allowed: raw.nr_cpus_allowed,
        scx: entity
            .and_then(|entity| gaps.read(format_args!("sched_ext's part of task {}", raw.pid), entity)),
        at,
        cgroup_at,
    })
}
