//! A vCPU, and what it does while it runs. It belongs to one thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ktstr_replay::trace::record::GuestEnd;
use ktstr_replay::units::{Cpu, GuestPhys};
use kvm_bindings::{
    KVM_GUESTDBG_BLOCKIRQ, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_INJECT_DB, KVM_GUESTDBG_SINGLESTEP,
    KVM_GUESTDBG_USE_HW_BP, kvm_debug_exit_arch, kvm_guest_debug,
};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::chips::Chips;
use super::error::refused;
use super::fault::InternalError;
use super::kick::{Kickable, Thread};
use super::ports::{Ports, Wish};
use super::watch::Watches;
use crate::machine::error::MachineError;
use crate::machine::interface::WatchId;
use crate::machine::ram::{GuestRam, PAGE_BYTES};

/// Exits that completing one access may take: an instruction has few parts, and each `rep` round is its own.
const MOST_PARTS: u32 = 64;
/// Begins the line in which the kernel says why it panics (`kernel/panic.c`).
const PANIC_MARK: &[u8] = b"Kernel panic - not syncing";
/// In DR6: the vCPU made a single step; one of the four breakpoints fired.
const DR6_STEP: u64 = 1 << 14;
const DR6_BREAKPOINTS: u64 = 0xf;
/// Where a vCPU begins after a reset.
const RESET_RIP: u64 = 0xfff0;

/// What all vCPUs of a VM share.
pub(super) struct Shared {
    /// All vCPUs are to come back.
    pub(super) stop: AtomicBool,
    /// The threads that run them, until one of them may be joined.
    pub(super) threads: Mutex<Vec<Thread>>,
    pub(super) ports: Mutex<Ports>,
    pub(super) watches: Mutex<Watches>,
    /// Before the memory, as they hold the VM, which maps it.
    pub(super) chips: Chips,
    pub(super) ram: Arc<GuestRam>,
}

/// Why a vCPU came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It was told to.
    Asked,
    /// It made a single step.
    Stepped,
    /// It rang the doorbell.
    Rang(u32),
    /// A watch fired.
    Fired(WatchId),
    /// The guest ended, or KVM cannot go on with it.
    Ended { end: GuestEnd, detail: String },
}

/// A vCPU.
pub(super) struct Vcpu {
    kickable: Kickable,
    cpu: Cpu,
    shared: Arc<Shared>,
    /// Ports and memory that were accessed and that KVM has not been told the result of.
    incomplete: bool,
    /// It makes a single step for us.
    stepping: bool,
    /// How KVM was told to debug it.
    debug: kvm_guest_debug,
}

/// How a vCPU is to be debugged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Debugging {
    /// Stop after one instruction, interrupts withheld where KVM can.
    pub(super) step: bool,
    /// DR0 to DR3.
    pub(super) at: [u64; 4],
    /// DR7, 0 for none.
    pub(super) dr7: u64,
}

/// `mutex`, whether a thread that held it panicked or not: what it guards is whole at any time.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A triple fault of a vCPU that stands at `rip` after it. On SVM its state is lost then, and KVM resets the vCPU before it tells
/// of it (`shutdown_interception`).
fn triple_fault(rip: u64) -> String {
    match rip {
        RESET_RIP => "a triple fault; this KVM does not tell where, as it reset the vCPU".into(),
        rip => format!("a triple fault at RIP {rip:#x}"),
    }
}

impl Shared {
    /// Have all vCPUs come back.
    pub(super) fn stop_all(&self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in lock(&self.threads).iter() {
            // SAFETY: a thread enters itself when it has made its Kickable, and the list is emptied before any is joined.
            unsafe { thread.kick() };
        }
    }

