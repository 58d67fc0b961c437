//! What a guest sees of a stop, by its paravirtual clock and by its timer's ticks.

use std::thread;
use std::time::{Duration, Instant};

use ktstr_replay::memory::Memory;
use ktstr_replay::units::GuestPhys;
use kvm_bindings::kvm_msr_entry;
use kvm_ioctls::Kvm;

use super::check::{Checked, Failure, PATIENCE, ensure, word};
use super::state::copy_ram;
use crate::machine::kvm::error::refused;
use crate::machine::kvm::guests;
use crate::machine::kvm::means::Means;
use crate::machine::kvm::state::write_msrs;
use crate::machine::kvm::tiny;
use crate::machine::kvm::vm::Vm;

/// Tells KVM where the guest has its clock (`Documentation/virt/kvm/x86/msr.rst` of Linux); bit 0 switches it on.
const SYSTEM_TIME: u32 = 0x4b56_4d01;
/// Where the guest has it: `pvclock_vcpu_time_info`, with its version first.
const CLOCK: u64 = guests::DATA + 0x8000;
const FLAGS: usize = 29;
/// `PVCLOCK_GUEST_STOPPED`: the kernel then has its watchdogs begin anew.
const STOPPED: u8 = 1 << 1;
/// Far longer than the guest needs to go on.
const STOP: Duration = Duration::from_millis(300);
const STOPS: u32 = 3;

/// Let the guest run for this long, in which nothing happens that it would be stopped for.
fn still_runs(vm: &mut Vm, time: Duration) -> Result<(), Failure> {
    match vm.wait(time)? {
        None => Ok(()),
        Some(event) => Err(format!("{event:?}").into()),
    }
}

/// Let the guest go on until it has come further.
fn runs_on(vm: &mut Vm) -> Result<(), Failure> {
    let (before, begun) = (word(vm, 0)?, Instant::now());
    vm.resume()?;
    while word(vm, 0)? == before {
        ensure!(begun.elapsed() < PATIENCE, "the guest does not go on");
        still_runs(vm, PERIOD)?;
    }
    Ok(vm.pause()?)
}

/// Whether the guest's clock says that it was stopped. The guest does not look, so that it stays said.
fn is_told(vm: &Vm) -> Result<bool, Failure> {
    let mut clock = [0; 32];
    vm.shared.ram.read(GuestPhys(CLOCK), &mut clock)?;
    let version = u32::from_le_bytes([clock[0], clock[1], clock[2], clock[3]]);
    ensure!(version != 0 && version.is_multiple_of(2), "KVM gave the guest no clock: {clock:x?}");
    Ok(clock[FLAGS] & STOPPED != 0)
}

fn clock_ns(vm: &Vm) -> Result<u64, Failure> {
    vm.stopped
        .as_ref()
        .map(|stopped| stopped.clock_ns)
        .ok_or_else(|| Failure::from("no clock of a stopped machine".to_owned()))
}

pub(super) fn unseen_stop(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = tiny::vm(kvm, guests::spin(), 1, means)?;
    vm.ask_all(|vcpu| {
        let entry = kvm_msr_entry { index: SYSTEM_TIME, data: CLOCK | 1, ..kvm_msr_entry::default() };
        write_msrs(vcpu.fd(), &[entry])
    })?;
    runs_on(&mut vm)?;
    let mut seen_ns = Vec::new();
    for _ in 0..STOPS {
        let stopped_at = clock_ns(&vm)?;
        thread::sleep(STOP);
        let begun = Instant::now();
        runs_on(&mut vm)?;
        let (went_on, ran) = (clock_ns(&vm)?.saturating_sub(stopped_at), begun.elapsed());
        // However busy the host is: it cannot have run for longer than it was let. The two clocks differ in their rates by 500 ppm
        // at most, as far as the host's is slewed.
        ensure!(
            Duration::from_nanos(went_on) <= ran + ran / 1000,
            "the guest's clock went on by {went_on} ns while it ran for {ran:?} at most"
        );
        seen_ns.push(went_on);
    }
    ensure!(!is_told(&vm)?, "the guest is told of the stop");
    // What it would see if it were: so that the above is known to look at the right place.
    vm.ask_all(|vcpu| vcpu.fd().kvmclock_ctrl().map_err(refused("tell a guest of a stop")))?;
    runs_on(&mut vm)?;
    ensure!(is_told(&vm)?, "a guest that is told of a stop does not see it");
    Ok(format!(
        "{STOPS} stops of {STOP:?}, between which its clock went on by {seen_ns:?} ns; it is told of none"
    ))
}

/// Ticks of the guest's timer that are awaited, of [`PERIOD`] each, after a stop in which more than these came due.
const TICKS: u64 = 100;
const PERIOD: Duration = Duration::from_millis(1);
/// Ticks that are awaited among stops that are longer than their period.
const FEW: u64 = 5;

/// How long [`TICKS`] take once the guest, which is stopped, goes on.
fn ticks_take(vm: &mut Vm) -> Result<Duration, Failure> {
    let (before, begun) = (word(vm, 0)?, Instant::now());
    vm.resume()?;
    while word(vm, 0)? < before + TICKS {
        ensure!(begun.elapsed() < PATIENCE, "{} of {TICKS} ticks", word(vm, 0)? - before);
        still_runs(vm, PERIOD)?;
    }
    let took = begun.elapsed();
    vm.pause()?;
    Ok(took)
}

/// The PIT's: those of the local APIC do not add up in KVM.
pub(super) fn unseen_ticks(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = tiny::vm(kvm, guests::pit(), 1, means)?;
    runs_on(&mut vm)?;
    thread::sleep(STOP);
    let took = ticks_take(&mut vm)?;
    // A guest that never runs for as long as the period has its ticks, too.
    let (before, begun) = (word(&vm, 0)?, Instant::now());
    while word(&vm, 0)? < before + FEW {
        ensure!(begun.elapsed() < PATIENCE, "{} ticks of {FEW} among stops", word(&vm, 0)? - before);
        thread::sleep(2 * PERIOD);
        vm.resume()?;
        still_runs(&mut vm, PERIOD / 5)?;
        vm.pause()?;
    }
    // One that was restored has not gone on yet, either.
    let mut second = tiny::bare(kvm, 1, means)?;
    copy_ram(&vm, &second)?;
    second.restore(&vm.save(kvm)?)?;
    thread::sleep(STOP);
    let restored = ticks_take(&mut second)?;
    // A busy host only ever makes them take longer. Half of it is for ticks that it hands over late, several at once.
    for (what, took) in [("a stop", took), ("a restore and a wait", restored)] {
        ensure!(
            took >= PERIOD * TICKS as u32 / 2,
            "{TICKS} ticks of {PERIOD:?} came within {took:?} after {what} of {STOP:?}"
        );
    }
    Ok(format!(
        "after a stop of {STOP:?}, {TICKS} ticks of {PERIOD:?} took {took:.0?}; after a restore and a wait as long, {restored:.0?}"
    ))
}
