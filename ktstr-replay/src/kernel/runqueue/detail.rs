//! Runqueues with their sched_ext part.
//!
//! Source: `struct rq` and `struct scx_rq` in `kernel/sched/sched.h` of Linux.

use serde::Serialize;

use crate::kernel::mirror::{At, Text, mirror};
use crate::kernel::task::{class_of, named_flags};
use crate::kernel::{FieldMissing, Gaps, Jiffies, KernelError, KernelView, list_entries};
use crate::units::KernelVirt;

mirror! {
    /// `struct rq`.
    struct RawRq, RawRqLayout = "rq" {
        nr_running: u64,
        curr: KernelVirt,
        nr_switches: u64,
        clock: Result<u64, FieldMissing>,
        scx_nr_running: Result<u64, FieldMissing> = "scx.nr_running",
        scx_flags: Result<u64, FieldMissing> = "scx.flags",
        scx_clock: Result<u64, FieldMissing> = "scx.clock",
        local_dsq_nr: Result<u64, FieldMissing> = "scx.local_dsq.nr",
        cpu_released: Result<u64, FieldMissing> = "scx.cpu_released",
        runnable_list: Result<At, FieldMissing> = "scx.runnable_list",
    }
}

mirror! {
    /// `struct task_struct`, as far as a runqueue goes.
    struct RawRunnable, RawRunnableLayout = "task_struct" {
        pid: i64,
        comm: Text,
        on_cpu: u64,
        sched_class: KernelVirt,
        runnable_at: Result<u64, FieldMissing> = "scx.runnable_at",
    }
}

/// Most runnable tasks of all CPUs: lists of hostile memory may share theirs.
const MAX_RUNNABLE: usize = 1 << 16;

/// A task on a runqueue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunnableTask {
    /// Thread id; 0 for idle tasks.
    pub pid: i64,
    /// Command name.
    pub comm: String,
    /// Scheduling class.
    pub class: String,
    /// Whether it is running.
    pub on_cpu: bool,
    /// How long it has been on sched_ext's list of runnable tasks, in ns.
    pub runnable_age_ns: Option<i64>,
}

/// The runqueue of one CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Runqueue {
    /// CPU number.
    pub cpu: u32,
    /// Runnable tasks of all classes.
    pub nr_running: u64,
    /// The task that runs.
    pub curr: Option<RunnableTask>,
    /// Context switches since boot.
    pub nr_switches: u64,
    /// The runqueue's clock, in ns.
    pub clock_ns: Option<u64>,
    /// Runnable tasks of the ext class.
    pub scx_nr_running: Option<u64>,
    /// Tasks in the CPU's local dispatch queue.
    pub local_dsq_nr: Option<u64>,
    /// `scx_rq.flags`, by the names of `enum scx_rq_flags`.
    pub scx_flags: Vec<String>,
    /// What `scx_bpf_now` gives, in ns.
    pub scx_clock_ns: Option<u64>,
    /// Whether a class above sched_ext has taken the CPU, and the scheduler was told.
    pub cpu_released: Option<bool>,
    /// sched_ext's runnable tasks, the one that has been so for longest first: what the watchdog looks at.
    pub runnable: Vec<RunnableTask>,
}

/// The runqueues at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Runqueues {
    /// The runqueues of the online CPUs.
    pub runqueues: Vec<Runqueue>,
    /// What could not be read.
    pub gaps: Gaps,
}

/// Read the runqueues of all online CPUs.
///
/// # Errors
/// [`KernelError`] when the CPUs or the place of the runqueues cannot be found.
pub fn read_runqueue_details(view: &KernelView<'_>) -> Result<Runqueues, KernelError> {
    let mut found = Runqueues::default();
    let jiffies = found.gaps.read("the age of tasks", Jiffies::read(view));
    let (cpus, runqueues) = (view.cpus()?, view.symbol("runqueues")?);
    let mut room = MAX_RUNNABLE;
    for &cpu in cpus.online() {
        let Some(at) = cpus.place(runqueues, cpu) else { continue };
        let one = one(view, (cpu, at), jiffies, &mut room, &mut found.gaps);
        found.runqueues.extend(found.gaps.read(format_args!("runqueue of CPU {cpu}"), one));
    }
    Ok(found)
}

fn one(
    view: &KernelView<'_>,
    (cpu, at): (u32, KernelVirt),
    jiffies: Option<Jiffies>,
    room: &mut usize,
    gaps: &mut Gaps,
) -> Result<Runqueue, KernelError> {
    let rq: RawRq = view.mirror(at)?;
    let task = |at: KernelVirt, gaps: &mut Gaps| -> Option<RunnableTask> {
        let raw = gaps.read(format_args!("a task of CPU {cpu}"), view.mirror::<RawRunnable>(at))?;
        Some(RunnableTask {
            pid: raw.pid,
            comm: raw.comm.0,
            class: class_of(view, raw.sched_class),
            on_cpu: raw.on_cpu != 0,
            runnable_age_ns: jiffies.zip(gaps.field(raw.runnable_at)).map(|(now, then)| now.age_ns(then)),
        })
    };
    let of = ("task_struct", "scx.runnable_node");
    let list = gaps.field(rq.runnable_list);
    let runnable = list.map(|list| list_entries(view, list.0, of, *room, gaps)).unwrap_or_default();
    *room = room.saturating_sub(runnable.len());
    let flags = gaps.field(rq.scx_flags).unwrap_or_default();
    Ok(Runqueue {
        cpu,
        nr_running: rq.nr_running,
        curr: task(rq.curr, gaps),
        nr_switches: rq.nr_switches,
        clock_ns: gaps.field(rq.clock),
        scx_nr_running: gaps.field(rq.scx_nr_running),
        local_dsq_nr: gaps.field(rq.local_dsq_nr),
        scx_flags: named_flags(view.types(), "scx_rq_flags", "SCX_RQ_", flags, 0),
        scx_clock_ns: gaps.field(rq.scx_clock),
        cpu_released: gaps.field(rq.cpu_released).map(|released| released != 0),
        runnable: runnable.into_iter().filter_map(|at| task(at, gaps)).collect(),
    })
}
