//! The walk along one stack, and the stacks of a kernel at one moment.

use std::collections::HashMap;

use serde::Serialize;

use crate::kernel::task::{TaskName, Tasks, current_task};
use crate::kernel::unwind::bpf;
use crate::kernel::unwind::orc::{Base, OrcTables, Rule, kind};
use crate::kernel::unwind::registers::{Area, OnStack, Others, Registers, areas_of_cpu};
use crate::kernel::unwind::stack::Code;
use crate::kernel::unwind::{Frame, FrameKind, Stack, StackEnd};
use crate::kernel::{BpfPrograms, Cpus, Gaps, KernelError, KernelView, bytes};
use crate::trace::record::VcpuRegs;
use crate::units::{Cpu, KernelVirt};

/// Most frames of a stack: the kernel's own stacks have no room for more calls.
const MAX_FRAMES: usize = 256;
/// Most guesses after a stack that cannot be followed.
const MAX_GUESSES: usize = 32;

/// What stands in the place of a return address that a tracer took: the real one is kept elsewhere.
const TRAMPOLINES: [&str; 3] = ["return_to_handler", "arch_rethook_trampoline", "__kretprobe_trampoline"];

pub(super) struct Walk<'w, 'm> {
    pub view: &'w KernelView<'m>,
    pub orc: Option<&'w OrcTables>,
    pub code: &'w Code<'m>,
    /// Stacks that the walk may use.
    pub areas: &'w [Area],
}

/// Where the walk is.
struct At {
    ip: u64,
    sp: u64,
    bp: u64,
    /// Other registers of the frame, where an interrupt saved them.
    others: Option<Others>,
    kind: FrameKind,
    area: Area,
    /// Areas that were left: the way leads out, not back.
    left: Vec<Area>,
}

/// Where a frame came from, or why there is none.
type Next = Result<Option<StackEnd>, String>;

impl Walk<'_, '_> {
    /// The stack of these registers; `kind` is how the first frame is meant.
    pub(super) fn run(&self, from: Registers, kind: FrameKind) -> Stack {
        if from.user {
            return Stack::none(StackEnd::User { ip: from.ip, sp: from.sp });
        }
        let Some(area) = self.areas.iter().find(|area| area.has(from.sp, 1)).copied() else {
            let reason = format!("its stack pointer {:#x} is on no stack that is known", from.sp);
            let mut stack = Stack::none(StackEnd::Broken { reason });
            stack.frames.push(self.frame(from.ip, from.sp, kind, "task"));
            return stack;
        };
        let Registers { ip, sp, bp, others, .. } = from;
        let mut at = At { ip, sp, bp, others, kind, area, left: Vec::new() };
        let mut frames = vec![self.frame(ip, sp, kind, area.name)];
        let end = loop {
            if frames.len() >= MAX_FRAMES {
                break StackEnd::Broken { reason: format!("more than {MAX_FRAMES} frames") };
            }
            match self.step(&mut at) {
                Ok(None) => frames.push(self.frame(at.ip, at.sp, at.kind, at.area.name)),
                Ok(Some(end)) => break end,
                Err(reason) => {
                    frames.extend(self.guesses(&at));
                    break StackEnd::Broken { reason };
                }
            }
        };
        Stack { frames, end }
    }

    fn frame(&self, ip: u64, sp: u64, kind: FrameKind, area: &'static str) -> Frame {
        let (ip, sp) = (KernelVirt(ip), KernelVirt(sp));
        let mut frame = Frame { ip, sp, name: None, kind, area, source: Vec::new() };
        if kind == FrameKind::Call && self.code.is_bpf(frame.lookup()) {
            frame.kind = FrameKind::Bpf;
        }
        frame.name = self.code.name(frame.ip, frame.lookup());
        frame
    }

