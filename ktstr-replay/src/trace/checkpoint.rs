//! Writing checkpoints: what a recorder hands over, owned so that it can cross a channel, and the records made of it.

use std::collections::HashMap;
use std::ops::Range;

use super::error::WriteError;
use super::record::memory::MAX_CHUNK_PAGES;
use super::record::{Checkpoint, PAGE_BYTES, PageChunk, PageId, PageRun, PageState, RamRange};
use super::table::{PageTable, RunBuilder};
use super::writer::{Labels, Mark, TraceWriter};
use crate::memory::LeftOut;
use crate::units::{GuestNs, HostNs};

/// Guest memory of one moment, as it differs from the moment before.
#[derive(Clone, Debug)]
pub struct CapturedCheckpoint {
    /// The sample that was taken with it.
    pub sample: Option<u32>,
    /// Guest `CLOCK_MONOTONIC` in ns.
    pub guest_ns: GuestNs,
    /// Host time since the recording began, in ns.
    pub host_ns: HostNs,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaptureBase {
    /// Zero: the first checkpoint, or the first after one that was lost.
    #[default]
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

/// What the writer remembers of checkpoints and their pages.
#[derive(Default)]
pub(super) struct StoredPages {
    /// What the next checkpoint may be built on: the last one, if that was written.
    pub(super) base: CaptureBase,
    /// Numbers of the stored pages.
    numbers: HashMap<PageId, u32>,
    /// Number of the next page to be stored.
    next: u32,
    /// Pages as of the last checkpoint.
    table: PageTable,
    /// Checkpoints written.
    checkpoints: u32,
}

/// Every how many checkpoints one has a full table.
const FULL_TABLE_EVERY: u32 = 16;

impl TraceWriter {
    /// Append a checkpoint, and the pages of it that the trace does not have yet, or, on an error, nothing of it.
    /// Returns its index.
    ///
    /// # Errors
    /// [`WriteError`]. After one the next checkpoint must have base [`CaptureBase::Zero`].
    pub fn checkpoint(&mut self, captured: &CapturedCheckpoint) -> Result<u32, WriteError> {
        let mut writer = self.begin_checkpoint(captured.base)?;
        for (gfn, id, page) in captured.changed.iter().flat_map(PageBatch::iter) {
            writer.page(gfn, id, page)?;
        }
        writer.finish(captured)
    }

    /// Begin a checkpoint whose pages are written as they come: they need not be in memory together.
    ///
    /// # Errors
    /// [`WriteError::NoBase`].
    pub(crate) fn begin_checkpoint(&mut self, base: CaptureBase) -> Result<CheckpointWriter<'_>, WriteError> {
        if std::mem::take(&mut self.pages.base) == CaptureBase::Zero && base == CaptureBase::Previous {
            return Err(WriteError::NoBase);
        }
        let (mark, next) = (self.mark(), self.pages.next);
        let chunk = PageChunk {
            first: next,
            ids: Vec::with_capacity(MAX_CHUNK_PAGES),
            bytes: Vec::with_capacity(MAX_CHUNK_PAGES * PAGE_BYTES),
        };
        Ok(CheckpointWriter { trace: self, mark, next, chunk, runs: Vec::new(), is_whole: false })
    }
}

/// A checkpoint that is being written. Dropped before it is whole, it is taken back.
pub(crate) struct CheckpointWriter<'w> {
    trace: &'w mut TraceWriter,
    /// Where the trace was before.
    mark: Mark,
    /// Number of the first page that is stored for it.
    next: u32,
    /// Pages that are not written yet.
    chunk: PageChunk,
    /// One for each page.
    runs: Vec<PageRun>,
    is_whole: bool,
}

