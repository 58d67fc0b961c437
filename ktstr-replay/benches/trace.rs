//! The trace file: the page pipeline against zstd's own speed, opening, and one page of many.
//!
//! Pages are those of this program's own file, each made different from the others: machine code, tables and text, as
//! in a kernel.

use std::path::PathBuf;
use std::sync::LazyLock;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use ktstr_replay::memory::Memory;
use ktstr_replay::trace::record::{Manifest, PAGE_BYTES};
use ktstr_replay::trace::{CaptureBase, CapturedCheckpoint, PageBatch, Trace, TraceWriter};
use ktstr_replay::units::{GuestNs, GuestPhys, HostNs};

/// Pages of a first checkpoint of a 512 MiB guest.
const PAGES: u64 = 20_000;
/// Pages of a trace of 1 GiB, when they do not compress.
const GIB_PAGES: u64 = 1 << 18;
/// Pages of one zstd frame, as the writer makes them.
const FRAME_PAGES: usize = 64;

fn main() {
    divan::main();
}

fn dir() -> &'static tempfile::TempDir {
    static DIR: LazyLock<tempfile::TempDir> =
        LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));
    &DIR
}

fn captured(base: CaptureBase, batch: PageBatch, ram_pages: u64) -> CapturedCheckpoint {
    CapturedCheckpoint {
        sample: None,
        guest_ns: GuestNs(0),
        host_ns: HostNs(0),
        ram: std::iter::once(0..ram_pages * PAGE_BYTES as u64).collect(),
        base,
        changed: vec![batch],
        zeroed: Vec::new(),
        left_out: Vec::new(),
    }
}

/// `PAGES` different pages of this program.
fn program_pages() -> &'static CapturedCheckpoint {
    static PAGES_OF_PROGRAM: LazyLock<CapturedCheckpoint> = LazyLock::new(|| {
        let program = std::fs::read(std::env::current_exe().expect("a path")).expect("this program");
        let mut batch = PageBatch::with_capacity(PAGES as usize);
        let (pages, _) = program.as_chunks::<PAGE_BYTES>();
        for (gfn, page) in (0..PAGES).zip(pages.iter().cycle()) {
            let mut page = *page;
            page[..8].copy_from_slice(&gfn.to_le_bytes());
            batch.push(gfn, &page);
        }
        captured(CaptureBase::Zero, batch, PAGES)
    });
    &PAGES_OF_PROGRAM
}

/// A finished trace of 1 GiB of pages that do not compress.
fn gib_trace() -> &'static PathBuf {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = dir().path().join("gib.trace.zst");
        let mut writer = TraceWriter::create(&path, &Manifest::default()).expect("a trace");
        let mut state = 1u64;
        for part in 0..16 {
            let mut batch = PageBatch::with_capacity((GIB_PAGES / 16) as usize);
            for gfn in part * GIB_PAGES / 16..(part + 1) * GIB_PAGES / 16 {
                let page = std::array::from_fn(|_| {
                    state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    (state >> 56) as u8
                });
                batch.push(gfn, &page);
            }
            let base = if part == 0 { CaptureBase::Zero } else { CaptureBase::Previous };
            writer.checkpoint(&captured(base, batch, GIB_PAGES)).expect("a checkpoint");
        }
        writer.finish().expect("a finished trace");
        path
    });
    &PATH
}

/// The baseline: zstd alone, on the same pages in frames of the same size, at the same level.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn pages_zstd_alone(bencher: Bencher<'_, '_>) {
    let pages: Vec<u8> =
        program_pages().changed[0].iter().flat_map(|(_, _, page)| page.iter().copied()).collect();
    let mut zstd = zstd::bulk::Compressor::new(1).expect("a compressor");
    let mut out = vec![0; zstd::zstd_safe::compress_bound(FRAME_PAGES * PAGE_BYTES)];
    bencher.counter(BytesCount::new(pages.len())).bench_local(|| {
        pages
            .chunks(FRAME_PAGES * PAGE_BYTES)
            .map(|frame| zstd.compress_to_buffer(black_box(frame), &mut out[..]).expect("room"))
            .sum::<usize>()
    });
}

/// The same pages through the writer: deduplicated, archived, compressed, checksummed, written to a file.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn pages_to_trace(bencher: Bencher<'_, '_>) {
    let captured = program_pages();
    let path = dir().path().join("pipeline.trace.zst");
    bencher
        .counter(BytesCount::new(PAGES as usize * PAGE_BYTES))
        .with_inputs(|| {
            let _ = std::fs::remove_file(&path);
            TraceWriter::create(&path, &Manifest::default()).expect("a trace")
        })
        .bench_local_values(|mut writer| {
            writer.checkpoint(captured).expect("a checkpoint");
            writer.commit().expect("a commit");
            writer
        });
}

/// Opening a finished trace of 1 GiB.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn open_gib(bencher: Bencher<'_, '_>) {
    let path = gib_trace();
    bencher.bench_local(|| Trace::open(path).expect("a trace").records().len());
}

/// Opening the same trace without its index, as a killed recorder leaves it.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn open_gib_unfinished(bencher: Bencher<'_, '_>) {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = dir().path().join("gib-unfinished.trace.zst");
        // The same file, but for its last byte: a hard link would cut the original too.
        std::fs::rename(gib_trace(), &path).expect("a rename");
        std::fs::hard_link(&path, gib_trace()).expect("a link");
        path
    });
    let whole = Trace::open(&PATH).expect("a trace");
    let last = whole.records().last().expect("a record");
    let end = last.offset + 128 + last.stored_len;
    let len = whole.len_bytes();
    drop(whole);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&*PATH).expect("the trace");
    let mut rest = vec![0; (len - end) as usize];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut rest, end).expect("index and tail");
    file.set_len(end).expect("a shorter file");
    bencher.bench_local(|| Trace::open(&PATH).expect("a trace").records().len());
    std::os::unix::fs::FileExt::write_all_at(&file, &rest, end).expect("index and tail again");
}

/// One random page of a 1 GiB checkpoint, whose chunk is as good as never in the cache.
#[divan::bench(sample_count = 500, sample_size = 1)]
fn one_random_page_of_gib(bencher: Bencher<'_, '_>) {
    let trace = Trace::open(gib_trace()).expect("a trace");
    let memory = trace.checkpoint_memory(15).expect("a checkpoint");
    let mut gfn = 1u64;
    bencher.bench_local(|| {
        gfn = gfn.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let mut page = [0; PAGE_BYTES];
        memory.read(GuestPhys(((gfn >> 40) % GIB_PAGES) << 12), &mut page).expect("a page");
        page
    });
}
