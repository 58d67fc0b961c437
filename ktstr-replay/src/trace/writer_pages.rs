//! Writing checkpoints: pages once each, tables as deltas.

use super::capture::{CaptureBase, CapturedCheckpoint};
use super::error::WriteError;
use super::record::page::MAX_CHUNK_PAGES;
use super::record::{Checkpoint, PAGE_BYTES, PageChunk, PageId, PageRun, PageState, RamRange};
use super::table::RunBuilder;
use super::writer::{Labels, TraceWriter};

/// Every how many checkpoints one has a full table.
const FULL_TABLE_EVERY: u32 = 16;

impl TraceWriter {
    /// Append a checkpoint, and the pages of it that the trace does not have yet, or, on an error, nothing of it.
    /// Returns its index.
    ///
    /// # Errors
    /// [`WriteError`]. After one the next checkpoint must have base [`CaptureBase::Zero`].
    pub fn checkpoint(&mut self, captured: &CapturedCheckpoint) -> Result<u32, WriteError> {
        if captured.base == CaptureBase::Previous && !self.pages.has_base {
            return Err(WriteError::NoBase);
        }
        self.pages.has_base = false;
        let (mark, next) = (self.mark(), self.pages.next);
        let index = self.checkpoint_inner(captured).inspect_err(|_| {
            // What there is of it is of no use, and on a full disk its room is.
            if self.back_to(mark) {
                self.pages.next = next;
            }
            // Pages of a chunk that was not written must not be referred to.
            let stored = self.pages.next;
            self.pages.numbers.retain(|_, number| *number < stored);
        })?;
        self.pages.has_base = true;
        Ok(index)
    }

    /// Index that the next checkpoint will get.
    pub fn next_checkpoint(&self) -> u32 {
        self.pages.checkpoints
    }

    fn checkpoint_inner(&mut self, captured: &CapturedCheckpoint) -> Result<u32, WriteError> {
        let mut runs = self.store_pages(captured)?;
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
        let delta = joined.finish();

        if captured.base == CaptureBase::Zero {
            self.pages.table = Default::default();
        }
        for run in &delta {
            self.pages
                .table
                .set(*run)
                .map_err(|_| WriteError::BadCapture(format!("run at frame {:#x}", run.gfn)))?;
        }
        let index = self.pages.checkpoints;
        let is_full = captured.base == CaptureBase::Zero || index.is_multiple_of(FULL_TABLE_EVERY);
        let checkpoint = Checkpoint {
            index,
            parent: if is_full { None } else { index.checked_sub(1) },
            sample: captured.sample,
            guest_ns: captured.guest_ns,
            host_ns: captured.host_ns,
            ram: captured.ram.iter().map(|r| RamRange { start: r.start, end: r.end }).collect(),
            runs: if is_full { self.pages.table.runs().collect() } else { delta },
        };
        self.body(
            &checkpoint,
            Labels {
                flags: 0,
                keys: [u64::from(index), checkpoint_links(checkpoint.parent, checkpoint.sample)],
                time: Some((captured.guest_ns, captured.host_ns)),
            },
        )?;
        self.pages.checkpoints += 1;
        Ok(index)
    }

    /// Store the pages that are new; returns a run for each page.
    fn store_pages(&mut self, captured: &CapturedCheckpoint) -> Result<Vec<PageRun>, WriteError> {
        let zero = PageId::zero();
        let mut runs = Vec::new();
        let mut chunk = self.empty_chunk();
        for (gfn, id, page) in captured.changed.iter().flat_map(|batch| batch.iter()) {
            let state = if id == zero {
                PageState::Zero
            } else if let Some(number) = self.pages.numbers.get(&id) {
                PageState::Stored(*number)
            } else {
                let number = u32::try_from(chunk.ids.len())
                    .ok()
                    .and_then(|slot| chunk.first.checked_add(slot))
                    .filter(|number| *number < u32::MAX)
                    .ok_or_else(|| WriteError::BadCapture("the trace has 2^32 pages".to_owned()))?;
                self.pages.numbers.insert(id, number);
                chunk.ids.push(id);
                chunk.bytes.extend_from_slice(page);
                if chunk.ids.len() == MAX_CHUNK_PAGES {
                    self.write_chunk(&chunk)?;
                    chunk.first = self.pages.next;
                    chunk.ids.clear();
                    chunk.bytes.clear();
                }
                PageState::Stored(number)
            };
            runs.push(PageRun { gfn, count: 1, state });
        }
        if !chunk.ids.is_empty() {
            self.write_chunk(&chunk)?;
        }
        Ok(runs)
    }

    fn empty_chunk(&self) -> PageChunk {
        PageChunk {
            first: self.pages.next,
            ids: Vec::with_capacity(MAX_CHUNK_PAGES),
            bytes: Vec::with_capacity(MAX_CHUNK_PAGES * PAGE_BYTES),
        }
    }

    fn write_chunk(&mut self, chunk: &PageChunk) -> Result<(), WriteError> {
        let pages = chunk.ids.len() as u32;
        self.body(chunk, Labels { flags: 0, keys: [u64::from(chunk.first), u64::from(pages)], time: None })?;
        self.pages.next = chunk.first + pages;
        Ok(())
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
