//! Interrupts to APIC ids that KVM's own IOAPIC does not reach.

use ktstr_replay::trace::record::GuestEnd;
use kvm_bindings::kvm_regs;
use kvm_ioctls::Kvm;

use super::check::{Checked, Failure, ends, ensure, rings, word};
use super::state::copy_ram;
use crate::machine::kvm::error::refused;
use crate::machine::kvm::guests;
use crate::machine::kvm::means::Means;
use crate::machine::kvm::tiny;
use crate::machine::kvm::vm::Vm;

/// The last vCPU of the gauntlet's largest machine has it. Its lower eight bits alone are the id of another.
const ID: u32 = 433;
/// Where the upper half of a redirection entry has it.
const DESTINATION: u64 = ((ID & 0xff) << 24 | (ID >> 8) << 17) as u64;

pub(super) fn to_a_high_id(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = tiny::of_id(kvm, guests::ioapic(), ID, means)?;
    vm.ask_all(|vcpu| {
        let regs = kvm_regs { rsi: DESTINATION, ..guests::regs(0) };
        vcpu.fd().set_regs(&regs).map_err(refused("set a vCPU's registers"))
    })?;
    rings(&mut vm, 1)?;
    ensure!(word(&vm, 8)? == 0x0017_0011, "the IOAPIC's version is {:#x}", word(&vm, 8)?);
    let entry = DESTINATION << 32 | 0x20;
    ensure!(word(&vm, 16)? == entry, "the entry is {:#x}, {entry:#x} was written", word(&vm, 16)?);
    // Another VM goes on from here first, with the routes of a state alone.
    let state = vm.save(kvm)?;
    let mut second = tiny::of_id(kvm, guests::ioapic(), ID, means)?;
    copy_ram(&vm, &second)?;
    second.restore(&state)?;
    three_and_none(&mut second)?;
    three_and_none(&mut vm)?;
    let mut other = tiny::bare(kvm, 1, means)?;
    ensure!(other.restore(&state).is_err(), "a machine with KVM's own IOAPIC takes the state of one without");
    ensure!(second.restore(&other.save(kvm)?).is_err(), "and the other way round");
    Ok(format!("three interrupts at id {ID}, none while masked; a second VM alike"))
}

/// From the first ring on.
fn three_and_none(vm: &mut Vm) -> Result<(), Failure> {
    rings(vm, 2)?;
    ensure!(word(vm, 0)? == 3, "{} interrupts of 3", word(vm, 0)?);
    ensure!(vm.console() == b"xxxy", "the console has {:?}", String::from_utf8_lossy(&vm.console()));
    ends(vm, GuestEnd::PoweredOff)?;
    Ok(())
}
