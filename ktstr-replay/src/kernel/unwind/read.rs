//! The stacks of a kernel at one moment.

use std::collections::HashMap;

use serde::Serialize;

use super::area::{self, Area};
use super::orc::OrcTables;
use super::registers::{OnStack, Registers};
use super::walk::Walk;
use super::{Code, FrameKind, Stack, StackEnd};
use crate::kernel::task::Tasks;
use crate::kernel::{BpfPrograms, Cpus, Gaps, KernelError, KernelView};
use crate::trace::record::VcpuRegs;
use crate::units::KernelVirt;

/// Unwinds the stacks of one moment.
pub struct Unwinder<'u, 'm> {
    view: &'u KernelView<'m>,
    code: Code<'m>,
    orc: Option<OrcTables>,
    cpus: Option<Cpus>,
    /// Registers and stacks of the vCPUs.
    vcpus: Vec<(u32, Registers, Vec<Area>)>,
    /// The vCPU that a task runs on, by its `task_struct`.
    running: HashMap<KernelVirt, usize>,
    gaps: Gaps,
}

/// The stack of a task.
#[derive(Clone, Debug, Serialize)]
pub struct TaskStack {
    /// Thread id.
    pub pid: i64,
    /// Command name.
    pub comm: String,
    /// State as `ps` shows it.
    pub state: char,
    /// The vCPU that it runs on; `None`: it sleeps or waits.
    pub running_on: Option<u32>,
    /// Its stack.
    #[serde(flatten)]
    pub stack: Stack,
}

/// All stacks of a moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stacks {
    /// Of the tasks, in the order of [`Tasks`].
    pub tasks: Vec<TaskStack>,
    /// Of vCPUs that run no task that is known, by CPU.
    pub vcpus: Vec<(u32, Stack)>,
    /// What could not be read.
    pub gaps: Gaps,
}

impl<'u, 'm> Unwinder<'u, 'm> {
    /// An unwinder for the memory of `view`, whose vCPUs had the registers `vcpus`. What it lacks is in its gaps, and
    /// every stack that needs it says so.
    #[must_use]
    pub fn new(view: &'u KernelView<'m>, vcpus: &[VcpuRegs]) -> Self {
        let mut gaps = Gaps::default();
        let bpf = gaps.read("names of BPF code", BpfPrograms::read(view)).unwrap_or_default();
        for fault in bpf.faults() {
            gaps.fault(fault);
        }
        let code = Code::new(view, bpf);
        let orc = gaps.read("unwind tables", OrcTables::read(view));
        let cpus = gaps.read("the CPUs' stacks", view.cpus());
        let mut new = Self { view, code, orc, cpus, vcpus: Vec::new(), running: HashMap::new(), gaps };
        for regs in vcpus {
            let areas = new.cpus.as_ref().map(|cpus| area::of_cpu(view, cpus, regs.cpu)).unwrap_or_default();
            if let Some(task) = new.current(regs.cpu) {
                new.running.insert(task, new.vcpus.len());
            }
            new.vcpus.push((regs.cpu, Registers::from(regs), areas));
        }
        new
    }

    /// What could not be read so far.
    #[must_use]
    pub fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// The task that a CPU runs, as the kernel's `current` has it.
    fn current(&mut self, cpu: u32) -> Option<KernelVirt> {
        let cpus = self.cpus.as_ref()?;
        let at = match self.view.symbol("current_task") {
            Ok(at) => cpus.place(at, cpu)?,
            // 6.2 to 6.14 kept it in a struct of their own.
            Err(_) => {
                let hot = cpus.place(self.view.symbol("pcpu_hot").ok()?, cpu)?;
                KernelVirt(hot.0.wrapping_add(self.view.offset_of("pcpu_hot", "current_task").ok()?))
            }
        };
        self.gaps.read(format_args!("the running task of CPU {cpu}"), self.view.pointer(at)).flatten()
    }

    /// The stack of the task whose `task_struct` is at `task`, and the vCPU that it runs on.
    #[must_use]
    pub fn task(&self, task: KernelVirt) -> (Option<u32>, Stack) {
        let on = self.running.get(&task).and_then(|n| self.vcpus.get(*n));
        let cpu = on.map(|(cpu, ..)| *cpu);
        match self.try_task(task, on) {
            Ok(stack) => (cpu, stack),
            Err(error) => (cpu, Stack::none(StackEnd::Broken { reason: error.to_string() })),
        }
    }

    fn try_task(
        &self,
        task: KernelVirt,
        on: Option<&(u32, Registers, Vec<Area>)>,
    ) -> Result<Stack, KernelError> {
        let place: OnStack = self.view.mirror(task)?;
        let own = Area::of_task(self.view, place.stack)?;
        if let Some((_, registers, areas)) = on {
            let areas: Vec<Area> = std::iter::once(own).chain(areas.iter().copied()).collect();
            return Ok(self.walk(&areas).run(*registers, FrameKind::Registers));
        }
        if !own.has(place.sp, 8) {
            let reason = format!("its stack pointer {:#x} is not on its stack at {}", place.sp, place.stack);
            return Ok(Stack::none(StackEnd::Broken { reason }));
        }
        let registers = Registers::inactive(self.view, place.sp)?;
        // A task that never ran "returns" to the first instruction of this function.
        let fresh = self.view.symbol("ret_from_fork_asm").is_ok_and(|at| at.0 == registers.ip);
        let kind = if fresh { FrameKind::Registers } else { FrameKind::Call };
        Ok(self.walk(&[own]).run(registers, kind))
    }

    /// The stacks of all tasks, and of vCPUs that run none of them.
    #[must_use]
    pub fn all(mut self, tasks: &Tasks) -> Stacks {
        let mut out = Vec::with_capacity(tasks.tasks.len());
        for task in &tasks.tasks {
            let (running_on, stack) = self.task(task.at);
            out.push(TaskStack {
                pid: task.pid,
                comm: task.comm.clone(),
                state: task.state,
                running_on,
                stack,
            });
        }
        let known: Vec<u32> = out.iter().filter_map(|task| task.running_on).collect();
        let others = self.vcpus.iter().filter(|(cpu, ..)| !known.contains(cpu));
        let vcpus = others
            .map(|(cpu, registers, areas)| (*cpu, self.walk(areas).run(*registers, FrameKind::Registers)));
        let vcpus = vcpus.collect();
        let gaps = std::mem::take(&mut self.gaps);
        Stacks { tasks: out, vcpus, gaps }
    }

    fn walk<'w>(&'w self, areas: &'w [Area]) -> Walk<'w, 'm> {
        Walk { view: self.view, orc: self.orc.as_ref(), code: &self.code, areas }
    }
}