    /// From one frame to its caller's.
    fn step(&self, at: &mut At) -> Next {
        let precise = matches!(at.kind, FrameKind::Registers | FrameKind::Interrupted);
        let lookup = KernelVirt(if precise { at.ip } else { at.ip.wrapping_sub(1) });
        let entry = self.entry(at.ip, lookup, precise)?;
        if entry.kind == kind::END_OF_STACK {
            return Ok(Some(StackEnd::Bottom));
        }
        let here = self.code.name(KernelVirt(at.ip), lookup);
        let here = here.map_or_else(|| format!("{:#x}", at.ip), |name| name.to_string());
        let caller = self.caller_sp(at, &entry, &here)?;
        let before = (at.sp, at.area);
        match entry.kind {
            kind::CALL => {
                at.ip = self.word(at, caller.wrapping_sub(8), &here)?;
                at.sp = caller;
                at.others = None;
            }
            kind::REGS | kind::REGS_PARTIAL => {
                let whole = entry.kind == kind::REGS;
                self.enter(at, caller, &here)?;
                let saved = if whole {
                    Registers::saved(self.view, KernelVirt(caller))
                } else {
                    Registers::pushed(self.view, KernelVirt(caller))
                };
                let saved = saved.map_err(|error| format!("the registers saved at {caller:#x}: {error}"))?;
                if saved.user {
                    return Ok(Some(StackEnd::User { ip: saved.ip, sp: saved.sp }));
                }
                (at.ip, at.sp) = (saved.ip, saved.sp);
                if whole {
                    at.bp = saved.bp;
                    at.others = saved.others;
                }
            }
            other => {
                return Err(format!("the unwind entry of {here} is of type {other}, which is not known"));
            }
        }
        at.kind = if entry.signal { FrameKind::Interrupted } else { FrameKind::Call };
        self.find_bp(at, &entry, caller, &here)?;
        self.arrive(at, before, &here)?;
        Ok(None)
    }

    /// What the unwind tables have on an address, or what BPF code itself says. `precise`: `ip` is where the CPU is, or was
    /// interrupted, and not where a call returns to.
    fn entry(&self, ip: u64, lookup: KernelVirt, precise: bool) -> Result<Rule, String> {
        if let Some(code) = self.code.bpf_at(lookup) {
            let name_of = |at| self.code.name(at, at).map(|name| name.name);
            return match bpf::caller(self.view, code, ip, name_of) {
                // Such code calls nothing but a tracer before it has its frame.
                Err(bpf::Unknown::Unread(_)) if !precise => Ok(bpf::framed()),
                told => told.map_err(|why| why.to_string()),
            };
        }
        if ip == 0 {
            // A call of a null pointer: nothing but the return address has been pushed.
            return Ok(Rule::call(Base::Sp, 8, Base::Undefined, 0));
        }
        if !self.code.is_kernel(lookup) {
            return Err(format!("{ip:#x} is not in the kernel's code nor in BPF code"));
        }
        let orc = self.orc.ok_or_else(|| format!("there are no unwind tables for {ip:#x}"))?;
        let entry =
            orc.find(self.view, lookup).map_err(|error| format!("the unwind entry of {ip:#x}: {error}"))?;
        let name = self.code.name(KernelVirt(ip), lookup);
        let name = name.map_or_else(|| format!("{ip:#x}"), |name| name.to_string());
        if TRAMPOLINES.iter().any(|trampoline| name.starts_with(trampoline)) {
            return Err(format!("a tracer has put {name} in the place of a return address"));
        }
        let entry = entry.filter(|entry| entry.kind != kind::UNDEFINED);
        entry.ok_or_else(|| format!("the kernel has no unwind entry for {name}"))
    }

