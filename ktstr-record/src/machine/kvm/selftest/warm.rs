//! A warm start: a machine that is saved when its guest waits for its job, and restored in the place of a boot.

use std::path::Path;
use std::time::{Duration, Instant};

use guest_init::message::ToGuest;
use kvm_ioctls::Kvm;

use super::backend::{next_capture, word};
use super::check::{Checked, Failure, PATIENCE, ensure};
use crate::channel::HostChannel;
use crate::machine::kvm::means::Means;
use crate::machine::kvm::tiny_kernel;
use crate::machine::ram::ChannelRam;
use crate::machine::{Machine, MachineEvent, Start, StartKind, StartPolicy, Started, start_for};
use crate::spec::{BackendSpec, KvmBoots, KvmSpec, MachineSpec, Topology};

/// Two vCPUs, of which the second was started by the first before it was saved.
const TWO: Topology = Topology { numa_nodes: 1, llcs: 1, cores_per_llc: 2, threads_per_core: 1 };

/// The machine, in `folder`, which may be saved there.
pub(super) fn spec(folder: &Path) -> Result<MachineSpec, Failure> {
    let mut spec = tiny_kernel::machine(folder, TWO)?;
    spec.backend = BackendSpec::Kvm(KvmSpec { boots: KvmBoots::Tiny, templates: true });
    Ok(spec)
}

/// It, up to where it waits for its job.
pub(super) fn start(spec: &MachineSpec, folder: &Path) -> Result<(Box<dyn Machine>, Start), Failure> {
    let policy = StartPolicy { boot_timeout: PATIENCE, patience: PATIENCE, ..StartPolicy::default() };
    let started = start_for(spec, b"no init", &folder.join("cache"), policy, None);
    let Started { machine, start, .. } = started.map_err(|error| Failure::from(error.to_string()))?;
    ensure!(start.faults.is_empty(), "{:?}", start.faults);
    Ok((machine, start))
}

/// What the guest does from there to its end. What it says on the console it has said before.
pub(super) fn rest(spec: &MachineSpec, machine: &mut dyn Machine) -> Result<String, Failure> {
    let mut channel = HostChannel::new(ChannelRam::new(machine.ram(), spec.channel_base())?);
    let sent = channel.send(&ToGuest::Captured { sample: 0 }, Instant::now());
    sent.map_err(|error| Failure::from(error.to_string()))?;
    let mut did = Vec::new();
    for (id, _) in (1..).zip(tiny_kernel::TAGS) {
        did.push(format!("{:?}", next_capture(machine, &mut channel)?));
        channel.ack_capture(id);
    }
    machine.resume()?;
    let ended = machine.wait_event(PATIENCE);
    ensure!(matches!(ended, Some(MachineEvent::Ended { .. })), "{ended:?}");
    did.push(format!("{ended:?}"));
    for page in 0..tiny_kernel::PAGES {
        did.push(word(machine, tiny_kernel::WRITTEN + page * tiny_kernel::STRIDE)?.to_string());
    }
    Ok(did.join("\n"))
}

pub(super) fn start_from_a_template(_: &Kvm, _: Means) -> Checked {
    let folder = tempfile::tempdir()?;
    let spec = spec(folder.path())?;
    let mut told: Vec<Duration> = Vec::new();
    let mut run = |expected: StartKind| {
        let (mut machine, start) = start(&spec, folder.path())?;
        ensure!(start.kind == expected, "it was {:?}, expected {expected:?}", start.kind);
        told.push(start.duration);
        rest(&spec, &mut *machine)
    };
    let booted = run(StartKind::BootedAndSaved)?;
    let restored = run(StartKind::Restored)?;
    ensure!(booted == restored, "booted {booted}, restored {restored}");
    // Off unless it is asked for.
    let plain = MachineSpec {
        backend: BackendSpec::Kvm(KvmSpec { boots: KvmBoots::Tiny, ..KvmSpec::default() }),
        ..spec.clone()
    };
    let (_, cold) = start(&plain, folder.path())?;
    ensure!(cold.kind == StartKind::Booted, "without being asked for: {:?}", cold.kind);
    Ok(format!("booted and saved in {:.1?}, restored in {:.1?}; both went on alike", told[0], told[1]))
}