    fn panicked(&self) -> Option<String> {
        let ports = lock(&self.ports);
        let console = ports.console();
        let at = console.windows(PANIC_MARK.len()).position(|text| text == PANIC_MARK)?;
        let line = console[at..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        Some(String::from_utf8_lossy(line).trim_end().to_owned())
    }

    /// The guest ended by a reset, `detail` says of which kind: panics come to that.
    fn reset(&self, detail: String) -> Why {
        match self.panicked() {
            Some(line) => Why::Ended { end: GuestEnd::Panicked, detail: line },
            None => Why::Ended { end: GuestEnd::Reset, detail },
        }
    }

    /// The guest stored `data` at `at`, where it has no memory that it can write. Says which watch fires.
    fn stored(&self, at: u64, data: &[u8]) -> Option<WatchId> {
        let watches = lock(&self.watches);
        if !watches.is_read_only(at / PAGE_BYTES) {
            return None;
        }
        // A page that is watched is RAM, and KVM splits what crosses a page.
        let _ = self.ram.write(GuestPhys(at), data);
        watches.stored(at, data.len() as u64)
    }
}

impl Vcpu {
    /// vCPU `cpu`, for the thread that calls this.
    pub(super) fn new(fd: VcpuFd, cpu: Cpu, shared: Arc<Shared>) -> std::io::Result<Self> {
        let (kickable, debug) = (Kickable::new(fd)?, kvm_guest_debug::default());
        Ok(Self { kickable, cpu, shared, incomplete: false, stepping: false, debug })
    }

    /// Its number.
    pub(super) fn cpu(&self) -> Cpu {
        self.cpu
    }

    /// What KVM knows of it.
    pub(super) fn fd(&mut self) -> &mut VcpuFd {
        self.kickable.vcpu()
    }

    /// Run until something happens that the machine is told of. What it was doing at ports or memory is complete then.
    pub(super) fn run(&mut self) -> Why {
        let why = loop {
            if self.shared.stop.load(Ordering::SeqCst) {
                break Why::Asked;
            }
            if let Some(why) = self.enter() {
                break why;
            }
        };
        if why != Why::Asked {
            self.shared.stop_all();
        }
        match self.complete() {
            // What happens while an access is completed is part of the same instruction.
            Some(more) if why == Why::Asked => {
                self.shared.stop_all();
                more
            }
            _ => why,
        }
    }

    /// Have KVM finish the instruction that accessed ports or memory, without executing another one.
    fn complete(&mut self) -> Option<Why> {
        let mut found = None;
        for _ in 0..MOST_PARTS {
            if !self.incomplete {
                break;
            }
            self.incomplete = false;
            self.fd().set_kvm_immediate_exit(1);
            let why = self.enter();
            found = found.or(why);
        }
        self.fd().set_kvm_immediate_exit(0);
        found
    }

    /// Enter the guest once.
    fn enter(&mut self) -> Option<Why> {
        let Self { kickable, shared, incomplete, stepping, .. } = self;
        let fd = kickable.vcpu();
        match fd.run() {
            Ok(VcpuExit::IoOut(port, data)) => {
                *incomplete = true;
                let wish = lock(&shared.ports).write(port, data);
                wish.map(|wish| match wish {
                    Wish::Ring(id) => Why::Rang(id),
                    Wish::PowerOff => Why::Ended {
                        end: GuestEnd::PoweredOff,
                        detail: "the guest powered itself off".into(),
                    },
                    Wish::Reset => shared.reset(format!("the guest reset itself by port {port:#x}")),
                })
            }
            Ok(VcpuExit::IoIn(port, data)) => {
                *incomplete = true;
                lock(&shared.ports).read(port, data);
                None
            }
            Ok(VcpuExit::MmioRead(at, data)) => {
                *incomplete = true;
                if !shared.chips.read(at, data) {
                    // Nobody answers: the bus floats.
                    data.fill(0xff);
                }
                None
            }
            Ok(VcpuExit::MmioWrite(at, data)) => {
                *incomplete = true;
                match shared.chips.write(at, data) {
                    Ok(true) => None,
                    Ok(false) => shared.stored(at, data).map(Why::Fired),
                    Err(error) => {
                        let detail = format!("the guest's IOAPIC does not work any more: {error}");
                        Some(Why::Ended { end: GuestEnd::MachineDied, detail })
                    }
                }
            }
            Ok(VcpuExit::Debug(exit)) => {
                let why = Self::debug(shared, *stepping, &exit);
                if why.is_none()
                    && let Err(error) = self.give_back(&exit)
                {
                    let detail =
                        format!("the guest's debug exception could not be given back to it: {error}");
                    return Some(Why::Ended { end: GuestEnd::MachineDied, detail });
                }
                why
            }
            // The end of an interrupt is told of pins with a level, which our IOAPIC has none of.
            Ok(VcpuExit::Intr | VcpuExit::IrqWindowOpen | VcpuExit::SetTpr | VcpuExit::IoapicEoi(_)) => None,
            Ok(VcpuExit::Shutdown) => {
                let rip = fd.get_regs().map_or(0, |regs| regs.rip);
                Some(shared.reset(triple_fault(rip)))
            }
            Ok(VcpuExit::InternalError) => {
                let rip = fd.get_regs().map_or(0, |regs| regs.rip);
                let detail = InternalError::of(fd.get_kvm_run()).describe(rip);
                Some(Why::Ended { end: GuestEnd::MachineDied, detail })
            }
            Ok(VcpuExit::FailEntry(reason, cpu)) => {
                let detail = format!("the CPU did not enter the guest (reason {reason:#x}, host CPU {cpu})");
                Some(Why::Ended { end: GuestEnd::MachineDied, detail })
            }
            Ok(other) => {
                let detail = format!("an exit that this program does not know: {other:?}");
                Some(Why::Ended { end: GuestEnd::MachineDied, detail })
            }
            Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => {
                fd.set_kvm_immediate_exit(0);
                None
            }
            Err(error) => {
                let detail = format!("KVM_RUN failed: {}", std::io::Error::from(error));
                Some(Why::Ended { end: GuestEnd::MachineDied, detail })
            }
        }
    }

