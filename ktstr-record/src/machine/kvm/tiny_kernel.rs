//! A kernel of some hundred instructions, which does with the machine and the host what a real one with init does: it starts the
//! other vCPUs, waits for its job, speaks through the channel, rings the doorbell and powers off. A KVM that emulates runs
//! it, too.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io, iter};

use guest_init::layout::{PROTOCOL_VERSION, STATE_BUSY, STATE_DONE, STATE_READY, TO_HOST_BYTES};
use guest_init::message::{CaptureReason, Source, ToHost};
use guest_init::ring::{Ring, Writer};
use rkyv::rancor;

use super::guests;
use crate::spec::{BackendSpec, Kernel, KvmBoots, KvmSpec, MachineSpec, Topology};

/// Where it lies and is entered.
const AT: u64 = 16 << 20;
/// Where it is told what to do, and where its frames are, from its begin.
const TOLD: usize = 2048;
const FRAMES: usize = 4096;
/// What it finds out: the magic of the setup header, eight bytes of the command line, other vCPUs that came up, and how
/// many have a number; their APIC ids from `IDS` on.
pub(crate) const FOUND: u64 = 0x3_0000;
/// Offset in [`FOUND`] of how many other vCPUs came up.
pub(crate) const STARTED: u64 = 16;
/// Offset in [`FOUND`] of their APIC ids.
pub(crate) const IDS: u64 = 64;
/// The pages that it writes between its two captures: the first, and how many bytes from each to the next. The nth holds
/// their number less n.
pub(crate) const WRITTEN: u64 = 0x200_0000;
/// See [`WRITTEN`].
pub(crate) const STRIDE: u64 = 0x3000;
/// How many.
pub(crate) const PAGES: u64 = 40;
/// What it says on the console.
pub(crate) const SAYS: &str = "a tiny guest\n";
/// The tags of its two captures.
pub(crate) const TAGS: [&str; 2] = ["before", "after"];
/// What it says in the channel at its end.
pub(crate) const LAST_WORDS: &[u8] = b"done\n";

/// A machine of these CPUs that boots it from a file in `folder`.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn machine(folder: &Path, topology: Topology) -> io::Result<MachineSpec> {
    let path = folder.join("tiny-kernel");
    let spec = MachineSpec {
        backend: BackendSpec::Kvm(KvmSpec { boots: KvmBoots::Tiny, templates: false }),
        kernel: Kernel {
            asked: "tiny".into(),
            release: "tiny".into(),
            vmlinux: path.clone(),
            bzimage: None,
            id: "tiny".into(),
            has_sched_ext: false,
        },
        topology,
        memory_mib: 256,
        kaslr: false,
        kargs: Vec::new(),
        performance: false,
    };
    fs::write(path, elf(&spec))?;
    Ok(spec)
}

/// It, as an ELF for the machine of `spec`.
fn elf(spec: &MachineSpec) -> Vec<u8> {
    let (frames, ends) = frames();
    let version = |state: u32| u64::from(PROTOCOL_VERSION) | u64::from(state) << 32;
    let mut told = vec![
        spec.channel_base().0,
        version(STATE_READY),
        version(STATE_BUSY),
        version(STATE_DONE),
        u64::from(spec.topology.cpus()) - 1,
    ];
    let mut before = 0;
    for end in ends {
        told.extend([(end - before) / 8, end]);
        before = end;
    }
    let mut image = guests::kernel().to_vec();
    image.resize(TOLD, 0);
    image.extend(told.iter().flat_map(|word| word.to_le_bytes()));
    image.resize(FRAMES, 0);
    image.extend(frames);
    wrapped(&image)
}

/// What it hands over at three times, as it is in the ring, and where the ring's head is after each.
fn frames() -> (Vec<u8>, [u64; 3]) {
    let capture = |id: u64| ToHost::Capture {
        id,
        tag: TAGS[(id - 1) as usize].to_owned(),
        reason: CaptureReason::OnDemand,
    };
    let last = ToHost::Output { source: Source::Init, stderr: false, bytes: LAST_WORDS.to_vec() };
    let words: Vec<AtomicU64> = iter::repeat_with(AtomicU64::default).take(TO_HOST_BYTES / 8).collect();
    let (head, tail) = (AtomicU64::new(0), AtomicU64::new(0));
    let (ring, mut writer) = (Ring::new(&head, &tail, &words), Writer::default());
    let ends = [capture(1), capture(2), last].map(|message| {
        if let Ok(payload) = rkyv::to_bytes::<rancor::Error>(&message) {
            // The ring is empty and has room for thousands.
            let _ = writer.push(&ring, 1_000_000, &payload, 0);
        }
        head.load(Ordering::Relaxed)
    });
    let used = words.iter().take(ends[2] as usize / 8);
    (used.flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect(), ends)
}

/// `image` as an ELF with one segment, entered at its first byte. Source: the ELF specification, version 1.2, and
/// `elf.h` for the numbers.
fn wrapped(image: &[u8]) -> Vec<u8> {
    const HEADERS: u64 = 64 + 56;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // An executable for x86-64.
    for half in [2_u16, 62] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1_u32.to_le_bytes());
    // Entry, program headers, section headers.
    for word in [AT, 64, 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    // A segment that is loaded, readable, writable and executable.
    for word in [1_u32, 7] {
        elf.extend(word.to_le_bytes());
    }
    let bytes = image.len() as u64;
    for word in [HEADERS, AT, AT, bytes, bytes.next_multiple_of(4096), 8] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(image);
    elf
}