impl CheckpointWriter<'_> {
    /// The page of frame `gfn`. It is stored if it is new and not zero.
    ///
    /// # Errors
    /// [`WriteError`].
    pub(crate) fn page(&mut self, gfn: u64, id: PageId, page: &[u8]) -> Result<(), WriteError> {
        let chunk = &mut self.chunk;
        let state = if id == PageId::zero() {
            PageState::Zero
        } else if let Some(number) = self.trace.pages.numbers.get(&id) {
            PageState::Stored(*number)
        } else {
            let number = u32::try_from(chunk.ids.len())
                .ok()
                .and_then(|slot| chunk.first.checked_add(slot))
                .filter(|number| *number < u32::MAX)
                .ok_or_else(|| WriteError::BadCapture("the trace has 2^32 pages".to_owned()))?;
            self.trace.pages.numbers.insert(id, number);
            chunk.ids.push(id);
            chunk.bytes.extend_from_slice(page);
            if chunk.ids.len() == MAX_CHUNK_PAGES {
                self.write_chunk()?;
            }
            PageState::Stored(number)
        };
        self.runs.push(PageRun { gfn, count: 1, state });
        Ok(())
    }

    /// All pages with contents were handed over; the rest of the checkpoint is in `captured`. Returns its index.
    ///
    /// # Errors
    /// [`WriteError`].
    pub(crate) fn finish(mut self, captured: &CapturedCheckpoint) -> Result<u32, WriteError> {
        self.write_chunk()?;
        let delta = self.delta(captured)?;
        let pages = &mut self.trace.pages;
        if captured.base == CaptureBase::Zero {
            pages.table = Default::default();
        }
        for run in &delta {
            pages
                .table
                .set(*run)
                .map_err(|_| WriteError::BadCapture(format!("run at frame {:#x}", run.gfn)))?;
        }
        let index = pages.checkpoints;
        let is_full = captured.base == CaptureBase::Zero || index.is_multiple_of(FULL_TABLE_EVERY);
        let checkpoint = Checkpoint {
            index,
            parent: if is_full { None } else { index.checked_sub(1) },
            sample: captured.sample,
            guest_ns: captured.guest_ns,
            host_ns: captured.host_ns,
            ram: captured.ram.iter().map(|r| RamRange { start: r.start, end: r.end }).collect(),
            runs: if is_full { pages.table.runs().collect() } else { delta },
        };
        self.trace.body(
            &checkpoint,
            Labels {
                flags: 0,
                keys: [u64::from(index), checkpoint_links(checkpoint.parent, checkpoint.sample)],
                time: Some((captured.guest_ns, captured.host_ns)),
            },
        )?;
        self.trace.pages.checkpoints += 1;
        self.trace.pages.base = CaptureBase::Previous;
        self.is_whole = true;
        Ok(index)
    }

    /// How it differs from its base: runs of pages in one state, ascending.
    fn delta(&mut self, captured: &CapturedCheckpoint) -> Result<Vec<PageRun>, WriteError> {
        let mut runs = std::mem::take(&mut self.runs);
        for range in &captured.zeroed {
            runs.extend(page_run(range.start, range.end, PageState::Zero)?);
        }
        for (range, why) in &captured.left_out {
            runs.extend(page_run(range.start, range.end, PageState::LeftOut(*why))?);
        }
        runs.sort_by_key(|run| run.gfn);
        let mut joined = RunBuilder::default();
        let mut end = 0;
        for run in runs {
            if run.gfn < end {
                return Err(WriteError::BadCapture(format!("frame {:#x} is in it twice", run.gfn)));
            }
            end = run.gfn + u64::from(run.count);
            joined.push(run);
        }
        Ok(joined.finish())
    }

    /// Write the pages that are not written yet.
    fn write_chunk(&mut self) -> Result<(), WriteError> {
        let pages = self.chunk.ids.len() as u32;
        if pages > 0 {
            let keys = [u64::from(self.chunk.first), u64::from(pages)];
            self.trace.body(&self.chunk, Labels { keys, ..Labels::default() })?;
            self.trace.pages.next = self.chunk.first + pages;
            self.chunk.first = self.trace.pages.next;
            self.chunk.ids.clear();
            self.chunk.bytes.clear();
        }
        Ok(())
    }
}

impl Drop for CheckpointWriter<'_> {
    fn drop(&mut self) {
        if self.is_whole {
            return;
        }
        // Half a checkpoint is of no use; on a full disk its room is.
        if self.trace.back_to(self.mark) {
            self.trace.pages.next = self.next;
        }
        // Pages of a chunk that was not written must not be referred to.
        let stored = self.trace.pages.next;
        self.trace.pages.numbers.retain(|_, number| *number < stored);
    }
}

/// The second key of a checkpoint's header: low half 1 + parent, high half 1 + sample, each 0 for none.
pub(super) fn checkpoint_links(parent: Option<u32>, sample: Option<u32>) -> u64 {
    let half = |number: Option<u32>| number.map_or(0, |n| u64::from(n) + 1) & 0xffff_ffff;
    half(parent) | half(sample) << 32
}

/// Parent and sample of that key.
pub(super) fn parse_checkpoint_links(key: u64) -> (Option<u32>, Option<u32>) {
    ((key as u32).checked_sub(1), ((key >> 32) as u32).checked_sub(1))
}

/// The frames from `start` to before `end` in one state; `None` if there is no such frame.
fn page_run(start: u64, end: u64, state: PageState) -> Result<Option<PageRun>, WriteError> {
    let count = end
        .checked_sub(start)
        .and_then(|count| u32::try_from(count).ok())
        .ok_or_else(|| WriteError::BadCapture(format!("frames {start:#x} to {end:#x}")))?;
    Ok((count > 0).then_some(PageRun { gfn: start, count, state }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_a_checkpoint_round_trip() {
        for links in [(None, None), (Some(0), None), (None, Some(0)), (Some(7), Some(u32::MAX - 1))] {
            assert_eq!(parse_checkpoint_links(checkpoint_links(links.0, links.1)), links);
        }
    }
}
