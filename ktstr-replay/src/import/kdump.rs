//! kdump-compressed cores, as makedumpfile and QEMU's `dump-guest-memory -z` write them.
//!
//! ```text
//! block 0       header: "KDUMP   ", sizes in blocks, number of page frames
//! block 1..     sub header: dump level, where vmcoreinfo and the notes are
//! then          two bitmaps, a bit for each frame: which are RAM, and which are in the file
//! then          a descriptor for each frame that is in the file: offset, size, how it is compressed
//! then          the pages
//! ```
//!
//! Sources: `diskdump_mod.h` and `IMPLEMENTATION` of makedumpfile; `include/sysemu/dump.h` of QEMU.

use std::io;
use std::ops::Range;

use flate2::{Decompress, FlushDecompress, Status};

use super::source::{Source, Words};
use super::{lzo, snappy};
use crate::trace::record::PAGE_BYTES;

/// How such a file begins.
pub(super) const SIGNATURE: &[u8; 8] = b"KDUMP   ";
const HEADER_BYTES: u64 = 464;
const SUB_HEADER_BYTES: u64 = 104;
const DESCRIPTOR: u64 = 24;
/// Longest bitmap that is read: of 16 TiB.
const MAX_BITMAP_BYTES: u64 = 512 << 20;
/// Longest note and vmcoreinfo.
const MAX_NOTES_BYTES: u64 = 64 << 20;
/// Most pieces that memory is in: each takes sixteen bytes of ours and at least a quarter of one of the file's.
const MAX_PIECES: u64 = 1 << 24;
/// Words of a bitmap whose bits are counted together.
const COUNTED: usize = 8;

/// Bits of a page descriptor.
const ZLIB: u32 = 1;
const LZO: u32 = 2;
const SNAPPY: u32 = 4;
const ZSTD: u32 = 0x20;
const COMPRESSED: u32 = ZLIB | LZO | SNAPPY | ZSTD;
/// Bit of the header: the file ends before all was written.
const INCOMPLETE: u32 = 8;
/// Of the dump level: pages of zeros are not in the file.
const WITHOUT_ZERO: u32 = 1;

/// A kdump-compressed core.
pub(super) struct Kdump {
    /// Frames that are RAM.
    ram: Bitmap,
    /// Frames that are in the file.
    there: Bitmap,
    /// Where the descriptors begin.
    descriptors: u64,
    /// Which pages were not written: a sum of `-d` of makedumpfile.
    pub level: u32,
    /// The file ends before all was written.
    pub incomplete: bool,
    /// Its vmcoreinfo.
    pub vmcoreinfo: Option<Vec<u8>>,
    /// Its other notes.
    pub notes: Vec<u8>,
}

impl Kdump {
    /// # Errors
    /// What is wrong with its headers, or what they have that is not supported.
    pub(super) fn read(file: &dyn Source) -> io::Result<Self> {
        let bad = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let cut = || bad("its headers are cut".to_owned());
        let raw = file.take(0, HEADER_BYTES, HEADER_BYTES)?;
        let number = |at| Words(&raw).u32(at).ok_or_else(cut);
        let (version, status, block) = (number(8)?, number(424)?, u64::from(number(428)?));
        let (sub_blocks, bitmap_blocks) = (u64::from(number(432)?), u64::from(number(436)?));
        if block != PAGE_BYTES as u64 {
            return Err(bad(format!("its pages are of {block} bytes, and not of {PAGE_BYTES}")));
        }
        let sub = file.take(block, SUB_HEADER_BYTES, SUB_HEADER_BYTES)?;
        let sub = Words(&sub);
        let level = if version >= 1 { sub.u32(8).ok_or_else(cut)? } else { 0 };
        if version >= 2 && sub.u32(12).ok_or_else(cut)? != 0 {
            return Err(bad(
                "it is one of several parts: `makedumpfile --reassemble` makes one file of them".to_owned(),
            ));
        }
        let part = |since: u32, at: usize| -> io::Result<Vec<u8>> {
            let (offset, bytes) = (sub.u64(at).ok_or_else(cut)?, sub.u64(at + 8).ok_or_else(cut)?);
            if version < since || offset == 0 {
                return Ok(Vec::new());
            }
            file.take(offset, bytes, MAX_NOTES_BYTES)
        };
        let frames = if version >= 6 { sub.u64(96).ok_or_else(cut)? } else { u64::from(number(440)?) };
        let bitmaps = block.saturating_mul(1 + sub_blocks);
        let bitmap_bytes = block.saturating_mul(bitmap_blocks) / 2;
        if frames.div_ceil(8) > bitmap_bytes {
            return Err(bad(format!("its bitmap has no room for the {frames} page frames that it claims")));
        }
        let bitmap = |at: u64| -> io::Result<Bitmap> {
            Ok(Bitmap::new(file.take(at, frames.div_ceil(8), MAX_BITMAP_BYTES)?, frames))
        };
        let (ram, there) = (bitmap(bitmaps)?, bitmap(bitmaps.saturating_add(bitmap_bytes))?);
        if ram.pieces().max(there.pieces()) > MAX_PIECES {
            return Err(bad(format!("its memory is in more than {MAX_PIECES} pieces")));
        }
        Ok(Self {
            ram,
            there,
            descriptors: bitmaps.saturating_add(bitmap_bytes.saturating_mul(2)),
            level,
            incomplete: status & INCOMPLETE != 0,
            vmcoreinfo: Some(part(3, 32)?).filter(|info| !info.is_empty()),
            notes: part(4, 48)?,
        })
    }

