//! A VM for a tiny guest.

use std::sync::Arc;

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, KVM_MP_STATE_RUNNABLE, kvm_mp_state};
use kvm_ioctls::{Kvm, VmFd};

use super::error::{failed, refused};
use super::guests;
use super::means::Means;
use super::vm::{CpuSpec, Vm};
use crate::machine::error::MachineError;
use crate::machine::ram::GuestRam;

/// A VM whose `vcpus` vCPUs all begin to execute `code`. It is stopped.
pub(super) fn vm(kvm: &Kvm, code: &[u8], vcpus: u32, means: Means) -> Result<Vm, MachineError> {
    tuned(kvm, code, vcpus, means, |_| ())
}

/// The same, with what `tune` does before there are vCPUs.
pub(super) fn tuned(
    kvm: &Kvm,
    code: &[u8],
    vcpus: u32,
    means: Means,
    tune: impl FnOnce(&VmFd),
) -> Result<Vm, MachineError> {
    let ram = GuestRam::new(&[guests::RAM_BYTES]).map_err(failed("map memory"))?;
    let vm = Vm::tuned(kvm, Arc::new(ram), &cpus(kvm, 0..vcpus)?, means, tune)?;
    begin(&vm, code)?;
    Ok(vm)
}

/// A VM of one vCPU with this APIC id, which begins to execute `code`. It is stopped.
pub(super) fn of_id(kvm: &Kvm, code: &[u8], apic_id: u32, means: Means) -> Result<Vm, MachineError> {
    let ram = GuestRam::new(&[guests::RAM_BYTES]).map_err(failed("map memory"))?;
    let vm = Vm::new(kvm, Arc::new(ram), &cpus(kvm, [apic_id])?, means)?;
    begin(&vm, code)?;
    Ok(vm)
}

/// Load `code`, with all vCPUs of `vm` before its first instruction.
fn begin(vm: &Vm, code: &[u8]) -> Result<(), MachineError> {
    guests::load(&vm.shared.ram, code)
        .map_err(|error| failed("load a tiny guest")(std::io::Error::other(error)))?;
    vm.ask_all(|vcpu| {
        let cpu = u64::from(vcpu.cpu().0);
        let fd = vcpu.fd();
        let sregs = fd.get_sregs().map_err(refused("read a vCPU's system registers"))?;
        fd.set_sregs(&guests::long_mode(sregs)).map_err(refused("set a vCPU's system registers"))?;
        fd.set_regs(&guests::regs(cpu)).map_err(refused("set a vCPU's registers"))?;
        // All but the first would wait to be started by it.
        let runnable = kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE };
        fd.set_mp_state(runnable).map_err(refused("start a vCPU"))
    })?;
    Ok(())
}

/// A VM like that with nothing in its memory, and vCPUs as after power-on.
pub(super) fn bare(kvm: &Kvm, vcpus: u32, means: Means) -> Result<Vm, MachineError> {
    let ram = GuestRam::new(&[guests::RAM_BYTES]).map_err(failed("map memory"))?;
    Vm::new(kvm, Arc::new(ram), &cpus(kvm, 0..vcpus)?, means)
}

/// What KVM can give to a guest, with the number of each vCPU.
fn cpus(kvm: &Kvm, ids: impl IntoIterator<Item = u32>) -> Result<Vec<CpuSpec>, MachineError> {
    let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(refused("read KVM's CPUID"))?;
    let numbered = |apic_id: u32| {
        let mut cpuid = supported.clone();
        for entry in cpuid.as_mut_slice() {
            match entry.function {
                1 => entry.ebx = entry.ebx & 0x00ff_ffff | (apic_id & 0xff) << 24,
                0xb | 0x1f => entry.edx = apic_id,
                _ => {}
            }
        }
        CpuSpec { apic_id, cpuid }
    };
    Ok(ids.into_iter().map(numbered).collect())
}
