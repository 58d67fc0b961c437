//! Guest memory of a checkpoint, decoded page by page as it is asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, PoisonError};

use super::error::{Fault, FaultKind, TraceError};
use super::kind::{CACHED_CHUNKS, Kind, MAX_PARENTS, MAX_RUNS};
use super::reader::{CheckpointInfo, Trace};
use super::record::{Checkpoint, IndexEntry, PAGE_BYTES, PageState, StoredPages};
use super::table::PageTable;
use crate::memory::{LeftOut, Memory, MemoryError};
use crate::units::GuestPhys;

/// Which chunk a stored page is in, and the chunks that were decoded last.
pub(crate) struct ChunkCache {
    /// First page number, pages and index entry of each chunk, ascending by first page.
    places: Vec<(u32, u32, IndexEntry)>,
    /// Page numbers that chunks have, ascending, disjoint and not touching.
    covered: Vec<Range<u64>>,
    /// Decoded chunks by their place, oldest use first.
    decoded: VecDeque<(usize, Result<Arc<StoredPages>, String>)>,
    /// Numbers of the pages that were asked for, while they are noted.
    read: Option<BTreeSet<u32>>,
}

impl ChunkCache {
    pub(crate) fn new(entries: &[IndexEntry]) -> Self {
        let mut places: Vec<_> = entries
            .iter()
            .filter(|entry| entry.read_as() == Some(Kind::PageChunk))
            .filter_map(|entry| {
                let [first, pages] = entry.keys;
                Some((u32::try_from(first).ok()?, u32::try_from(pages).ok()?, *entry))
            })
            .collect();
        places.sort_by_key(|(first, ..)| *first);
        let mut covered: Vec<Range<u64>> = Vec::new();
        for (first, pages, _) in &places {
            let (start, end) = (u64::from(*first), u64::from(*first) + u64::from(*pages));
            match covered.last_mut() {
                Some(last) if start <= last.end => last.end = last.end.max(end),
                _ => covered.push(start..end),
            }
        }
        Self { places, covered, decoded: VecDeque::new(), read: None }
    }

    /// Place of the chunk that has stored page `number`.
    fn place(&self, number: u32) -> Option<usize> {
        let place = self.places.partition_point(|(first, ..)| *first <= number).checked_sub(1)?;
        let (first, pages, _) = self.places.get(place)?;
        (number - first < *pages).then_some(place)
    }
}

/// Guest memory as it was at a checkpoint.
pub struct CheckpointMemory<'t> {
    trace: &'t Trace,
    info: CheckpointInfo,
    ram: Vec<Range<u64>>,
    table: PageTable,
}

impl Trace {
    /// Guest memory as it was at checkpoint `index`. Reads tables; pages are read when they are asked for.
    ///
    /// # Errors
    /// [`TraceError::Missing`] when there is no such checkpoint, [`TraceError::Damaged`] when its record or that
    /// of one it lies over is.
    pub fn checkpoint_memory(&self, index: u32) -> Result<CheckpointMemory<'_>, TraceError> {
        let mut chain = vec![self.checkpoint_record(index)?];
        let mut runs = 0usize;
        while let Some((entry, last)) = chain.last() {
            runs = runs.saturating_add(last.runs.len());
            let Some(parent) = last.parent else { break };
            let broken = match () {
                () if parent >= last.index => Some("its parent does not come before it"),
                () if chain.len() > MAX_PARENTS => Some("it has too many parents"),
                () if runs > MAX_RUNS => Some("its tables have too many runs"),
                () => None,
            };
            if let Some(why) = broken {
                return Err(self.content_fault(entry, why));
            }
            chain.push(self.checkpoint_record(parent)?);
        }
        let mut table = PageTable::default();
        for (entry, checkpoint) in chain.iter().rev() {
            for run in &checkpoint.runs {
                table.set(*run).map_err(|_| self.content_fault(entry, "it has a run without an end"))?;
            }
        }
        let (entry, checkpoint) = &chain[0];
        let ram: Vec<_> = checkpoint.ram.iter().map(|range| range.start..range.end).collect();
        let mut end = 0;
        for range in &ram {
            if range.start < end || range.end <= range.start {
                return Err(self.content_fault(entry, "its RAM is not ascending and disjoint"));
            }
            end = range.end;
        }
        let info = CheckpointInfo {
            index: checkpoint.index,
            parent: checkpoint.parent,
            sample: checkpoint.sample,
            guest_ns: checkpoint.guest_ns,
            host_ns: checkpoint.host_ns,
        };
        Ok(CheckpointMemory { trace: self, info, ram, table })
    }

    fn checkpoint_record(&self, index: u32) -> Result<(IndexEntry, Checkpoint), TraceError> {
        let entry = self.of_kind(Kind::Checkpoint).find(|entry| entry.keys[0] == u64::from(index));
        let entry = *entry.ok_or_else(|| TraceError::Missing {
            what: format!("checkpoint {index}"),
            have: format!("{} checkpoints", self.of_kind(Kind::Checkpoint).count()),
        })?;
        let checkpoint: Checkpoint = self.decode(&entry).map_err(TraceError::Damaged)?;
        if checkpoint.index != index {
            return Err(self.content_fault(&entry, "its index is not that of its header"));
        }
        Ok((entry, checkpoint))
    }

    fn content_fault(&self, entry: &IndexEntry, why: &str) -> TraceError {
        TraceError::Damaged(self.blame(entry, FaultKind::Content(why.to_owned())))
    }

    /// Note from now on which stored pages are read.
    pub(crate) fn note_read_pages(&self) {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner).read = Some(BTreeSet::new());
    }

    /// The numbers of the stored pages that were read since [`Trace::note_read_pages`], and note no more.
    pub(crate) fn take_read_pages(&self) -> BTreeSet<u32> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner).read.take().unwrap_or_default()
    }

    /// The chunk that has stored page `number`.
    fn chunk_of(&self, number: u32) -> Result<Arc<StoredPages>, String> {
        let mut cache = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        let place = cache.place(number).ok_or_else(|| format!("stored page {number} is not in the trace"))?;
        if let Some(read) = &mut cache.read {
            read.insert(number);
        }
        // The chunk that was used last is the likeliest to be wanted again.
        let hit = cache.decoded.iter().rposition(|(cached, _)| *cached == place);
        if let Some(hit) = hit.and_then(|at| cache.decoded.remove(at)) {
            let chunk = hit.1.clone();
            cache.decoded.push_back(hit);
            return chunk;
        }
        let entry = cache.places[place].2;
        let chunk = self.decode_chunk(&entry).map(Arc::new).map_err(|fault: Fault| fault.to_string());
        if cache.decoded.len() >= CACHED_CHUNKS {
            cache.decoded.pop_front();
        }
        cache.decoded.push_back((place, chunk.clone()));
        chunk
    }
}

