//! Stopping, looking at registers, watching.

use std::time::Duration;

use ktstr_replay::trace::record::GuestEnd;
use ktstr_replay::units::Cpu;
use kvm_bindings::kvm_regs;
use kvm_ioctls::Kvm;

use super::check::{Checked, Failure, ends, ensure, next, rings, word};
use crate::machine::interface::{Watch, WatchId};
use crate::machine::kvm::error::refused;
use crate::machine::kvm::guests;
use crate::machine::kvm::means::Means;
use crate::machine::kvm::tiny;
use crate::machine::kvm::vm::{Vm, VmEvent};

const WATCH: WatchId = WatchId(7);
/// How often vCPUs are stopped.
const PAUSES: u32 = 200;

pub(super) fn registers(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = tiny::vm(kvm, guests::registers(), 1, means)?;
    rings(&mut vm, 7)?;
    let found = vm.registers()?;
    ensure!(found.len() == 1, "{} vCPUs", found.len());
    let regs = &found[0];
    // All but rdx, which has the port, and rsp are what the guest put there, digit by digit.
    let same = |digit: u64| digit * 0x1111_1111_1111_1111;
    let mut expected: [u64; 16] = std::array::from_fn(|number| same(number as u64));
    expected[..8].copy_from_slice(&[7, same(1), same(2), 0x5f0, same(4), same(5), same(6), regs.gpr[7]]);
    ensure!(regs.gpr == expected, "general registers {:x?}, expected {expected:x?}", regs.gpr);
    let bases = (regs.fs_base, regs.gs_base, regs.kernel_gs_base);
    ensure!(bases == (0x7000, 0x8000, 0xffff_8880_1234_5000), "bases {bases:x?}");
    ensure!(regs.segments == [0x08, 0x10, 0x10, 0x10, 0x10, 0x10], "segments {:x?}", regs.segments);
    let control = (regs.cr0, regs.cr3, regs.efer & 0x500);
    ensure!(control == (0x8005_0033, 0x1000, 0x500), "control registers {control:x?}");
    // The access is complete: the vCPU is past the instruction, among the padding behind it.
    let padding = guests::CODE + 128..=guests::CODE + 256;
    ensure!(padding.contains(&regs.rip), "RIP {:#x}", regs.rip);
    ends(&mut vm, GuestEnd::PoweredOff)?;
    Ok("general, segments, bases, control, MSR".into())
}

pub(super) fn pauses(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = tiny::vm(kvm, guests::spin(), 2, means)?;
    let counts = |vm: &Vm| Ok::<_, Failure>([word(vm, 0)?, word(vm, 0x1000)?]);
    for round in 0..PAUSES {
        vm.resume()?;
        vm.pause()?;
        let stopped = counts(&vm)?;
        let registers = vm.registers()?;
        ensure!(registers.len() == 2, "{} vCPUs", registers.len());
        for regs in &registers {
            let code = guests::CODE..guests::CODE + guests::spin().len() as u64;
            ensure!(code.contains(&regs.rip), "vCPU {} is at {:#x}", regs.cpu.0, regs.rip);
        }
        ensure!(counts(&vm)? == stopped, "a stopped vCPU counts on, round {round}");
    }
    // How far they come between two stops is the host's business; that they do come on is not.
    let before = counts(&vm)?;
    let mut after = before;
    for _ in 0..1000 {
        vm.resume()?;
        ensure!(vm.wait(Duration::from_millis(5))?.is_none(), "something happened");
        vm.pause()?;
        after = counts(&vm)?;
        if after[0] > before[0] && after[1] > before[1] {
            return Ok(format!("{PAUSES} stops, then counting from {before:?} to {after:?}"));
        }
    }
    Err(format!("the vCPUs do not count on: {before:?}, then {after:?}").into())
}

pub(super) fn crowd(kvm: &Kvm, means: Means) -> Checked {
    let host = u32::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(1);
    let vcpus = (host * 2 + 1).clamp(3, 16);
    let mut vm = tiny::vm(kvm, guests::spin(), vcpus, means)?;
    let counts =
        |vm: &Vm| (0..vcpus).map(|cpu| word(vm, u64::from(cpu) * 0x1000)).collect::<Result<Vec<_>, _>>();
    for _ in 0..1000 {
        vm.resume()?;
        ensure!(vm.wait(Duration::from_millis(5))?.is_none(), "something happened");
        vm.pause()?;
        if counts(&vm)?.iter().all(|count| *count > 0) {
            let numbers: Vec<u32> = vm.registers()?.iter().map(|regs| regs.cpu.0).collect();
            ensure!(numbers == (0..vcpus).collect::<Vec<_>>(), "vCPUs {numbers:?}");
            return Ok(format!("{vcpus} vCPUs, all of which count"));
        }
    }
    Err(format!("some of {vcpus} vCPUs do not count: {:?}", counts(&vm)?).into())
}

