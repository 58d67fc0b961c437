//! Where an unwind begins: registers of a vCPU, of a task that sleeps, of what an interrupt came upon; and where stacks are.

use crate::kernel::mirror::{At, mirror};
use crate::kernel::{Cpus, FieldMissing, KernelError, KernelView};
use crate::trace::record::VcpuRegs;
use crate::units::{Cpu, KernelVirt};

mirror! {
    /// `struct pt_regs`: all registers, as an entry into the kernel saved them.
    struct PtRegs, PtRegsLayout = "pt_regs" {
        ip: u64,
        cs: u64,
        sp: u64,
        bp: u64,
        r10: u64,
        r13: u64,
        di: u64,
        dx: u64,
        ax: u64,
    }
}

mirror! {
    /// `struct pt_regs`, as far as the CPU itself writes it.
    struct IretRegs, IretRegsLayout = "pt_regs" {
        ip: u64,
        cs: u64,
        sp: u64,
    }
}

mirror! {
    /// `struct inactive_task_frame`: what is at the stack pointer of a task that does not run.
    struct InactiveFrame, InactiveFrameLayout = "inactive_task_frame" {
        bp: u64,
        ret_addr: u64,
    }
}

mirror! {
    /// `struct task_struct`, as far as its stack goes.
    pub(super) struct OnStack, OnStackLayout = "task_struct" {
        stack: KernelVirt,
        sp: u64 = "thread.sp",
    }
}

/// Privilege bits of a code selector; 3 is user space.
const PRIVILEGE: u64 = 3;

/// The registers that an unwind begins with, or goes on with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub bp: u64,
    /// Others that a frame can be relative to; `None` where they are not known.
    pub(super) others: Option<Others>,
    /// In user space.
    pub user: bool,
}

/// Registers that a few frames of entry code and of realigned stacks are relative to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Others {
    pub r10: u64,
    pub r13: u64,
    pub di: u64,
    pub dx: u64,
    pub ax: u64,
}

impl From<&VcpuRegs> for Registers {
    fn from(regs: &VcpuRegs) -> Self {
        let [ax, _, _, dx, _, di, bp, sp, _, _, r10, _, _, r13, _, _] = regs.gpr;
        Self {
            ip: regs.rip,
            sp,
            bp,
            others: Some(Others { r10, r13, di, dx, ax }),
            user: u64::from(regs.segments[0]) & PRIVILEGE == PRIVILEGE,
        }
    }
}

impl Registers {
    /// Those of the `pt_regs` at `at`.
    pub(super) fn saved(view: &KernelView<'_>, at: KernelVirt) -> Result<Self, KernelError> {
        let regs: PtRegs = view.mirror(at)?;
        let others = Some(Others { r10: regs.r10, r13: regs.r13, di: regs.di, dx: regs.dx, ax: regs.ax });
        let user = regs.cs & PRIVILEGE == PRIVILEGE;
        Ok(Self { ip: regs.ip, sp: regs.sp, bp: regs.bp, others, user })
    }

    /// Those that the CPU pushes itself, whose first is at `at`. The frame pointer is not among them.
    pub(super) fn pushed(view: &KernelView<'_>, at: KernelVirt) -> Result<Self, KernelError> {
        let first = view.offset_of("pt_regs", "ip")?;
        let regs: IretRegs = view.mirror(KernelVirt(at.0.wrapping_sub(first)))?;
        let user = regs.cs & PRIVILEGE == PRIVILEGE;
        Ok(Self { ip: regs.ip, sp: regs.sp, bp: 0, others: None, user })
    }

    /// Those of a task that does not run, by its stack pointer.
    pub(super) fn inactive(view: &KernelView<'_>, sp: u64) -> Result<Self, KernelError> {
        let frame: InactiveFrame = view.mirror(KernelVirt(sp))?;
        let bytes = view.types().struct_bytes("inactive_task_frame")?;
        Ok(Self { ip: frame.ret_addr, sp: sp.wrapping_add(bytes), bp: frame.bp, others: None, user: false })
    }
}

mirror! {
    /// `struct pcpu_hot`, which some kernels keep the pointer to the IRQ stack in.
    struct PcpuHot, PcpuHotLayout = "pcpu_hot" {
        hardirq_stack_ptr: KernelVirt,
    }
}

mirror! {
    /// `struct cpu_entry_area`.
    struct EntryArea, EntryAreaLayout = "cpu_entry_area" {
        entry_stack_page: Result<At, FieldMissing>,
    }
}

/// The members of `struct cea_exception_stacks`, and what the kernel calls the stacks.
const EXCEPTIONS: [(&str, &str); 6] = [
    ("DF_stack", "#DF"),
    ("NMI_stack", "NMI"),
    ("DB_stack", "#DB"),
    ("MCE_stack", "#MC"),
    ("VC_stack", "#VC"),
    ("VC2_stack", "#VC2"),
];

