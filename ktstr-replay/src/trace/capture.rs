//! What a recorder hands to the writer for one checkpoint: owned, so that it can cross a channel.

use std::ops::Range;

use super::record::{PAGE_BYTES, PageId};
use crate::memory::LeftOut;

/// Guest memory of one moment, as it differs from the moment before.
#[derive(Clone, Debug)]
pub struct CapturedCheckpoint {
    /// The sample that was taken with it.
    pub sample: Option<u32>,
    /// Guest `CLOCK_MONOTONIC` in ns.
    pub guest_ns: u64,
    /// Host time since the recording began, in ns.
    pub host_ns: u64,
    /// Where the guest has RAM, in bytes: ascending, disjoint, on page boundaries.
    pub ram: Vec<Range<u64>>,
    /// What the pages that are not named below are.
    pub base: CaptureBase,
    /// Pages with their contents, in any order; a page that turns out to be zero is not stored.
    pub changed: Vec<PageBatch>,
    /// Ranges of frame numbers that have become zero.
    pub zeroed: Vec<Range<u64>>,
    /// Ranges of frame numbers that are not kept, and why.
    pub left_out: Vec<(Range<u64>, LeftOut)>,
}

/// What the pages are that a captured checkpoint does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureBase {
    /// Zero: the first checkpoint, or the first after one that was lost.
    Zero,
    /// As they were in the checkpoint that was given to the writer before this one.
    Previous,
}

/// Owned copies of pages.
#[derive(Clone, Debug, Default)]
pub struct PageBatch {
    pages: Vec<(u64, PageId)>,
    bytes: Vec<u8>,
}

impl PageBatch {
    /// An empty batch with room for `pages` pages.
    pub fn with_capacity(pages: usize) -> Self {
        Self { pages: Vec::with_capacity(pages), bytes: Vec::with_capacity(pages * PAGE_BYTES) }
    }

    /// Add the page of frame `gfn`.
    pub fn push(&mut self, gfn: u64, page: &[u8; PAGE_BYTES]) {
        self.push_identified(gfn, PageId::of(page), page);
    }

    /// Add the page of frame `gfn`, whose id is known to be `id`.
    pub fn push_identified(&mut self, gfn: u64, id: PageId, page: &[u8; PAGE_BYTES]) {
        self.pages.push((gfn, id));
        self.bytes.extend_from_slice(page);
    }

    /// How many pages.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Frame number, id and bytes of each page, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (u64, PageId, &[u8])> {
        self.pages.iter().zip(self.bytes.chunks_exact(PAGE_BYTES)).map(|((gfn, id), page)| (*gfn, *id, page))
    }
}
