//! The machine as its users see it.

use std::time::Duration;

use ktstr_replay::memory::Memory;
use ktstr_replay::trace::record::GuestEnd;
use ktstr_replay::units::{Cpu, GuestPhys};
use kvm_ioctls::Kvm;

use super::check::{Checked, Failure, PATIENCE, ensure};
use crate::machine::error::MachineError;
use crate::machine::interface::{Machine, MachineEvent, Watch, WatchId};
use crate::machine::kvm::guests;
use crate::machine::kvm::machine::KvmMachine;
use crate::machine::kvm::means::Means;
use crate::machine::kvm::tiny;

/// A machine with a guest of its own.
fn machine(code: &[u8], vcpus: u32, means: Means) -> Result<Box<dyn Machine>, Failure> {
    let kvm =
        Kvm::new().map_err(|error| format!("could not open /dev/kvm: {}", std::io::Error::from(error)))?;
    let vm = tiny::vm(&kvm, code, vcpus, means)?;
    Ok(Box::new(KvmMachine::new(kvm, vm)))
}

pub(super) fn running(_: &Kvm, means: Means) -> Checked {
    let mut machine = machine(guests::spin(), 2, means)?;
    let watch = Watch::Write { at: guests::DATA, bytes: 8 };
    machine.resume()?;
    ensure!(machine.resume()? == Duration::ZERO, "a running machine goes on again");
    ensure!(machine.wait_event(Duration::from_millis(1)).is_none(), "something happened");
    machine.tend();
    ensure!(matches!(machine.registers(), Err(MachineError::Running)), "registers of a running machine");
    ensure!(
        matches!(machine.arm(WatchId(1), watch), Err(MachineError::Running)),
        "a watch for a running machine"
    );
    ensure!(matches!(machine.save(), Err(MachineError::Running)), "the state of a running machine");
    machine.pause()?;
    ensure!(machine.pause()? == Duration::ZERO, "a stopped machine stops again");
    ensure!(machine.registers()?.len() == 2, "registers of {} vCPUs", machine.registers()?.len());
    ensure!(machine.cpu_use().is_some_and(|used| used.threads.len() == 2), "{:?}", machine.cpu_use());
    ensure!(machine.arm(WatchId::DOORBELL, watch).is_err(), "the doorbell is armed again");
    machine.arm(WatchId(1), watch)?;
    ensure!(machine.arm(WatchId(1), watch).is_err(), "a watch is armed twice");
    let wide = Watch::Write { at: guests::DATA, bytes: machine.watch_support().write_bytes + 1 };
    ensure!(machine.arm(WatchId(2), wide).is_err(), "a watch that is too large is armed");
    machine.resume()?;
    let fired = machine.wait_event(PATIENCE);
    ensure!(fired == Some(MachineEvent::Watch { id: WatchId(1), vcpu: Cpu(0) }), "{fired:?}");
    machine.disarm(WatchId(1))?;
    machine.resume()?;
    machine.kill();
    let ended = machine.wait_event(Duration::ZERO);
    let killed = matches!(&ended, Some(MachineEvent::Ended { end: GuestEnd::MachineDied, .. }));
    ensure!(killed && machine.wait_event(Duration::ZERO) == ended, "{ended:?}");
    ensure!(matches!(machine.resume(), Err(MachineError::Ended)), "a killed machine goes on");
    let mut count = [0; 8];
    machine.ram().read(GuestPhys(guests::DATA), &mut count)?;
    ensure!(count != [0; 8], "its memory is gone");
    Ok("states, refusals, a watch, memory after its end".into())
}

pub(super) fn to_its_end(_: &Kvm, means: Means) -> Checked {
    let mut machine = machine(guests::ports(), 1, means)?;
    for _ in 0..2 {
        machine.resume()?;
        let rang = machine.wait_event(PATIENCE);
        ensure!(rang == Some(MachineEvent::Watch { id: WatchId::DOORBELL, vcpu: Cpu(0) }), "{rang:?}");
    }
    ensure!(machine.console() == b"ok\n" && machine.console().is_empty(), "{:?}", machine.console_text());
    ensure!(!machine.save()?.is_empty(), "its state is empty");
    machine.resume()?;
    let ended = machine.wait_event(PATIENCE);
    let powered_off = matches!(&ended, Some(MachineEvent::Ended { end: GuestEnd::PoweredOff, .. }));
    ensure!(powered_off && machine.wait_event(PATIENCE) == ended, "{ended:?}");
    ensure!(matches!(machine.resume(), Err(MachineError::Ended)), "a guest that has ended goes on");
    ensure!(machine.registers()?.len() == 1, "no registers after the end");
    ensure!(machine.stale_breakpoints().is_empty(), "a CPU executes stale breakpoints");
    machine.kill();
    ensure!(machine.console_text() == "ok\n", "the console is gone: {:?}", machine.console_text());
    Ok("rings, console, state, power-off".into())
}
