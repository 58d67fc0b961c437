//! How much memory it takes to replay a large trace: at most 128 MiB, however large the file is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ktstr_replay::trace::record::{BlobRole, PAGE_BYTES};
use ktstr_replay::trace::{CaptureBase, CapturedCheckpoint, PageBatch, Trace, TraceWriter};
use ktstr_replay::units::{GuestNs, HostNs};
use ktstr_tests::{ktstr, python, run_bounded};

/// Pages that do not compress, so that the file has 256 MiB: twice what reading it may take. A file of 1 GiB differs in the
/// length of its index alone, 80 bytes for each 64 pages.
const PAGES: u64 = 1 << 16;
/// Times that the golden trace's captures are in it.
const REPEATS: u32 = 17;
/// What reading may take, in KiB.
const LIMIT_KIB: u64 = 128 << 10;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces/steady.trace.zst")
}

/// The golden run with over 200 captures and 16 checkpoints of its own memory.
fn write_large(path: &Path) {
    let steady = Trace::open(&golden()).expect("the golden trace");
    let mut writer = TraceWriter::create(path, steady.manifest().expect("a manifest")).expect("a trace");
    for id in steady.blobs(BlobRole::ProgramBtf) {
        writer.blob(BlobRole::ProgramBtf, &steady.blob(&id).expect("BTF")).expect("a blob");
    }
    for claim in steady.claims() {
        writer.claim(&claim).expect("a claim");
    }
    let events = steady.events();
    let mut samples = 0;
    let mut state = 1u64;
    for repeat in 0..REPEATS {
        writer.events(&events).expect("events");
        for sample in steady.samples() {
            let mut sample = sample.expect("a sample");
            sample.index = samples;
            samples += 1;
            writer.sample(&sample).expect("a sample");
        }
        let part = PAGES / u64::from(REPEATS);
        let mut batch = PageBatch::with_capacity(part as usize);
        for gfn in u64::from(repeat) * part..u64::from(repeat + 1) * part {
            let page: [u8; PAGE_BYTES] = std::array::from_fn(|_| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                (state >> 56) as u8
            });
            batch.push(gfn, &page);
        }
        let captured = CapturedCheckpoint {
            sample: None,
            guest_ns: GuestNs(0),
            host_ns: HostNs(0),
            ram: std::iter::once(0..PAGES * PAGE_BYTES as u64).collect(),
            base: if repeat == 0 { CaptureBase::Zero } else { CaptureBase::Previous },
            changed: vec![batch],
            zeroed: Vec::new(),
            left_out: Vec::new(),
        };
        writer.checkpoint(&captured).expect("a checkpoint");
    }
    assert!(samples > 200);
    writer.finish().expect("an end");
}

/// Runs `sys.argv[1:]` without its output, and prints its peak of resident memory in KiB and its exit code: `getrusage(2)`.
const MEASURE: &str = "import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, code)";

#[test]
fn a_large_trace_is_read_in_128_mib() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("large.trace.zst");
    write_large(&path);
    let bytes = path.metadata().expect("the trace").len();
    assert!(bytes > 2 * (LIMIT_KIB << 10) - (8 << 20), "{bytes} bytes are no large trace");
    let commands: [&[&str]; 5] = [
        &["replay"],
        &["replay", "--assert"],
        &["replay", "--var", "nr_dispatched"],
        &["trace", "info"],
        &["trace", "verify"],
    ];
    for command in commands {
        let (program, options) = command.split_at(if command[0] == "trace" { 2 } else { 1 });
        let mut measured = python();
        measured.args(["-c", MEASURE]).arg(ktstr().get_program()).args(program).arg(&path).args(options);
        let ended = run_bounded(&mut measured, Duration::from_secs(120));
        let (peak, code) = ended.stdout.trim().split_once(' ').unwrap_or_else(|| panic!("{ended}"));
        let peak: u64 = peak.parse().expect("a number");
        println!("{command:?}: {} MiB", peak >> 10);
        assert!(["0", "1", "2"].contains(&code), "{command:?}: {ended}");
        assert!(peak > 1024 && peak <= LIMIT_KIB, "{command:?} took {peak} KiB");
    }
}
