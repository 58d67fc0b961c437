//! What guests do with devices, and how they end.

use ktstr_replay::trace::record::GuestEnd;
use kvm_ioctls::Kvm;

use super::check::{Checked, Failure, ends, ensure, next, rings, word};
use crate::machine::kvm::error::refused;
use crate::machine::kvm::guests;
use crate::machine::kvm::means::Means;
use crate::machine::kvm::tiny;
use crate::machine::kvm::vm::{Vm, VmEvent};

/// Bit 5 of COM1's line status: the transmitter is empty.
const TRANSMITTER_EMPTY: u64 = 1 << 5;

pub(super) fn ports(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = tiny::vm(kvm, guests::ports(), 1, means)?;
    rings(&mut vm, 41)?;
    ensure!(
        word(&vm, 0)? as u32 as u64 & TRANSMITTER_EMPTY != 0,
        "COM1's line status is {:#x}",
        word(&vm, 0)?
    );
    ensure!(word(&vm, 4)? as u32 == 0xffff, "a port without a device reads as {:#x}", word(&vm, 4)?);
    ensure!(word(&vm, 8)? as u32 == 0x120, "ACPI's enable register has {:#x}", word(&vm, 8)?);
    rings(&mut vm, 0x1234_5678)?;
    ends(&mut vm, GuestEnd::PoweredOff)?;
    let console = vm.console();
    ensure!(console == b"ok\n", "the console has {:?}", String::from_utf8_lossy(&console));
    ensure!(vm.resume().is_err(), "a guest that has ended goes on");
    Ok("two rings, a line on the console, power-off".into())
}

/// Have vCPU 0 begin with rsi at [`guests::NOWHERE`].
fn from_nowhere(vm: &Vm) -> Result<(), Failure> {
    vm.ask_all(|vcpu| {
        let regs = kvm_bindings::kvm_regs { rsi: guests::NOWHERE, ..guests::regs(0) };
        vcpu.fd().set_regs(&regs).map_err(refused("set a vCPU's registers"))
    })?;
    Ok(())
}

pub(super) fn mmio(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = tiny::vm(kvm, guests::mmio(), 1, means)?;
    from_nowhere(&vm)?;
    ends(&mut vm, GuestEnd::PoweredOff)?;
    ensure!(word(&vm, 0)? == u64::MAX, "8 bytes of nothing read as {:#x}", word(&vm, 0)?);
    ensure!(word(&vm, 8)? == 0xff, "a byte of nothing reads as {:#x}", word(&vm, 8)?);
    Ok("where nothing answers, a store is lost and a read gives ones".into())
}

pub(super) fn timer(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = tiny::vm(kvm, guests::timer(), 1, means)?;
    ends(&mut vm, GuestEnd::PoweredOff)?;
    ensure!(word(&vm, 0)? >= 20, "{} interrupts of 20", word(&vm, 0)?);
    Ok(format!("{} interrupts", word(&vm, 0)?))
}

pub(super) fn triple_fault(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = tiny::vm(kvm, guests::triple_fault(), 1, means)?;
    vm.ask_all(|vcpu| {
        let mut sregs = vcpu.fd().get_sregs().map_err(refused("read a vCPU's system registers"))?;
        sregs.idt.limit = 0;
        vcpu.fd().set_sregs(&sregs).map_err(refused("set a vCPU's system registers"))
    })?;
    let detail = ends(&mut vm, GuestEnd::Reset)?;
    ensure!(detail.contains("triple fault"), "{detail}");
    Ok(detail)
}

pub(super) fn panic(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = tiny::vm(kvm, guests::panic(), 1, means)?;
    let detail = ends(&mut vm, GuestEnd::Panicked)?;
    ensure!(detail == "Kernel panic - not syncing: out of luck", "{detail}");
    Ok(detail)
}

pub(super) fn reset(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = tiny::vm(kvm, guests::reset(), 1, means)?;
    ends(&mut vm, GuestEnd::Reset)
}

pub(super) fn internal_error(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = tiny::vm(kvm, guests::nowhere(), 1, means)?;
    from_nowhere(&vm)?;
    match next(&mut vm)? {
        VmEvent::Ended { end: GuestEnd::MachineDied, detail } => {
            let says = format!("suberror 1), RIP {:#x}", guests::NOWHERE);
            ensure!(detail.contains("KVM_EXIT_INTERNAL_ERROR") && detail.contains(&says), "{detail}");
            Ok(detail)
        }
        // Some KVMs have the guest see a fault instead, which it has no handler for.
        VmEvent::Ended { end: GuestEnd::Reset, detail } if detail.contains("triple fault") => {
            Ok(format!("this KVM gives the guest a fault instead: {detail}"))
        }
        other => Err(format!("expected an internal error, found {other:?}").into()),
    }
}
