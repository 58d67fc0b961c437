//! A whole machine from its spec, with a guest that enters as a kernel does.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use guest_init::message::{ToGuest, ToHost};
use ktstr_replay::trace::record::GuestEnd;
use ktstr_replay::units::Cpu;
use kvm_ioctls::Kvm;

use super::check::{Checked, Failure, PATIENCE, ensure, word_at};
use crate::channel::{GuestState, HostChannel, Received};
use crate::machine::interface::{AttemptError, Backend, Machine, MachineEvent, WatchId};
use crate::machine::kvm::backend::KvmBackend;
use crate::machine::kvm::boot::ApicIds;
use crate::machine::kvm::machine::KvmMachine;
use crate::machine::kvm::means::Means;
use crate::machine::kvm::{guests, tiny_kernel};
use crate::machine::limits::HostLimits;
use crate::machine::ram::ChannelRam;
use crate::spec::{BackendSpec, MachineSpec, Topology};

/// Two LLCs of three cores each, of which an APIC id is left out.
const TOPOLOGY: Topology = Topology { numa_nodes: 1, llcs: 2, cores_per_llc: 3, threads_per_core: 1 };
/// Pages that the guest uses besides those that are counted: page tables, GDT, what it found out.
const OWN: std::ops::RangeInclusive<u64> = 0..=0x30;

/// A machine that stands before its first instruction.
fn booted(spec: &MachineSpec) -> Result<KvmMachine, Failure> {
    let BackendSpec::Kvm(kvm) = &spec.backend else {
        return Err(Failure::from("another backend".to_owned()));
    };
    let backend = KvmBackend { spec, kvm };
    backend.check(&HostLimits::measure()).map_err(|error| Failure::from(error.to_string()))?;
    backend.boot(b"no initramfs", None).map_err(|error| match error {
        AttemptError::Host(error) => Failure::from(error.to_string()),
        AttemptError::Machine(error) => error.into(),
        AttemptError::Template(damage) => Failure::from(damage.to_string()),
    })
}

pub(super) fn word(machine: &dyn Machine, at: u64) -> Result<u64, Failure> {
    word_at(&machine.ram(), at)
}

/// Let the guest go on until it says that it waits for a job.
fn until_ready(machine: &mut KvmMachine, channel: &HostChannel<ChannelRam>) -> Result<(), Failure> {
    let begun = Instant::now();
    machine.resume()?;
    while channel.state() != GuestState::Ready {
        if let Some(event) = machine.wait_event(Duration::from_millis(1)) {
            return Err(
                format!("before it was ready: {event:?}; console {:?}", machine.console_text()).into()
            );
        }
        let started = word(machine, tiny_kernel::FOUND + tiny_kernel::STARTED)?;
        ensure!(begun.elapsed() < PATIENCE, "not ready in {PATIENCE:?}; {started} other vCPUs came up");
    }
    Ok(())
}

/// Let the guest go on to its next ring; the capture that it asked for before.
pub(super) fn next_capture(
    machine: &mut dyn Machine,
    channel: &mut HostChannel<ChannelRam>,
) -> Result<(u64, String), Failure> {
    machine.resume()?;
    let rang = machine.wait_event(PATIENCE);
    ensure!(rang == Some(MachineEvent::Watch { id: WatchId::DOORBELL, vcpu: Cpu(0) }), "{rang:?}");
    match &channel.poll()[..] {
        [Received::Frame { message: ToHost::Capture { id, tag, .. }, .. }] => Ok((*id, tag.clone())),
        other => Err(format!("expected a request of a capture, found {other:?}").into()),
    }
}