    /// The stack pointer of the caller, or where the registers are that were saved.
    fn caller_sp(&self, at: &mut At, entry: &Rule, here: &str) -> Result<u64, String> {
        let other = |of: fn(&Others) -> u64, name: &str| {
            at.others
                .as_ref()
                .map(of)
                .ok_or_else(|| format!("the frame of {here} is relative to {name}, which was not saved"))
        };
        let from = |base: u64| base.wrapping_add_signed(entry.sp_offset);
        Ok(match entry.sp_reg {
            Base::Sp => from(at.sp),
            Base::Bp => from(at.bp),
            Base::SpIndirect => from(self.word(at, at.sp, here)?),
            Base::BpIndirect => self.word(at, from(at.bp), here)?,
            Base::R10 => other(|o| o.r10, "r10")?,
            Base::R13 => other(|o| o.r13, "r13")?,
            Base::Di => other(|o| o.di, "rdi")?,
            Base::Dx => other(|o| o.dx, "rdx")?,
            Base::Ax => other(|o| o.ax, "rax")?,
            unknown => {
                return Err(format!("the frame of {here} is relative to {unknown:?}, which cannot be"));
            }
        })
    }

    fn find_bp(&self, at: &mut At, entry: &Rule, caller: u64, here: &str) -> Result<(), String> {
        let base = match entry.bp_reg {
            // Not touched by this frame.
            Base::Undefined => return Ok(()),
            Base::PrevSp => caller,
            Base::Bp => at.bp,
            unknown => {
                return Err(format!(
                    "the frame pointer of {here} is relative to {unknown:?}, which cannot be"
                ));
            }
        };
        at.bp = self.word(at, base.wrapping_add_signed(entry.bp_offset), here)?;
        Ok(())
    }

    /// The word of a stack.
    fn word(&self, at: &mut At, from: u64, here: &str) -> Result<u64, String> {
        self.enter(at, from, here)?;
        self.view.u64(KernelVirt(from)).map_err(|error| format!("the frame of {here}: {error}"))
    }

    /// Be on the stack that `to` is on.
    fn enter(&self, at: &mut At, to: u64, here: &str) -> Result<(), String> {
        if at.area.has(to, 8) {
            return Ok(());
        }
        let area = self.areas.iter().find(|area| area.has(to, 8)).copied();
        let area = area.ok_or_else(|| {
            format!("the frame of {here} would be at {to:#x}, which is on no stack that is known")
        })?;
        if at.left.contains(&area) {
            return Err(format!("the frame of {here} leads back to the {} stack at {to:#x}", area.name));
        }
        let left = std::mem::replace(&mut at.area, area);
        at.left.push(left);
        Ok(())
    }

    /// Check that the step led outwards.
    fn arrive(&self, at: &mut At, (sp, area): (u64, Area), here: &str) -> Result<(), String> {
        // A stack pointer just past its stack is that of a frame whose caller is the first.
        if !at.area.has(at.sp.wrapping_sub(1), 1) {
            self.enter(at, at.sp, here)?;
        }
        if at.area == area && at.sp <= sp {
            return Err(format!(
                "the frame of {here} goes in the wrong direction, from {sp:#x} to {:#x}",
                at.sp
            ));
        }
        Ok(())
    }

    /// Words on the rest of the stack that follow a call in kernel code, or look like it.
    fn guesses(&self, at: &At) -> Vec<Frame> {
        let from = at.sp.next_multiple_of(8).max(at.area.start);
        let len = at.area.end.saturating_sub(from).min(1 << 16);
        let Ok(words) = self.view.bytes(KernelVirt(from), len as usize) else { return Vec::new() };
        let words = (0u64..).zip(bytes::u64s(&words));
        let guess = |(n, ip): (u64, u64)| {
            let lookup = KernelVirt(ip.wrapping_sub(1));
            let inside = self.code.is_bpf(lookup) || self.code.is_kernel(lookup);
            let frame = inside.then(|| self.frame(ip, from + n * 8 + 8, FrameKind::Guess, at.area.name))?;
            // The first address of a function is one that was taken, not one to return to.
            let begins = self.code.name(frame.ip, frame.ip).is_some_and(|name| name.offset == 0);
            (!begins).then_some(frame)
        };
        words.filter_map(guess).take(MAX_GUESSES).collect()
    }
}

