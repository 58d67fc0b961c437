//! Runqueues as a sample has them.
//!
//! Source: `struct rq` and `struct scx_rq` in `kernel/sched/sched.h` of Linux.

use crate::kernel::mirror::{Text, mirror};
use crate::kernel::{FieldMissing, KernelError, KernelView};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::Guest;

    #[test]
    fn each_cpu_has_its_own_and_a_field_that_is_missing_is_none() {
        let mut guest = Guest::new();
        let b = &mut guest.types;
        let u32 = b.unsigned("u32", 4);
        let u64 = b.unsigned("u64", 8);
        let int = b.signed("int", 4);
        let char = b.signed("char", 1);
        let comm = b.array(char, 16);
        let task = b.structure("task_struct", 32, &[("comm", comm, 0, 0), ("pid", int, 192, 0)]);
        let task = b.pointer(task);
        let dsq = b.structure("scx_dispatch_q", 4, &[("nr", u32, 0, 0)]);
        // No `flags` in this kernel's scx_rq.
        let scx = b.structure("scx_rq", 8, &[("local_dsq", dsq, 0, 0), ("nr_running", u32, 32, 0)]);
        let members =
            [("clock", u64, 0, 0), ("curr", task, 64, 0), ("scx", scx, 128, 0), ("nr_running", u32, 192, 0)];
        // `curr` is in an anonymous struct, as in kernels with proxy execution.
        let inner = b.structure("", 32, &members);
        b.structure("rq", 40, &[("", inner, 64, 0)]);
        guest.cpus(2);
        guest.symbol("runqueues", 0x100);
        for cpu in 0..2u64 {
            let task = guest.alloc(32);
            guest.write(task, format!("task{cpu}").as_bytes());
            guest.write_u32(task + 24, 100 + cpu as u32);
            let rq = Guest::on_cpu(0x100, cpu) + 8;
            guest.write_u64(rq, 1_000 + cpu);
            guest.write_u64(rq + 8, if cpu == 0 { task } else { 0 });
            guest.write_u32(rq + 16, 3);
            guest.write_u32(rq + 20, 4);
            guest.write_u32(rq + 24, 5);
        }
        let profile = guest.profile();
        let mut faults = Vec::new();
        let states = read_runqueues(&KernelView::new(&profile, &guest.ram), &mut faults).unwrap();
        let first = CpuState {
            cpu: 0,
            nr_running: Some(5),
            curr_pid: Some(100),
            curr_comm: Some("task0".into()),
            clock_ns: Some(1_000),
            scx_nr_running: Some(4),
            local_dsq_nr: Some(3),
            scx_flags: None,
        };
        let second =
            CpuState { cpu: 1, clock_ns: Some(1_001), curr_pid: None, curr_comm: None, ..first.clone() };
        assert_eq!(states, [first, second]);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("the running task of CPU 1: "), "{faults:?}");
    }
}
