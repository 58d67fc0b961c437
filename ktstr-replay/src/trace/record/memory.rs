//! Guest memory: stored pages, and which of them it was made of at one moment.

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::memory::LeftOut;
use crate::trace::body::{Body, BodyError, access, archived_body, is_aligned};
use crate::units::{GuestNs, HostNs};

/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;

/// Most pages of one chunk.
pub(crate) const MAX_CHUNK_PAGES: usize = 64;

/// XXH3-128 of a page's 4096 bytes, little-endian: a page is stored once in a trace.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId(pub [u8; 16]);

impl PageId {
    /// The id of a page.
    pub fn of(page: &[u8]) -> Self {
        Self(xxh3_128(page).to_le_bytes())
    }

    /// The id of the page of zeros, which is never stored.
    pub fn zero() -> Self {
        Self::of(&[0; PAGE_BYTES])
    }
}

/// A page chunk's body: up to 64 stored pages.
///
/// Stored pages are numbered from 0 in the order in which the trace got them; that is how checkpoints name them.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct PageChunkV1 {
    /// Number of the first page.
    pub first: u32,
    /// The pages' ids.
    pub ids: Vec<PageId>,
    /// The pages' bytes, 4096 for each id.
    pub bytes: Vec<u8>,
}

/// The pages of a chunk, where its record was decompressed to.
pub(crate) struct StoredPages {
    /// Number of the first page.
    pub first: u32,
    /// The pages' bytes, one after the other.
    bytes: Bytes,
}

impl StoredPages {
    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        (self.bytes.len() / PAGE_BYTES) as u64
    }

    /// The bytes of stored page `number`; `None` if it is not in this chunk.
    pub(crate) fn page(&self, number: u32) -> Option<&[u8; PAGE_BYTES]> {
        let slot = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.bytes.get(slot.checked_mul(PAGE_BYTES)?..)?.first_chunk()
    }

    /// If there are 1 to 64 pages, and each has its id.
    fn sound(first: u32, ids: &[[u8; 16]], bytes: Bytes) -> Option<Self> {
        let counted = (1..=MAX_CHUNK_PAGES).contains(&ids.len()) && bytes.len() == ids.len() * PAGE_BYTES;
        let mut pages = bytes.chunks_exact(PAGE_BYTES).zip(ids);
        let sound = counted && pages.all(|(page, id)| PageId::of(page).0 == *id);
        sound.then_some(Self { first, bytes })
    }
}

impl PageChunkV1 {
    /// The pages in a decompressed body, which stay where they are; `None` if a page does not have its id.
    ///
    /// # Errors
    /// Those of [`Body::decode`].
    pub(crate) fn in_place(version: u16, raw: Vec<u8>) -> Result<Option<StoredPages>, BodyError> {
        if version != Self::VERSION || !is_aligned(&raw) {
            let chunk = Self::decode(version, &raw)?;
            let ids: Vec<_> = chunk.ids.iter().map(|id| id.0).collect();
            return Ok(StoredPages::sound(chunk.first, &ids, chunk.bytes.into()));
        }
        let raw = Bytes::from(raw);
        let chunk = access::<ArchivedPageChunkV1>(&raw)?;
        let ids: Vec<_> = chunk.ids.iter().map(|id| id.0).collect();
        Ok(StoredPages::sound(chunk.first.to_native(), &ids, raw.slice_ref(&chunk.bytes)))
    }
}

archived_body!(PageChunkV1, PageChunk, 1);

/// The current page chunk.
pub type PageChunk = PageChunkV1;

/// A checkpoint: a table of pages over its parent's, or a full one.
///
/// In a full table a page of RAM that no run names is zero; in the table of a child it is as in the parent.
/// Runs are ascending by gfn and disjoint.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct CheckpointV1 {
    /// Position among the trace's checkpoints, from 0.
    pub index: u32,
    /// The earlier checkpoint that this table lies over; `None`: a full table.
    pub parent: Option<u32>,
    /// The sample that was taken with it.
    pub sample: Option<u32>,
    /// Guest `CLOCK_MONOTONIC` in ns, estimated from the last clock record.
    pub guest_ns: GuestNs,
    /// Host time since the recording began, in ns.
    pub host_ns: HostNs,
    /// Where the guest has RAM, ascending and disjoint.
    pub ram: Vec<RamRangeV1>,
    /// What became of the pages.
    pub runs: Vec<PageRunV1>,
}

/// A range of guest-physical addresses, in bytes.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamRangeV1 {
    /// First byte.
    pub start: u64,
    /// Just past the last byte.
    pub end: u64,
}

/// Consecutive pages in one state.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRunV1 {
    /// Frame number of the first page: its address divided by 4096.
    pub gfn: u64,
    /// How many pages.
    pub count: u32,
    /// Their state.
    pub state: PageStateV1,
}

/// Where a page's bytes are.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageStateV1 {
    /// All its bytes are zero.
    Zero,
    /// The first page of the run is the stored page of this number, the next one the next, and so on.
    Stored(u32),
    /// Not kept.
    LeftOut(LeftOut),
}

archived_body!(CheckpointV1, Checkpoint, 1);

/// The current checkpoint.
pub type Checkpoint = CheckpointV1;
/// The current RAM range.
pub type RamRange = RamRangeV1;
/// The current run of pages.
pub type PageRun = PageRunV1;
/// The current state of pages.
pub type PageState = PageStateV1;