/// Unwinds the stacks of one moment.
pub struct Unwinder<'u, 'm> {
    view: &'u KernelView<'m>,
    code: Code<'m>,
    orc: Option<OrcTables>,
    cpus: Option<Cpus>,
    /// Registers and stacks of the vCPUs.
    vcpus: Vec<(Cpu, Registers, Vec<Area>)>,
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
    pub running_on: Option<Cpu>,
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
    pub vcpus: Vec<(Cpu, Stack)>,
    /// The CPUs that do not run: the task that is said to run on one is its idle task, where that was parked.
    pub offline: Vec<Cpu>,
    /// What could not be read.
    pub gaps: Gaps,
}

/// What a vCPU runs.
#[derive(Clone, Debug)]
pub struct OnCpu {
    /// Thread id; 0 for idle tasks, `None` where it could not be read.
    pub pid: Option<u32>,
    /// Command name.
    pub comm: String,
    /// Its stack.
    pub stack: Stack,
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
            let areas = new.cpus.as_ref().map(|cpus| areas_of_cpu(view, cpus, regs.cpu)).unwrap_or_default();
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
    fn current(&mut self, cpu: Cpu) -> Option<KernelVirt> {
        let cpus = self.cpus.as_ref()?;
        let current = current_task(self.view, cpus, cpu);
        self.gaps.read(format_args!("the running task of CPU {cpu}"), current).flatten()
    }

    /// The task that a vCPU runs; `None` where that is not known.
    #[must_use]
    pub fn on_cpu(&self, cpu: Cpu) -> Option<OnCpu> {
        let of_cpu = |nth: usize| self.vcpus.get(nth).is_some_and(|(other, ..)| *other == cpu);
        let task = self.running.iter().find(|(_, nth)| of_cpu(**nth)).map(|(task, _)| *task)?;
        let name: Option<TaskName> = self.view.mirror(task).ok();
        let (pid, comm) = name.map_or((None, String::new()), |name| (Some(name.pid), name.comm.0));
        Some(OnCpu { pid, comm, stack: self.task(task).1 })
    }

    /// The code that has the instruction before `ip`: its name as the kernel prints it, and its source line where it is a BPF
    /// program's that was loaded with lines. The name is the address where nothing is known of it.
    #[must_use]
    pub fn code_before(&self, ip: KernelVirt) -> (String, Option<String>) {
        self.code.before(self.view, ip)
    }

    /// The stack of the task whose `task_struct` is at `task`, and the vCPU that it runs on.
    #[must_use]
    pub fn task(&self, task: KernelVirt) -> (Option<Cpu>, Stack) {
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
        on: Option<&(Cpu, Registers, Vec<Area>)>,
    ) -> Result<Stack, KernelError> {
        let place: OnStack = self.view.mirror(task)?;
        if place.stack.0 == 0 && on.is_none() {
            return Ok(Stack::none(StackEnd::Freed));
        }
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
        let known: Vec<Cpu> = out.iter().filter_map(|task| task.running_on).collect();
        let others = self.vcpus.iter().filter(|(cpu, ..)| !known.contains(cpu));
        let vcpus = others
            .map(|(cpu, registers, areas)| (*cpu, self.walk(areas).run(*registers, FrameKind::Registers)));
        let vcpus = vcpus.collect();
        let is_offline = |cpu: &Cpu| self.cpus.as_ref().is_some_and(|cpus| !cpus.is_online(*cpu));
        let offline = self.vcpus.iter().map(|(cpu, ..)| *cpu).filter(is_offline).collect();
        let gaps = std::mem::take(&mut self.gaps);
        Stacks { tasks: out, vcpus, offline, gaps }
    }

    fn walk<'w>(&'w self, areas: &'w [Area]) -> Walk<'w, 'm> {
        Walk { view: self.view, orc: self.orc.as_ref(), code: &self.code, areas }
    }
}
