//! Dirty pages, and the state of a VM.

use std::collections::BTreeSet;

use ktstr_replay::memory::Memory;
use ktstr_replay::trace::record::GuestEnd;
use ktstr_replay::units::GuestPhys;
use kvm_bindings::{kvm_msr_entry, kvm_regs};
use kvm_ioctls::Kvm;

use super::check::{Checked, Failure, ends, ensure, next, rings, word};
use crate::machine::interface::{Watch, WatchId};
use crate::machine::kvm::boot::MTRR_DEF_TYPE;
use crate::machine::kvm::error::refused;
use crate::machine::kvm::guests;
use crate::machine::kvm::means::Means;
use crate::machine::kvm::state::{read_msrs, write_msrs};
use crate::machine::kvm::tiny;
use crate::machine::kvm::vm::{Vm, VmEvent};

/// Pages that the guest writes in each of two rounds, and from each to the next.
const WRITTEN: u64 = 100;
const STRIDE_PAGES: u64 = 3;

pub(super) fn dirty(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = tiny::vm(kvm, guests::dirty(), 1, means)?;
    let first = 1024;
    vm.ask_all(move |vcpu| {
        let regs = kvm_regs { rdi: first * 4096, rsi: STRIDE_PAGES * 4096, rcx: WRITTEN, ..guests::regs(0) };
        vcpu.fd().set_regs(&regs).map_err(refused("set a vCPU's registers"))
    })?;
    // What the host wrote to load it.
    vm.dirty()?;
    let written = |round: u64| -> BTreeSet<u64> {
        (0..WRITTEN).map(|n| first + (round * WRITTEN + n) * STRIDE_PAGES).collect()
    };
    let mut tables = 0;
    // The page tables' own bits are the CPU's business.
    let mut exact = |vm: &mut Vm, round: u64| -> Result<(), Failure> {
        let all = vm.dirty()?;
        let (table, pages): (BTreeSet<u64>, BTreeSet<u64>) =
            all.into_iter().partition(|page| guests::TABLE_PAGES.contains(page));
        tables += table.len();
        let expected = written(round);
        let (missing, more) = (&expected - &pages, &pages - &expected);
        ensure!(
            missing.is_empty() && more.is_empty(),
            "round {round}: {} pages missing, {} too many: {missing:?} {more:?}",
            missing.len(),
            more.len()
        );
        Ok(())
    };
    rings(&mut vm, 2)?;
    exact(&mut vm, 0)?;
    ensure!(vm.dirty()?.is_empty(), "pages are in the log again with no vCPU running");
    // The log survives that memory is laid out anew.
    let beside = Watch::Write { at: guests::DATA, bytes: 8 };
    vm.means.stores = false;
    rings(&mut vm, 1)?;
    vm.arm(WatchId(1), beside)?;
    exact(&mut vm, 1)?;
    ends(&mut vm, GuestEnd::PoweredOff)?;
    Ok(format!("twice {WRITTEN} pages, none missing and none too many ({tables} of page tables)"))
}

pub(super) fn snapshot(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = at_fifth_ring(kvm, means)?;
    // What is in no list of KVM's, and has another value after a reset.
    let (index, data) = MTRR_DEF_TYPE;
    vm.ask_all(move |vcpu| {
        write_msrs(vcpu.fd(), &[kvm_msr_entry { index, data, ..kvm_msr_entry::default() }])
    })?;
    let state = vm.save(kvm)?;
    let mut second = tiny::bare(kvm, 1, means)?;
    copy_ram(&vm, &second)?;
    second.restore(&state)?;
    ensure!(
        second.registers()? == vm.registers()?,
        "registers {:x?}, expected {:x?}",
        second.registers()?,
        vm.registers()?
    );
    let found = second.ask_all(move |vcpu| read_msrs(vcpu.fd(), &[index]))?.concat();
    ensure!(found.iter().map(|entry| entry.data).eq([data]), "the MTRRs' default type is {found:x?}");
    // The copy first: the original cannot lead it.
    let (copy, original) = (rest(&mut second)?, rest(&mut vm)?);
    ensure!(original.len() == 7, "{} rings of 7", original.len());
    ensure!(copy == original, "the copy rang {copy:x?}, the original {original:x?}");
    for offset in [0, 64, 72, 128] {
        ensure!(word(&second, offset)? == word(&vm, offset)?, "memory differs at {offset}");
    }
    Ok(format!("{} bytes of state; seven rings alike", state.len()))
}

/// A VM that has rung five times of twelve, each ring made of all that it has computed so far.
pub(super) fn at_fifth_ring(kvm: &Kvm, means: Means) -> Result<Vm, Failure> {
    let mut vm = tiny::vm(kvm, guests::sequence(), 1, means)?;
    vm.shared.ram.write(GuestPhys(guests::DATA), b"sixteen bytes of")?;
    for _ in 0..5 {
        match next(&mut vm)? {
            VmEvent::Rang { .. } => {}
            other => return Err(format!("expected a ring, found {other:?}").into()),
        }
    }
    Ok(vm)
}

/// The rings until the guest powers off.
pub(super) fn rest(vm: &mut Vm) -> Result<Vec<u32>, Failure> {
    let mut rang = Vec::new();
    loop {
        match next(vm)? {
            VmEvent::Rang { id, .. } => rang.push(id),
            VmEvent::Ended { end: GuestEnd::PoweredOff, .. } => return Ok(rang),
            other => return Err(format!("{other:?}").into()),
        }
    }
}

pub(super) fn hostile(kvm: &Kvm, means: Means) -> Checked {
    let vm = tiny::vm(kvm, guests::sequence(), 2, means)?;
    let state = vm.save(kvm)?;
    let text = String::from_utf8_lossy(&state).into_owned();
    let mut other = tiny::bare(kvm, 1, means)?;
    let other_version = text.replacen("\"version\":3", "\"version\":4", 1);
    for (what, bytes) in [
        ("nothing", &b""[..]),
        ("half of a state", &state[..state.len() / 2]),
        ("another version", other_version.as_bytes()),
        ("a state of two vCPUs", &state),
    ] {
        ensure!(other.restore(bytes).is_err(), "{what} is restored");
    }
    let mut same = tiny::bare(kvm, 2, means)?;
    same.restore(&state)?;
    Ok("four refused, the right one taken".into())
}

/// Copy all of the first VM's memory to the second.
pub(super) fn copy_ram(from: &Vm, to: &Vm) -> Result<(), Failure> {
    for range in from.shared.ram.populated() {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        from.shared.ram.read(GuestPhys(range.start), &mut bytes)?;
        to.shared.ram.write(GuestPhys(range.start), &bytes)?;
    }
    Ok(())
}
