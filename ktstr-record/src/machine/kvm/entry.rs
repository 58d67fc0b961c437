//! How a VM's vCPUs are before the kernel's first instruction.

use kvm_bindings::{kvm_lapic_state, kvm_msr_entry};

use super::boot::KernelEntry;
use super::error::refused;
use super::state::write_msrs;
use super::vcpu::Vcpu;
use super::vm::Vm;
use crate::machine::error::MachineError;

/// Registers of the local APIC for its two pins, LINT0 and LINT1 (Intel's Software Developer's Manual, volume 3, 12.5.1).
const LINT0: usize = 0x350;
const LINT1: usize = 0x360;
/// Delivery modes: interrupts of the 8259, and NMIs.
const EXTINT: u32 = 7 << 8;
const NMI: u32 = 4 << 8;

impl Vm {
    /// Have the first vCPU enter the kernel by `entry` when the VM goes on. The others wait to be started by it, as after
    /// power-on.
    pub(super) fn enter_by(&self, entry: &KernelEntry) -> Result<(), MachineError> {
        let entry = entry.clone();
        self.ask_all(move |vcpu| {
            let msrs: Vec<_> = entry
                .msrs()
                .into_iter()
                .map(|(index, data)| kvm_msr_entry { index, data, ..kvm_msr_entry::default() })
                .collect();
            write_msrs(vcpu.fd(), &msrs)?;
            connect_pins(vcpu)?;
            if vcpu.cpu().0 > 0 {
                return Ok(());
            }
            let fd = vcpu.fd();
            let mut regs = fd.get_regs().map_err(refused("read a vCPU's registers"))?;
            let mut sregs = fd.get_sregs().map_err(refused("read a vCPU's system registers"))?;
            entry.set(&mut regs, &mut sregs);
            fd.set_sregs(&sregs).map_err(refused("set a vCPU's system registers"))?;
            fd.set_regs(&regs).map_err(refused("set a vCPU's registers"))
        })?;
        Ok(())
    }
}

/// As a firmware leaves them, and as MADT says: the 8259 at LINT0, NMIs at LINT1.
fn connect_pins(vcpu: &mut Vcpu) -> Result<(), MachineError> {
    let mut lapic = vcpu.fd().get_lapic().map_err(refused("read a local APIC"))?;
    put(&mut lapic, LINT0, EXTINT);
    put(&mut lapic, LINT1, NMI);
    vcpu.fd().set_lapic(&lapic).map_err(refused("set a local APIC"))
}

fn put(lapic: &mut kvm_lapic_state, at: usize, value: u32) {
    for (register, byte) in lapic.regs[at..at + 4].iter_mut().zip(value.to_le_bytes()) {
        *register = byte as _;
    }
}