pub(super) fn rings_among_pauses(kvm: &Kvm, means: Means) -> Checked {
    let mut undisturbed = Vec::new();
    let mut vm = tiny::vm(kvm, guests::sequence(), 1, means)?;
    while let VmEvent::Rang { id, .. } = next(&mut vm)? {
        undisturbed.push(id);
    }
    ensure!(undisturbed.len() == 12, "{} rings of 12", undisturbed.len());
    let mut vm = tiny::vm(kvm, guests::sequence(), 1, means)?;
    let (mut rang, mut pauses) = (Vec::new(), 0u64);
    loop {
        vm.resume()?;
        // Let it get on now and then between stops that come as fast as they can.
        let mut event = if pauses % 16 == 0 { vm.wait(Duration::from_millis(1))? } else { None };
        if event.is_none() {
            vm.pause()?;
            event = vm.wait(Duration::ZERO)?;
        }
        pauses += 1;
        match event {
            None => ensure!(pauses < 1_000_000, "it does not get on: {} rings", rang.len()),
            Some(VmEvent::Rang { id, .. }) => rang.push(id),
            Some(VmEvent::Ended { end: GuestEnd::PoweredOff, .. }) => break,
            Some(other) => return Err(format!("{other:?}").into()),
        }
    }
    ensure!(rang == undisturbed, "rings {rang:x?}, expected {undisturbed:x?}");
    Ok(format!("12 rings among {pauses} stops"))
}

pub(super) fn breakpoints(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = tiny::vm(kvm, guests::breakpoint(), 1, means)?;
    if !means.instructions {
        let refused = vm.arm(WATCH, Watch::Execute { at: guests::CODE + 64 });
        ensure!(refused.is_err(), "a breakpoint that does not fire is armed");
        return Ok("this KVM has none, and says so".into());
    }
    let at = guests::CODE + 64;
    vm.arm(WATCH, Watch::Execute { at })?;
    for rax in 0..5 {
        match next(&mut vm)? {
            VmEvent::Fired { cpu: Cpu(0), id: WATCH } => {}
            other => return Err(format!("expected the breakpoint, found {other:?}").into()),
        }
        let regs = vm.registers()?;
        let stands = regs.first().map(|regs| (regs.rip, regs.gpr[0]));
        ensure!(stands == Some((at, rax)), "RIP and rax {stands:x?}, expected ({at:#x}, {rax})");
        if rax == 3 {
            vm.disarm(WATCH)?;
            break;
        }
    }
    ends(&mut vm, GuestEnd::PoweredOff)?;
    Ok("four stops before the instruction, none after it was disarmed".into())
}

pub(super) fn own_steps(kvm: &Kvm, means: Means) -> Checked {
    let steps = |watch: Option<Watch>| {
        let mut vm = tiny::vm(kvm, guests::steps(), 1, means)?;
        if let Some(watch) = watch {
            vm.arm(WATCH, watch)?;
        }
        ends(&mut vm, GuestEnd::PoweredOff)?;
        word(&vm, 0)
    };
    let alone = steps(None)?;
    if !means.instructions {
        return Ok(format!("{alone} of 6 debug exceptions; this KVM has no breakpoints"));
    }
    // At an instruction that is not executed.
    let beside = steps(Some(Watch::Execute { at: guests::CODE + 300 }))?;
    ensure!(beside == alone, "{beside} debug exceptions beside a breakpoint, {alone} without");
    Ok(format!("{alone} of 6 debug exceptions, with a breakpoint and without"))
}

pub(super) fn watches_by_pages(kvm: &Kvm, means: Means) -> Checked {
    watches(kvm, Means { stores: false, ..means })
}

pub(super) fn watches(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = tiny::vm(kvm, guests::watch(), 1, means)?;
    vm.arm(WATCH, Watch::Write { at: guests::DATA, bytes: 8 })?;
    for value in 1..=5 {
        match next(&mut vm)? {
            VmEvent::Fired { cpu: Cpu(0), id: WATCH } => {}
            other => return Err(format!("expected store {value}, found {other:?}").into()),
        }
        // After the store, before the one that follows.
        let found = (word(&vm, 0)?, word(&vm, 64)?);
        ensure!(found == (value, value - 1), "memory has {found:?} at store {value}");
    }
    ends(&mut vm, GuestEnd::PoweredOff)?;
    ensure!(word(&vm, 64)? == 5, "what is beside the watch was lost: {}", word(&vm, 64)?);
    let page = guests::DATA / 4096;
    ensure!(vm.dirty()?.contains(&page), "the watched page is not among those that were written");

    // Another range of the same page, and none after it was disarmed.
    let mut vm = tiny::vm(kvm, guests::watch(), 1, means)?;
    vm.arm(WATCH, Watch::Write { at: guests::DATA + 128, bytes: 8 })?;
    vm.arm(WatchId(8), Watch::Write { at: guests::DATA + 64, bytes: 8 })?;
    match next(&mut vm)? {
        VmEvent::Fired { id: WatchId(8), .. } => {}
        other => return Err(format!("expected the second watch, found {other:?}").into()),
    }
    vm.disarm(WatchId(8))?;
    ends(&mut vm, GuestEnd::PoweredOff)?;
    ensure!((word(&vm, 0)?, word(&vm, 64)?) == (5, 5), "stores were lost");

    // A store by a vCPU whose registers we set: the address is that of its own page.
    let mut vm = tiny::vm(kvm, guests::watch(), 1, means)?;
    vm.ask_all(|vcpu| {
        let regs = kvm_regs { rdi: guests::DATA + 0x2000, ..guests::regs(0) };
        vcpu.fd().set_regs(&regs).map_err(refused("set a vCPU's registers"))
    })?;
    vm.arm(WATCH, Watch::Write { at: guests::DATA, bytes: 8 })?;
    ends(&mut vm, GuestEnd::PoweredOff)?;
    Ok("five stores, each with its value; none of those beside it".into())
}
