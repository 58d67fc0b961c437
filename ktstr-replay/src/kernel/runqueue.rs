//! Runqueues: what each CPU runs and what waits for it.
//!
//! Source: `struct rq` and `struct scx_rq` in `kernel/sched/sched.h` of Linux.

use super::mirror::{Text, mirror};
use super::{FieldMissing, KernelError, KernelView};
use crate::trace::record::CpuState;
use crate::units::KernelVirt;

mirror! {
    /// `struct rq`.
    struct Rq, RqLayout = "rq" {
        nr_running: u64,
        curr: KernelVirt,
        clock: Result<u64, FieldMissing>,
        scx_nr_running: Result<u64, FieldMissing> = "scx.nr_running",
        local_dsq_nr: Result<u64, FieldMissing> = "scx.local_dsq.nr",
        scx_flags: Result<u64, FieldMissing> = "scx.flags",
    }
}

mirror! {
    /// `struct task_struct`, as far as naming a task goes.
    struct Task, TaskLayout = "task_struct" {
        pid: i64,
        comm: Text,
    }
}

/// The runqueue of each online CPU. What cannot be read of one is added to `faults`.
///
/// # Errors
/// [`KernelError`] when the CPUs or the place of the runqueues cannot be found.
pub fn read_runqueues(view: &KernelView<'_>, faults: &mut Vec<String>) -> Result<Vec<CpuState>, KernelError> {
    let cpus = view.cpus()?;
    let runqueues = view.symbol("runqueues")?;
    let mut states = Vec::with_capacity(cpus.online().len());
    for &cpu in cpus.online() {
        let Some(at) = cpus.place(runqueues, cpu) else {
            faults.push(format!("runqueue of CPU {cpu}: it has no per-CPU memory"));
            continue;
        };
        match one(view, cpu, at) {
            Ok((state, fault)) => {
                states.push(state);
                faults.extend(fault);
            }
            Err(error) => faults.push(format!("runqueue of CPU {cpu}: {error}")),
        }
    }
    Ok(states)
}

fn one(view: &KernelView<'_>, cpu: u32, at: KernelVirt) -> Result<(CpuState, Option<String>), KernelError> {
    let rq: Rq = view.mirror(at)?;
    let (curr, fault) = match view.mirror::<Task>(rq.curr) {
        Ok(task) => (Some(task), None),
        Err(error) => (None, Some(format!("the running task of CPU {cpu}: {error}"))),
    };
    let state = CpuState {
        cpu,
        nr_running: Some(rq.nr_running),
        curr_pid: curr.as_ref().map(|task| task.pid),
        curr_comm: curr.map(|task| task.comm.0),
        clock_ns: rq.clock.ok(),
        scx_nr_running: rq.scx_nr_running.ok(),
        local_dsq_nr: rq.local_dsq_nr.ok(),
        scx_flags: rq.scx_flags.ok(),
    };
    Ok((state, fault))
}