    /// Why a debug exit of ours happened.
    fn debug(shared: &Shared, stepping: bool, exit: &kvm_debug_exit_arch) -> Option<Why> {
        let watches = lock(&shared.watches);
        let fired = exit.dr6 & DR6_BREAKPOINTS;
        if stepping && let Some(id) = watches.by_store(fired) {
            return Some(Why::Fired(id));
        }
        // KVM gives the step's bit with a breakpoint's at the instruction that follows; the breakpoint fires again when that is
        // executed.
        if stepping && exit.dr6 & DR6_STEP != 0 {
            return Some(Why::Stepped);
        }
        watches.at_breakpoint(exit.pc, fired).map(Why::Fired)
    }

    /// A debug exception is the guest's own: of its single step, or of a debug register of its own. KVM gives all of them to
    /// us while it uses the debug registers.
    fn give_back(&mut self, exit: &kvm_debug_exit_arch) -> Result<(), MachineError> {
        let fd = self.kickable.vcpu();
        let mut registers = fd.get_debug_regs().map_err(refused("read a vCPU's debug registers"))?;
        registers.dr6 = registers.dr6 & !DR6_BREAKPOINTS | exit.dr6;
        fd.set_debug_regs(&registers).map_err(refused("set a vCPU's debug registers"))?;
        let mut debug = self.debug;
        debug.control |= KVM_GUESTDBG_INJECT_DB;
        fd.set_guest_debug(&debug).map_err(refused("give the guest a debug exception"))
    }

    /// Set how it is debugged.
    pub(super) fn set_debugging(
        &mut self,
        debugging: Debugging,
        block_irq: bool,
    ) -> Result<(), MachineError> {
        let mut control = 0;
        if debugging.step {
            control |= KVM_GUESTDBG_SINGLESTEP | if block_irq { KVM_GUESTDBG_BLOCKIRQ } else { 0 };
        }
        if debugging.dr7 != 0 {
            control |= KVM_GUESTDBG_USE_HW_BP;
        }
        if control != 0 {
            control |= KVM_GUESTDBG_ENABLE;
        }
        self.stepping = debugging.step;
        self.debug = kvm_guest_debug { control, ..kvm_guest_debug::default() };
        self.debug.arch.debugreg[..4].copy_from_slice(&debugging.at);
        self.debug.arch.debugreg[7] = debugging.dr7;
        let debug = self.debug;
        self.fd().set_guest_debug(&debug).map_err(refused("set a vCPU's debug registers"))
    }
}

#[cfg(test)]
mod tests {
    use super::triple_fault;

    #[test]
    fn a_triple_fault_says_where_if_that_is_known() {
        assert_eq!(triple_fault(0x20_0000), "a triple fault at RIP 0x200000");
        let reset = triple_fault(0xfff0);
        assert!(reset.starts_with("a triple fault;") && !reset.contains("0x"), "{reset}");
    }
}
