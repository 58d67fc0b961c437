//! Runqueues: what each CPU runs and what waits for it; as a sample has it (`read_runqueues`), and all that a checkpoint
//! tells ([`read_runqueue_details`]).
//!
//! Source: `struct rq` and `struct scx_rq` in `kernel/sched/sched.h` of Linux.

use serde::Serialize;

use crate::kernel::mirror::{At, Text, mirror};
use crate::kernel::task::{TaskName, class_of, named_flags};
use crate::kernel::{FieldMissing, Gaps, Jiffies, KernelError, KernelView, list_entries};
use crate::trace::record::CpuState;
use crate::units::{Cpu, KernelVirt};

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Runqueue {
    /// CPU number.
    pub cpu: Cpu,
    /// Whether the CPU runs. The numbers of one that does not are those it was left with.
    pub online: bool,
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
    /// The runqueues of the possible CPUs, ascending.
    pub runqueues: Vec<Runqueue>,
    /// What could not be read.
    pub gaps: Gaps,
}

/// Read the runqueues of all CPUs, offline ones too.
///
/// # Errors
/// [`KernelError`] when the CPUs or the place of the runqueues cannot be found.
pub fn read_runqueue_details(view: &KernelView<'_>) -> Result<Runqueues, KernelError> {
    let mut found = Runqueues::default();
    let jiffies = found.gaps.read("the age of tasks", Jiffies::read(view));
    let (cpus, runqueues) = (view.cpus()?, view.symbol("runqueues")?);
    let mut room = MAX_RUNNABLE;
    for &cpu in cpus.possible() {
        let Some(at) = cpus.place(runqueues, cpu) else { continue };
        let one = one(view, (cpu, at), jiffies, &mut room, &mut found.gaps);
        let one = one.map(|one| Runqueue { online: cpus.is_online(cpu), ..one });
        found.runqueues.extend(found.gaps.read(format_args!("runqueue of CPU {cpu}"), one));
    }
    Ok(found)
}

fn one(
    view: &KernelView<'_>,
    (cpu, at): (Cpu, KernelVirt),
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
        online: true,
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

mirror! {
    /// `struct rq`, as far as a sample goes: it is read while the guest waits.
    struct SampledRq, SampledRqLayout = "rq" {
        nr_running: u64,
        curr: KernelVirt,
        clock: Result<u64, FieldMissing>,
        scx_nr_running: Result<u64, FieldMissing> = "scx.nr_running",
        local_dsq_nr: Result<u64, FieldMissing> = "scx.local_dsq.nr",
        scx_flags: Result<u64, FieldMissing> = "scx.flags",
    }
}

/// The runqueue of each online CPU. What cannot be read of one is added to `faults`.
///
/// # Errors
/// [`KernelError`] when the CPUs or the place of the runqueues cannot be found.
pub(super) fn read_runqueues(
    view: &KernelView<'_>,
    faults: &mut Vec<String>,
) -> Result<Vec<CpuState>, KernelError> {
    let cpus = view.cpus()?;
    let runqueues = view.symbol("runqueues")?;
    let mut states = Vec::with_capacity(cpus.online().len());
    for &cpu in cpus.online() {
        let Some(at) = cpus.place(runqueues, cpu) else {
            faults.push(format!("runqueue of CPU {cpu}: it has no per-CPU memory"));
            continue;
        };
        match sampled(view, cpu, at) {
            Ok((state, fault)) => {
                states.push(state);
                faults.extend(fault);
            }
            Err(error) => faults.push(format!("runqueue of CPU {cpu}: {error}")),
        }
    }
    Ok(states)
}

fn sampled(
    view: &KernelView<'_>,
    cpu: Cpu,
    at: KernelVirt,
) -> Result<(CpuState, Option<String>), KernelError> {
    let rq: SampledRq = view.mirror(at)?;
    let (curr, fault) = match view.mirror::<TaskName>(rq.curr) {
        Ok(task) => (Some(task), None),
        Err(error) => (None, Some(format!("the running task of CPU {cpu}: {error}"))),
    };
    let state = CpuState {
        cpu,
        nr_running: Some(rq.nr_running),
        curr_pid: curr.as_ref().map(|task| i64::from(task.pid.cast_signed())),
        curr_comm: curr.map(|task| task.comm.0),
        clock_ns: rq.clock.ok(),
        scx_nr_running: rq.scx_nr_running.ok(),
        local_dsq_nr: rq.local_dsq_nr.ok(),
        scx_flags: rq.scx_flags.ok(),
    };
    Ok((state, fault))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Guest, SEEDS};

    #[test]
    fn each_cpu_has_its_own_and_a_field_that_is_missing_is_none() {
        for seed in SEEDS {
            // `curr` is in an anonymous struct, as in kernels with proxy execution.
            let mut guest = Guest::lacking(seed, &["scx_rq.flags"]);
            guest.cpus(2);
            let runqueues = guest.per_cpu("runqueues", "rq");
            for cpu in 0..2u32 {
                let task = guest.add("task_struct");
                guest.text(task, "comm", &format!("task{cpu}"));
                guest.set(task, "pid", 100 + cpu);
                let rq = guest.on_cpu(runqueues, cpu.into());
                guest.set(rq, "clock", 1_000 + cpu);
                guest.set(rq, "curr", if cpu == 0 { task.at } else { 0 });
                guest.set(rq, "scx.local_dsq.nr", 3u32);
                guest.set(rq, "scx.nr_running", 4u32);
                guest.set(rq, "nr_running", 5u32);
            }
            let profile = guest.profile();
            let mut faults = Vec::new();
            let states = read_runqueues(&KernelView::new(&profile, &guest.ram), &mut faults).unwrap();
            let first = CpuState {
                cpu: Cpu(0),
                nr_running: Some(5),
                curr_pid: Some(100),
                curr_comm: Some("task0".into()),
                clock_ns: Some(1_000),
                scx_nr_running: Some(4),
                local_dsq_nr: Some(3),
                scx_flags: None,
            };
            let second = CpuState {
                cpu: Cpu(1),
                clock_ns: Some(1_001),
                curr_pid: None,
                curr_comm: None,
                ..first.clone()
            };
            assert_eq!(states, [first, second]);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].starts_with("the running task of CPU 1: "), "{faults:?}");
        }
    }
}