    /// Frames that are RAM, ascending and disjoint.
    pub(super) fn ram(&self) -> Vec<Range<u64>> {
        self.ram.ranges()
    }

    /// Frames that are in the file, likewise.
    pub(super) fn there(&self) -> Vec<Range<u64>> {
        self.there.ranges()
    }

    /// Whether a frame of RAM that is not in the file is known to be zero: only pages of zeros were not written. The bitmap of a file
    /// that ends before all was written may lack others.
    pub(super) fn absent_is_zero(&self) -> bool {
        self.level == WITHOUT_ZERO && !self.incomplete
    }

    /// Fill `page` with the page at `gfn`; `None`: the file does not have it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn page(
        &self,
        file: &dyn Source,
        gfn: u64,
        page: &mut [u8; PAGE_BYTES],
    ) -> Option<Result<(), String>> {
        let nth = self.there.rank(gfn)?;
        Some(self.nth_page(file, nth, page))
    }

    fn nth_page(&self, file: &dyn Source, nth: u64, page: &mut [u8; PAGE_BYTES]) -> Result<(), String> {
        let at = self.descriptors.saturating_add(nth.saturating_mul(DESCRIPTOR));
        let raw =
            file.take(at, DESCRIPTOR, DESCRIPTOR).map_err(|error| format!("its descriptor: {error}"))?;
        let words = Words(&raw);
        let (Some(offset), Some(bytes), Some(flags)) = (words.u64(0), words.u32(8), words.u32(12)) else {
            return Err("its descriptor is cut".to_owned());
        };
        // A descriptor of an incomplete file may never have been written.
        if offset == 0 {
            return Err("its descriptor is empty".to_owned());
        }
        let stored = file.take(offset, bytes.into(), PAGE_BYTES as u64).map_err(|error| error.to_string())?;
        let whole = match flags & COMPRESSED {
            0 => {
                let same = <&[u8; PAGE_BYTES]>::try_from(stored.as_slice()).ok();
                same.map(|same| page.copy_from_slice(same))
            }
            ZLIB => zlib(&stored, page),
            LZO => lzo::decompress(&stored, page),
            SNAPPY => snappy::decompress(&stored, page),
            ZSTD => zstd::bulk::decompress_to_buffer(&stored, page.as_mut_slice())
                .ok()
                .filter(|bytes| *bytes == PAGE_BYTES)
                .map(drop),
            other => return Err(format!("it is compressed in a way that is not known ({other:#x})")),
        };
        whole.ok_or_else(|| format!("its {bytes} bytes do not decompress to a page"))
    }
}

/// Decompress a zlib stream that gives the whole page.
fn zlib(from: &[u8], page: &mut [u8; PAGE_BYTES]) -> Option<()> {
    let mut stream = Decompress::new(true);
    let ended = stream.decompress(from, page, FlushDecompress::Finish).ok()? == Status::StreamEnd;
    (ended && stream.total_out() == PAGE_BYTES as u64).then_some(())
}

/// A bit for each frame, which can be counted.
struct Bitmap {
    words: Vec<u64>,
    /// How many bits are set before each group of words.
    before: Vec<u64>,
}

impl Bitmap {
    /// Of `bytes`, the first `bits` bits, the lowest of each byte first.
    fn new(bytes: Vec<u8>, bits: u64) -> Self {
        let word = |chunk: &[u8]| {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            u64::from_le_bytes(word)
        };
        let mut words: Vec<u64> = bytes.chunks(8).map(word).collect();
        let rest = bits % 64;
        if rest > 0
            && let Some(last) = words.last_mut()
        {
            *last &= (1 << rest) - 1;
        }
        let mut count = 0;
        let before = words.chunks(COUNTED).map(|group| {
            let before = count;
            count += group.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
            before
        });
        let before = before.collect();
        Self { words, before }
    }

    /// How many bits are set before the one at `bit`, if that is set.
    fn rank(&self, bit: u64) -> Option<u64> {
        let place = usize::try_from(bit / 64).ok()?;
        let word = *self.words.get(place)?;
        if word >> (bit % 64) & 1 == 0 {
            return None;
        }
        let group = place / COUNTED;
        let others = self.words.get(group * COUNTED..place)?.iter().map(|word| u64::from(word.count_ones()));
        let below = word & ((1 << (bit % 64)) - 1);
        Some(self.before.get(group)? + others.sum::<u64>() + u64::from(below.count_ones()))
    }

    /// How many ranges there are of bits that are set.
    fn pieces(&self) -> u64 {
        let mut last = 0u64;
        let begun = self.words.iter().map(|&word| {
            // Bits that are set after one that is not.
            let begins = word & !((word << 1) | last);
            last = word >> 63;
            u64::from(begins.count_ones())
        });
        begun.sum()
    }

    /// The bits that are set, as ranges.
    fn ranges(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let mut add = |bit: u64, len: u64| match ranges.last_mut() {
            Some(last) if last.end == bit => last.end += len,
            _ => ranges.push(bit..bit + len),
        };
        for (place, word) in (0u64..).zip(&self.words) {
            match *word {
                0 => {}
                u64::MAX => add(place * 64, 64),
                word => (0..64).filter(|bit| word >> bit & 1 == 1).for_each(|bit| add(place * 64 + bit, 1)),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_counted_as_they_are_made(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let bits = bytes.len() as u64 * 8;
            let bitmap = Bitmap::new(bytes, bits);
            prop_assert_eq!(bitmap.pieces(), bitmap.ranges().len() as u64);
        }
    }
}
