//! Registers: of a vCPU, of a task that sleeps, of what an interrupt came upon.

use crate::kernel::mirror::mirror;
use crate::kernel::{KernelError, KernelView};
use crate::trace::record::VcpuRegs;
use crate::units::KernelVirt;

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
        let bytes = view.types().size_of(view.types().struct_named("inactive_task_frame")?)?;
        Ok(Self { ip: frame.ret_addr, sp: sp.wrapping_add(bytes), bp: frame.bp, others: None, user: false })
    }
}
