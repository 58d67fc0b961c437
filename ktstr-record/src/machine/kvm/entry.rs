//! How a VM's vCPUs are before the kernel's first instruction.

use kvm_bindings::{kvm_lapic_state, kvm_msr_entry};

use super::boot::{KernelEntry, MISC_ENABLE};
use super::error::refused;
use super::state::{read_msrs, write_msrs};
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
            // With its bits for branch traces and PEBS at 0, a kernel would take it that there are some.
            let has = read_msrs(vcpu.fd(), &[MISC_ENABLE.0])?.first().map_or(0, |has| has.data);
            let value = |index, bits| if index == MISC_ENABLE.0 { has | bits } else { bits };
            let msrs: Vec<_> = entry
                .msrs()
                .into_iter()
                .map(|(index, bits)| kvm_msr_entry {
                    index,
                    data: value(index, bits),
                    ..kvm_msr_entry::default()
                })
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

#[cfg(test)]
mod tests {
    use kvm_bindings::kvm_msr_entry;
    use kvm_ioctls::Kvm;

    use crate::machine::kvm::boot::{KernelEntry, MISC_ENABLE, MTRR_DEF_TYPE, Protocol};
    use crate::machine::kvm::means::Means;
    use crate::machine::kvm::state::{read_msrs, write_msrs};
    use crate::machine::kvm::tiny;

    /// No branch traces and no PEBS, as KVM has it for a CPU.
    const UNAVAILABLE: u64 = 1 << 11 | 1 << 12;

    #[test]
    fn what_kvm_says_of_the_cpu_stays() {
        let means = Means { stores: false, instructions: false, block_irq: false };
        let made = Kvm::new()
            .map_err(|error| error.to_string())
            .and_then(|kvm| tiny::bare(&kvm, 2, means).map_err(|error| error.to_string()));
        let vm = match made {
            Ok(vm) => vm,
            Err(why) => return eprintln!("not tested: {why}"),
        };
        vm.ask_all(|vcpu| {
            let entry = kvm_msr_entry { index: MISC_ENABLE.0, data: UNAVAILABLE, ..kvm_msr_entry::default() };
            write_msrs(vcpu.fd(), &[entry])
        })
        .unwrap();
        vm.enter_by(&KernelEntry::new(0x100_0000, Protocol::Linux64)).unwrap();
        let found = vm.ask_all(|vcpu| read_msrs(vcpu.fd(), &[MISC_ENABLE.0, MTRR_DEF_TYPE.0])).unwrap();
        assert_eq!(found.len(), 2);
        for msrs in found {
            let values: Vec<u64> = msrs.iter().map(|msr| msr.data).collect();
            assert_eq!(values, [UNAVAILABLE | MISC_ENABLE.1, MTRR_DEF_TYPE.1]);
        }
    }
}