impl CheckpointMemory<'_> {
    /// Which checkpoint it is.
    pub fn info(&self) -> CheckpointInfo {
        self.info
    }

    /// Where the guest has RAM, in bytes: ascending and disjoint.
    pub fn ram(&self) -> &[Range<u64>] {
        &self.ram
    }

    /// What became of each page.
    pub(crate) fn table(&self) -> &PageTable {
        &self.table
    }

    /// Ranges of frame numbers that were not kept, and why.
    pub fn left_out(&self) -> Vec<(Range<u64>, LeftOut)> {
        let runs = self.table.runs().filter_map(|run| match run.state {
            PageState::LeftOut(why) => Some((run.gfn..run.gfn + u64::from(run.count), why)),
            PageState::Zero | PageState::Stored(_) => None,
        });
        runs.collect()
    }

    /// Frame of the first page of a run that is not all in the trace.
    pub(crate) fn first_unresolved(&self) -> Option<u64> {
        let cache = self.trace.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        let is_covered = |first: u32, count: u32| {
            let (start, end) = (u64::from(first), u64::from(first) + u64::from(count));
            let after = cache.covered.partition_point(|range| range.start <= start);
            after.checked_sub(1).and_then(|at| cache.covered.get(at)).is_some_and(|range| end <= range.end)
        };
        let mut runs = self.table.runs();
        runs.find(|run| matches!(run.state, PageState::Stored(first) if !is_covered(first, run.count)))
            .map(|run| run.gfn)
    }

    fn is_ram(&self, start: u64, end: u64) -> bool {
        let after = self.ram.partition_point(|range| range.start <= start);
        after.checked_sub(1).and_then(|at| self.ram.get(at)).is_some_and(|range| end <= range.end)
    }
}

impl Memory for CheckpointMemory<'_> {
    fn read(&self, at: GuestPhys, out: &mut [u8]) -> Result<(), MemoryError> {
        let outside = MemoryError::OutOfRange { at, len: out.len() };
        let Some(end) = at.0.checked_add(out.len() as u64) else { return Err(outside) };
        if out.is_empty() {
            return Ok(());
        }
        if !self.is_ram(at.0, end) {
            return Err(outside);
        }
        let mut from = at.0;
        let mut out = out;
        while !out.is_empty() {
            let in_page = (from % PAGE_BYTES as u64) as usize;
            let (part, rest) = out.split_at_mut(out.len().min(PAGE_BYTES - in_page));
            match self.table.get(from / PAGE_BYTES as u64) {
                PageState::Zero => part.fill(0),
                PageState::LeftOut(why) => {
                    return Err(MemoryError::LeftOut { at: GuestPhys(from), why });
                }
                PageState::Stored(number) => {
                    let damaged = |why: String| MemoryError::Damaged { at: GuestPhys(from), why };
                    let chunk = self.trace.chunk_of(number).map_err(damaged)?;
                    let page =
                        chunk.page(number).ok_or_else(|| damaged("it is not in its chunk".to_owned()))?;
                    part.copy_from_slice(&page[in_page..in_page + part.len()]);
                }
            }
            from += part.len() as u64;
            out = rest;
        }
        Ok(())
    }

    fn populated(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for run in self.table.runs() {
            if !matches!(run.state, PageState::Stored(_)) {
                continue;
            }
            let page = PAGE_BYTES as u64;
            let start = run.gfn.saturating_mul(page);
            let end = run.gfn.saturating_add(u64::from(run.count)).saturating_mul(page);
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => ranges.push(start..end),
            }
        }
        ranges
    }
}

/// Pages of one sort that a checkpoint does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOutPages {
    /// Why.
    pub why: LeftOut,
    /// How many.
    pub pages: u64,
}

impl LeftOutPages {
    /// The memory that they are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.pages.saturating_mul(PAGE_BYTES as u64)
    }
}

impl Trace {
    /// What the last checkpoint leaves out, the largest part first; empty when it has all, when there is none, and
    /// when it cannot be read, which is then among [`Trace::faults`].
    #[must_use]
    pub fn left_out(&self) -> Vec<LeftOutPages> {
        let Some(last) = self.checkpoints().iter().map(|info| info.index).max() else { return Vec::new() };
        let Ok(memory) = self.checkpoint_memory(last) else { return Vec::new() };
        let mut sums: BTreeMap<LeftOut, u64> = BTreeMap::new();
        for (range, why) in memory.left_out() {
            let sum = sums.entry(why).or_default();
            *sum = sum.saturating_add(range.end.saturating_sub(range.start));
        }
        let mut parts: Vec<_> = sums.into_iter().map(|(why, pages)| LeftOutPages { why, pages }).collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.pages));
        parts
    }
}