pub(super) fn whole(_: &Kvm, _: Means) -> Checked {
    let folder = tempfile::tempdir()?;
    let spec = tiny_kernel::machine(folder.path(), TOPOLOGY)?;
    let mut machine = booted(&spec)?;
    let memory = ChannelRam::new(machine.ram(), spec.channel_base())?;
    let mut channel = HostChannel::new(memory);
    until_ready(&mut machine, &channel)?;

    let found = tiny_kernel::FOUND;
    let (magic, cmdline) = (word(&machine, found)? as u32, word(&machine, found + 8)?);
    ensure!(&magic.to_le_bytes() == b"HdrS", "the setup header begins with {magic:#x}");
    let begins = cmdline.to_le_bytes();
    ensure!(spec.cmdline().as_bytes().starts_with(&begins), "the command line begins with {begins:?}");
    let started = word(&machine, found + tiny_kernel::STARTED)?;
    let mut ids = (0..started)
        .map(|n| word(&machine, found + tiny_kernel::IDS + n * 8))
        .collect::<Result<Vec<_>, _>>()?;
    ids.sort_unstable();
    let declared = ApicIds::new(TOPOLOGY).map_err(|error| Failure::from(error.to_string()))?;
    let expected: Vec<u64> = declared.ids().skip(1).map(u64::from).collect();
    ensure!(ids == expected, "vCPUs with APIC ids {ids:?} came up, expected {expected:?}");
    ensure!(machine.console_text() == tiny_kernel::SAYS, "console {:?}", machine.console_text());

    channel
        .send(&ToGuest::Captured { sample: 0 }, Instant::now())
        .map_err(|error| Failure::from(error.to_string()))?;
    let mut looked_at = 0;
    for (id, tag) in (1..).zip(tiny_kernel::TAGS) {
        let asked = next_capture(&mut machine, &mut channel)?;
        ensure!(asked == (id, tag.to_owned()), "{asked:?}, expected {id} and {tag}");
        let written = machine.written().unwrap_or_default();
        if id == 2 {
            looked_at = exact(&spec, written.into_iter().flatten().collect())?;
        }
        channel.ack_capture(id);
    }
    machine.resume()?;
    let ended = machine.wait_event(PATIENCE);
    let powered_off = matches!(&ended, Some(MachineEvent::Ended { end: GuestEnd::PoweredOff, .. }));
    ensure!(powered_off, "{ended:?}");
    Ok(format!(
        "{started} other vCPUs by INIT and SIPI with the declared APIC ids; two rings; {looked_at} pages to look at for {} that \
         were written",
        tiny_kernel::PAGES
    ))
}

/// The pages that were written between the captures, and no others of the guest's own RAM; how many in all.
fn exact(spec: &MachineSpec, written: BTreeSet<u64>) -> Result<usize, Failure> {
    let base = spec.channel_base().0;
    let channel = base / 4096..(base + guest_init::layout::CHANNEL_BYTES as u64) / 4096;
    let others: BTreeSet<u64> =
        written.iter().copied().filter(|gfn| !channel.contains(gfn) && !OWN.contains(gfn)).collect();
    let page = |n: u64| (tiny_kernel::WRITTEN + n * tiny_kernel::STRIDE) / 4096;
    let expected: BTreeSet<u64> = (0..tiny_kernel::PAGES).map(page).collect();
    ensure!(others == expected, "pages {others:x?} were written, expected {expected:x?}");
    Ok(written.len())
}

/// From nothing to a guest that waits for its job.
pub(super) fn boots(_: &Kvm, _: Means) -> Checked {
    let folder = tempfile::tempdir()?;
    let one = Topology { numa_nodes: 1, llcs: 1, cores_per_llc: 1, threads_per_core: 1 };
    let spec = tiny_kernel::machine(folder.path(), one)?;
    let (mut made, mut ready) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let begun = Instant::now();
        let mut machine = booted(&spec)?;
        made.push(begun.elapsed());
        let channel = HostChannel::new(ChannelRam::new(machine.ram(), spec.channel_base())?);
        until_ready(&mut machine, &channel)?;
        ready.push(begun.elapsed());
    }
    made.sort_unstable();
    ready.sort_unstable();
    Ok(format!(
        "p50 {:.1?} to a machine before its first instruction, {:.1?} to one that waits for its job ({} bytes of code)",
        made[made.len() / 2],
        ready[ready.len() / 2],
        guests::kernel().len()
    ))
}
