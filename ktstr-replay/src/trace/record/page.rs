//! Stored pages of guest memory.

use rkyv::{Archive, Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::trace::body::archived_body;

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

impl PageChunkV1 {
    /// The bytes of stored page `number`; `None` if it is not in this chunk.
    pub fn page(&self, number: u32) -> Option<&[u8; PAGE_BYTES]> {
        let slot = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.bytes.get(slot.checked_mul(PAGE_BYTES)?..)?.first_chunk()
    }

    /// Whether there are 1 to 64 pages and each one has its id.
    pub fn is_sound(&self) -> bool {
        (1..=MAX_CHUNK_PAGES).contains(&self.ids.len())
            && self.bytes.len() == self.ids.len() * PAGE_BYTES
            && self.bytes.chunks_exact(PAGE_BYTES).zip(&self.ids).all(|(page, id)| PageId::of(page) == *id)
    }
}

archived_body!(PageChunkV1, PageChunk, 1);

/// The current page chunk.
pub type PageChunk = PageChunkV1;
