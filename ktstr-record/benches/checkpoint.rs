//! The pause of a checkpoint after the first: finding and copying what changed, against the least that it takes.

use std::ops::Range;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use ktstr_record::checkpoint::ChangeTracker;
use ktstr_replay::memory::{Memory, MemoryError};
use ktstr_replay::trace::record::PAGE_BYTES;
use ktstr_replay::units::{GuestNs, GuestPhys, HostNs};

/// Populated pages of a 512 MiB guest after a second or two.
const PAGES: usize = 24_000;
/// Pages that change between captures of a CPU-bound load.
const CHANGED: usize = 100;

fn main() {
    divan::main();
}

/// Populated memory.
struct Ram(Vec<u8>);

impl Ram {
    fn new() -> Self {
        Self((0..PAGES * PAGE_BYTES).map(|i| (i / 7 % 251) as u8 ^ (i >> 12) as u8).collect())
    }

    /// Write to pages all over.
    fn touch(&mut self) {
        for page in self.0.chunks_mut(PAGE_BYTES).step_by(PAGES / CHANGED) {
            page[100] = page[100].wrapping_add(1);
        }
    }
}

impl Memory for Ram {
    fn read(&self, at: GuestPhys, out: &mut [u8]) -> Result<(), MemoryError> {
        let from = at.0 as usize;
        let bytes = self.0.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or(MemoryError::OutOfRange { at, len: out.len() })?);
        Ok(())
    }

    fn populated(&self) -> Vec<Range<u64>> {
        std::iter::once(0..self.0.len() as u64).collect()
    }
}

/// The baseline: one pass over all pages, and a copy of those that changed.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn baseline_read_all_copy_changed(bencher: Bencher<'_, '_>) {
    let ram = Ram::new();
    let mut copies = vec![0; PAGE_BYTES * (CHANGED + 1)];
    bencher.counter(BytesCount::new(PAGES * PAGE_BYTES)).bench_local(|| {
        let (words, _) = black_box(&ram.0).as_chunks::<8>();
        let sum = words.iter().fold(0u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
        let changed = ram.0.chunks(PAGE_BYTES).step_by(PAGES / CHANGED);
        for (from, to) in changed.zip(copies.chunks_mut(PAGE_BYTES)) {
            to.copy_from_slice(from);
        }
        (sum, black_box(&copies).len())
    });
}

/// Finding and copying them, with one thread and with two.
#[divan::bench(args = [1, 2], sample_count = 50, sample_size = 1)]
fn capture(bencher: Bencher<'_, '_>, threads: usize) {
    let mut ram = Ram::new();
    let mut tracker = ChangeTracker::new(ram.populated(), None, threads);
    tracker.capture(&ram, None, None, None, GuestNs(0), HostNs(0));
    bencher.counter(BytesCount::new(PAGES * PAGE_BYTES)).bench_local(|| {
        ram.touch();
        let captured = tracker.capture(&ram, None, None, None, GuestNs(0), HostNs(0));
        let pages: usize = captured.changed.iter().map(|batch| batch.len()).sum();
        assert_eq!(pages, CHANGED);
    });
}

/// The first capture: everything is copied.
#[divan::bench(args = [1, 2], sample_count = 10, sample_size = 1)]
fn first_capture(bencher: Bencher<'_, '_>, threads: usize) {
    let ram = Ram::new();
    bencher
        .counter(BytesCount::new(PAGES * PAGE_BYTES))
        .with_inputs(|| ChangeTracker::new(ram.populated(), None, threads))
        .bench_local_values(|mut tracker| tracker.capture(&ram, None, None, None, GuestNs(0), HostNs(0)));
}
