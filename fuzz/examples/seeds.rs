//! Writes the committed seeds anew, from what the writer writes. See the README for the commands.

use std::fs;
use std::path::Path;

use guest_init::layout::{CHANNEL_WORDS, ChannelMemory, OFF_TO_HOST_RING};
use guest_init::message::{GuestStage, ToHost};
use guest_init::ring::Writer;
use ktstr_fuzz::{pack, unpack};
use ktstr_replay::testing::{DEMO_BTF, TraceBuilder, small, toy_kernel, write_with_memory};
use ktstr_replay::trace::{Kind, Trace, WriterOptions};
use rkyv::rancor;
use std::sync::atomic::{AtomicU64, Ordering};

struct Shared(Box<[AtomicU64; CHANNEL_WORDS]>);

impl ChannelMemory for Shared {
    fn words(&self) -> &[AtomicU64; CHANNEL_WORDS] {
        &self.0
    }
}

fn put(target: &str, name: &str, bytes: &[u8]) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&dir).expect("the folder can be made");
    fs::write(dir.join(name), bytes).expect("the seed can be written");
}

/// A trace as a file, as a packed input, and its bodies.
fn trace(name: &str, path: &Path) {
    let packed = fs::read(path).expect("the trace");
    let unpacked = unpack(&packed);
    let again = Trace::from_bytes(pack(&unpacked)).expect("a packed trace opens");
    let verified = again.verify();
    assert!(again.is_finalized() || !name.ends_with("whole"), "{verified:?}");
    put("file", &format!("{name}-as-is"), &[&[2], packed.as_slice()].concat());
    put("file", &format!("{name}-unpacked"), &[&[3], unpacked.as_slice()].concat());
    let mut seen = Vec::new();
    let mut at = 0;
    while unpacked.len() - at > 128 {
        let len = u64::from_le_bytes(std::array::from_fn(|i| unpacked[at + 64 + i])) as usize;
        let (kind, version) = (unpacked[at + 48], unpacked[at + 50]);
        if !seen.contains(&kind) && len < 16 << 10 {
            seen.push(kind);
            let body = &unpacked[at + 128..at + 128 + len];
            put("record", &format!("{name}-{kind:02}"), &[&[kind, version], body].concat());
        }
        at += 128 + len;
    }
}

fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("small");
    drop(small::write_small(&path, WriterOptions::default()));
    trace("small-cut", &path);
    let path = dir.path().join("small2");
    small::write_small(&path, WriterOptions::default()).finish().expect("finished");
    trace("small-whole", &path);
    let path = dir.path().join("run");
    let claims = ["nondecreasing(nr_dispatched)", "rate(nr_enqueued) >= 1/s", "final(stats.nr[2] == 3)"];
    let mut run = TraceBuilder::begun().periodic(&[10, 20, 30]).ended();
    for claim in claims {
        put("claim", &claim.replace(|c: char| !c.is_ascii_alphanumeric(), "-"), claim.as_bytes());
        run = run.claim(claim);
    }
    run.write(&path);
    trace("run-whole", &path);
    let path = dir.path().join("kernel");
    write_with_memory(&toy_kernel(0).0, &path);
    trace("kernel-whole", &path);
    for kind in Kind::ALL {
        let name = format!("run-whole-{:02}", kind.code());
        let alike = ["small-whole", "kernel-whole"].map(|from| format!("{from}-{:02}", kind.code()));
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/record");
        let there = alike.iter().chain([&name]).any(|name| seeds.join(name).exists());
        assert!(
            there,
            "no seed for {kind} records: write one in write_small of ktstr-replay/src/testing/small.rs"
        );
    }

    for claim in [
        "always(tasks[*].runtime_ns <= 5ms)",
        "each(cpu_ctx[0].nr, > 3 within 20%)",
        "steady(x, 15%)",
        "eventually(scx.state == \"enabled\")",
        "ratio(a / b, 0.5..2)",
        "converges(x, 10%, 2s)",
        "strictly_increasing(x)",
    ] {
        put("claim", &claim.replace(|c: char| !c.is_ascii_alphanumeric(), "-"), claim.as_bytes());
    }
    let dump = include_str!("../../ktstr-replay/src/pasted/dumps/stall.txt");
    put("pasted", "stall", dump.as_bytes());
    let journal = |line: &str| format!("Nov 26 12:00:00 host scx_demo[123]: {line}\n");
    let reversed: String = dump.lines().rev().map(journal).collect();
    put("pasted", "reversed-journal", reversed.as_bytes());
    put(
        "pasted",
        "messages",
        b"[   12.345678] sched_ext: BPF scheduler \"demo\" disabled (runnable task stall)\n[   12.345679] sched_ext: demo: a[1] failed to \
          run for 30.0s\nError: EXIT: runnable task stall (a[1] failed to run for 30.0s) on CPU 1\n",
    );
    put("btf", "demo", DEMO_BTF);
    put(
        "symbols",
        "vmcoreinfo",
        b"OSRELEASE=7.3.4\nSYMBOL(swapper_pg_dir)=ffffffff82a10000\nNUMBER(phys_base)=0\n",
    );
    let page = [
        b"OSRELEASE=7.3.4\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff80001000\nNUMBER(phys_base)=0\n"
            .as_slice(),
        &[0x67; 4096],
    ]
    .concat();
    put("memory", "vmcoreinfo", &page[..4096]);
    for which in 0..28 {
        // Of each reader and both kernels: the first read, and one later, changed to a word that was read before.
        let steps =
            [[20, 0, 0, 1, 3, 0, 0, 0, 0, 0, 0, 0], [99, 0, 1, 0, 255, 255, 255, 255, 255, 255, 255, 255]];
        put("kernel", &format!("reader-{which}"), &[&[which], steps.as_flattened()].concat());
    }

    let words: Box<[AtomicU64]> = (0..CHANNEL_WORDS).map(|_| AtomicU64::new(0)).collect();
    let memory = Shared(words.try_into().expect("as many as that"));
    let mut writer = Writer::default();
    let messages = [
        ToHost::Ready { release: "7.3.4".into() },
        ToHost::Stage { stage: GuestStage::TestExited, detail: "exited with status 0".into() },
    ];
    for (i, message) in messages.iter().enumerate() {
        let payload = rkyv::to_bytes::<rancor::Error>(message).expect("archived");
        writer.push(&memory.to_host(), 77, &payload, 0).expect("room");
        put("channel", &format!("message-{i}"), &[&[0; 16], payload.as_slice()].concat());
    }
    let ring: Vec<u8> = memory.words()[OFF_TO_HOST_RING / 8..][..64]
        .iter()
        .flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes())
        .collect();
    put("channel", "two-frames", &[&512_u64.to_le_bytes(), &0_u64.to_le_bytes(), ring.as_slice()].concat());

    // A write, after which the state is saved, and a read.
    for (name, port, width) in
        [("console", 0x3f8_u16, 1_u8), ("doorbell", 0x5f0, 4), ("acpi", 0x604, 2), ("reset", 0xcf9, 1)]
    {
        let [low, high] = port.to_le_bytes();
        let bytes: Vec<u8> = (0..width).map(|byte| 0x41 + byte).collect();
        let read = vec![0; usize::from(width)];
        let accesses = [&[low, high, 0x20 | width], &bytes[..], &[low, high, 0x10 | width], &read];
        put("ports", name, &accesses.concat());
    }
}