/// Longest stack of a task, in bytes: eight times that of x86-64 with KASAN.
const MAX_TASK_BYTES: u64 = 512 << 10;

/// A range of addresses that is a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Area {
    pub start: u64,
    /// Just past the last byte.
    pub end: u64,
    /// `task`, `irq`, `NMI`, ...
    pub name: &'static str,
}

impl Area {
    pub(super) fn has(&self, at: u64, len: u64) -> bool {
        at >= self.start && at.checked_add(len).is_some_and(|end| end <= self.end)
    }

    /// The stack of a task.
    ///
    /// # Errors
    /// When the kernel does not say how long it is.
    pub(super) fn of_task(view: &KernelView<'_>, stack: KernelVirt) -> Result<Self, KernelError> {
        let end = stack.0.checked_add(task_bytes(view)?);
        let why = || "it would end beyond all addresses".to_owned();
        let end = end.ok_or_else(|| KernelError::Broken { what: "a task's stack", at: stack, why: why() })?;
        Ok(Self { start: stack.0, end, name: "task" })
    }
}

/// The length of a task's stack in bytes (`THREAD_SIZE`): that of the first task's, between two symbols of
/// `include/asm-generic/vmlinux.lds.h`, which older kernels call otherwise. It is a power of two.
fn task_bytes(view: &KernelView<'_>) -> Result<u64, KernelError> {
    let between = |start, end| Ok((view.symbol(start)?, view.symbol(end)?));
    let (start, end) = between("__start_init_stack", "__end_init_stack")
        .or_else(|error: KernelError| between("__start_init_task", "__end_init_task").map_err(|_| error))?;
    let bytes = end.0.wrapping_sub(start.0);
    if !bytes.is_power_of_two() || bytes > MAX_TASK_BYTES {
        let why = format!("it would be of {bytes} bytes");
        return Err(KernelError::Broken { what: "the first task's stack", at: start, why });
    }
    Ok(bytes)
}

/// The stacks of one CPU that belong to no task. What this kernel lacks of them is left out: an unwind that needs it says
/// that the address is on no stack it knows.
pub(super) fn areas_of_cpu(view: &KernelView<'_>, cpus: &Cpus, cpu: Cpu) -> Vec<Area> {
    let mut areas = Vec::new();
    areas.extend(irq(view, cpus, cpu).ok().flatten());
    areas.extend(exceptions(view, cpus, cpu).into_iter().flatten());
    areas.extend(entry(view, cpus, cpu).ok().flatten());
    areas
}

fn irq(view: &KernelView<'_>, cpus: &Cpus, cpu: Cpu) -> Result<Option<Area>, KernelError> {
    let top = match view.symbol("hardirq_stack_ptr") {
        Ok(at) => cpus.place(at, cpu).map(|at| view.u64(at)).transpose()?,
        Err(_) => {
            let hot = cpus.place(view.symbol("pcpu_hot")?, cpu);
            hot.map(|at| view.mirror::<PcpuHot>(at).map(|hot| hot.hardirq_stack_ptr.0)).transpose()?
        }
    };
    let bytes = view.types().struct_bytes("irq_stack")?;
    // The pointer is to the end, or to the last word.
    let end = top.filter(|top| *top != 0).and_then(|top| top.checked_next_multiple_of(4096));
    Ok(end.and_then(|end| Some(Area { start: end.checked_sub(bytes)?, end, name: "irq" })))
}

fn exceptions(view: &KernelView<'_>, cpus: &Cpus, cpu: Cpu) -> Result<Vec<Area>, KernelError> {
    let Some(at) = cpus.place(view.symbol("cea_exception_stacks")?, cpu) else { return Ok(Vec::new()) };
    let Some(stacks) = view.pointer(at)? else { return Ok(Vec::new()) };
    let area = |(member, name)| {
        let field = view.types().struct_field("cea_exception_stacks", member).ok()?;
        let bytes = view.types().size_of(field.type_id).ok()?;
        let start = stacks.0.checked_add(field.offset_bytes())?;
        Some(Area { start, end: start.checked_add(bytes)?, name })
    };
    Ok(EXCEPTIONS.into_iter().filter_map(area).collect())
}

fn entry(view: &KernelView<'_>, cpus: &Cpus, cpu: Cpu) -> Result<Option<Area>, KernelError> {
    let Some(at) = cpus.place(view.symbol("cpu_entry_area")?, cpu) else { return Ok(None) };
    let Some(area) = view.pointer(at)? else { return Ok(None) };
    let Ok(At(start)) = view.mirror::<EntryArea>(area)?.entry_stack_page else { return Ok(None) };
    let end = start.0.checked_add(view.types().struct_bytes("entry_stack_page")?);
    Ok(end.map(|end| Area { start: start.0, end, name: "entry" }))
}
