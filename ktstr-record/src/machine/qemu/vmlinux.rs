//! The decompressed kernel: an ELF, followed by its relocations.

use std::io;
use std::path::PathBuf;

use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, elf};

/// Where the kernel is linked to lie (`LOAD_PHYSICAL_ADDR`), and the least address that its own loader chooses.
pub(super) const LINK_PHYSICAL: u64 = 16 << 20;
/// `__START_KERNEL_map`: the virtual address that physical address 0 is linked to.
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// Why a kernel is left to its own loader.
#[derive(Debug, thiserror::Error)]
pub(super) enum KaslrError {
    /// A file cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel is not built as expected.
    #[error("the kernel {0}")]
    Kernel(&'static str),
    /// RAM is too small to choose a place.
    #[error("no place for {needed_bytes} bytes of kernel below {limit:#x}")]
    NoPlace {
        /// Bytes of the kernel with its `.bss`.
        needed_bytes: u64,
        /// End of the RAM that it may lie in.
        limit: u64,
    },
    /// RAM cannot be written.
    #[error(transparent)]
    Memory(#[from] ktstr_replay::memory::MemoryError),
}

/// A kernel's segments as they lie in memory.
#[derive(Debug)]
pub(super) struct Elf<'a> {
    segments: Vec<Segment<'a>>,
    relocations: Relocations,
    /// Where it is entered, in bytes from its begin.
    pub(super) entry: u64,
    /// Its length in memory, with `.bss`.
    pub(super) bytes: u64,
}

#[derive(Debug)]
struct Segment<'a> {
    /// Bytes from the kernel's begin.
    at: u64,
    bytes: &'a [u8],
}

/// The sections of a vmlinux say where the file ends; what follows are the relocations.
fn end_of_elf(header: &elf::FileHeader64<Endianness>, file: &[u8]) -> object::Result<u64> {
    let endian = Endianness::Little;
    let sections = header.section_headers(endian, file)?;
    let table = header.e_shoff(endian) + sections.len() as u64 * u64::from(header.e_shentsize(endian));
    let ends = sections.iter().filter_map(|section| section.file_range(endian)).map(|(at, len)| at + len);
    Ok(ends.chain([table]).max().unwrap_or_default())
}

impl<'a> Elf<'a> {
    pub(super) fn parse(file: &'a [u8]) -> Result<Self, KaslrError> {
        const BROKEN: KaslrError = KaslrError::Kernel("has a broken ELF structure");
        let broken = |_| BROKEN;
        let endian = Endianness::Little;
        let header = elf::FileHeader64::<Endianness>::parse(file).map_err(broken)?;
        let mut segments = Vec::new();
        let mut end = LINK_PHYSICAL;
        for program in header.program_headers(endian, file).map_err(broken)? {
            if program.p_type(endian) != elf::PT_LOAD {
                continue;
            }
            let at = program.p_paddr(endian).checked_sub(LINK_PHYSICAL);
            let at = at.ok_or(KaslrError::Kernel("is not linked to lie at 16 MiB and above"))?;
            let bytes = program.data(endian, file).map_err(|()| BROKEN)?;
            let last = program.p_paddr(endian).checked_add(program.p_memsz(endian));
            end = end.max(last.ok_or(KaslrError::Kernel("has a segment without an end"))?);
            segments.push(Segment { at, bytes });
        }
        let bytes = end - LINK_PHYSICAL;
        let entry = header.e_entry(endian).checked_sub(LINK_PHYSICAL).filter(|&entry| entry < bytes);
        let tail =
            usize::try_from(end_of_elf(header, file).map_err(broken)?).ok().and_then(|end| file.get(end..));
        let relocations = Relocations::parse(tail.unwrap_or_default())
            .ok_or(KaslrError::Kernel("has no relocations behind it (CONFIG_RANDOMIZE_BASE is off?)"))?;
        Ok(Self {
            segments,
            relocations,
            entry: entry.ok_or(KaslrError::Kernel("is entered outside of itself"))?,
            bytes,
        })
    }

    /// Its segments for virtual addresses that are higher by `offset`: where each lies, in bytes from the kernel's
    /// begin, and what is there.
    pub(super) fn relocated(&self, offset: u64) -> Result<Vec<(u64, Vec<u8>)>, KaslrError> {
        let mut placed: Vec<(u64, Vec<u8>)> =
            self.segments.iter().map(|s| (s.at, s.bytes.to_vec())).collect();
        self.relocations.apply(&mut placed, offset)?;
        Ok(placed)
    }
}

/// Where values are that have to grow (or, the inverse ones, shrink) with the kernel's virtual address.
///
/// A build puts them behind a vmlinux before it compresses both:
///
/// ```text
/// 0 u32, addresses of 64-bit values, 0 u32, [addresses of inverse 32-bit values, 0 u32,] addresses of 32-bit values
/// ```
///
/// An address is the lower half of a virtual address, to be sign-extended. The inverse values, relative to a per-CPU
/// segment at virtual address 0, are gone since Linux 6.15. Source: `arch/x86/tools/relocs.c` (`emit_relocs`).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Relocations {
    wide: Vec<u32>,
    inverse: Vec<u32>,
    narrow: Vec<u32>,
}

impl Relocations {
    /// `None` if `tail` is not of that form.
    pub(super) fn parse(tail: &[u8]) -> Option<Self> {
        let (words, []) = tail.as_chunks::<4>() else { return None };
        let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let (0, lists) = words.split_first().map(|(first, rest)| (*first, rest))? else { return None };
        let lists: Vec<Vec<u32>> = lists.split(|&word| word == 0).map(<[u32]>::to_vec).collect();
        let [wide, between @ .., narrow] = lists.as_slice() else { return None };
        let inverse = match between {
            [] => Vec::new(),
            [inverse] => inverse.clone(),
            _ => return None,
        };
        (!wide.is_empty() && !narrow.is_empty()).then(|| Self {
            wide: wide.clone(),
            inverse,
            narrow: narrow.clone(),
        })
    }

    /// Change all values in `segments` (bytes from the kernel's begin, content) for virtual addresses that are higher by
    /// `offset`, less than 1 GiB.
    pub(super) fn apply(&self, segments: &mut [(u64, Vec<u8>)], offset: u64) -> Result<(), KaslrError> {
        let offset = u32::try_from(offset).map_err(|_| KaslrError::Kernel("cannot lie that high"))?;
        // Anything else than an address of the kernel, virtual or physical, where one is due means that the lists are not
        // what they seem.
        let unexpected = KaslrError::Kernel("has relocations of another form");
        for &at in &self.wide {
            let value: &mut [u8; 8] =
                value(segments, at).ok_or(KaslrError::Kernel("relocates what it has not"))?;
            let moved = u64::from_le_bytes(*value);
            if (1 << 32..KERNEL_MAP).contains(&moved) {
                return Err(unexpected);
            }
            *value = moved.wrapping_add(offset.into()).to_le_bytes();
        }
        let narrow = self.narrow.iter().map(|at| (at, offset));
        for (&at, by) in narrow.chain(self.inverse.iter().map(|at| (at, offset.wrapping_neg()))) {
            let value: &mut [u8; 4] =
                value(segments, at).ok_or(KaslrError::Kernel("relocates what it has not"))?;
            *value = u32::from_le_bytes(*value).wrapping_add(by).to_le_bytes();
        }
        Ok(())
    }
}

/// The `N` bytes at the virtual address whose lower half is `at`.
fn value<const N: usize>(segments: &mut [(u64, Vec<u8>)], at: u32) -> Option<&mut [u8; N]> {
    // Sign-extended, less `KERNEL_MAP`, less where the kernel is linked to begin.
    let at = u64::from(at).checked_sub(KERNEL_MAP & u64::from(u32::MAX))?.checked_sub(LINK_PHYSICAL)?;
    segments.iter_mut().find_map(|(begin, bytes)| {
        let within = usize::try_from(at.checked_sub(*begin)?).ok()?;
        bytes.get_mut(within..)?.first_chunk_mut()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tail(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn both_forms_are_told_apart() {
        let parsed = |words: &[u32]| Relocations::parse(&tail(words));
        let new = Relocations { wide: vec![1, 2], inverse: vec![], narrow: vec![3] };
        assert_eq!(parsed(&[0, 1, 2, 0, 3]), Some(new));
        let old = Relocations { wide: vec![1], inverse: vec![2], narrow: vec![3] };
        assert_eq!(parsed(&[0, 1, 0, 2, 0, 3]), Some(old));
        for other in [&[][..], &[0], &[1, 2], &[0, 1], &[0, 1, 0], &[0, 1, 0, 2, 0, 3, 0, 4]] {
            assert_eq!(parsed(other), None, "{other:?}");
        }
        assert_eq!(Relocations::parse(&[0; 5]), None);
    }

    #[test]
    fn values_move_by_the_offset_and_no_others() {
        let relocations = Relocations { wide: vec![0x8100_0008], inverse: vec![], narrow: vec![0x8120_0002] };
        let mut segments = vec![(0, vec![0; 16]), (0x20_0000, vec![0xff; 8])];
        segments[0].1[8..].copy_from_slice(&0xffff_ffff_8123_4567_u64.to_le_bytes());
        segments[1].1[2..6].copy_from_slice(&0x8100_0010_u32.to_le_bytes());
        relocations.apply(&mut segments, 0x1a0_0000).expect("in the segments");
        assert_eq!(segments[0].1[..8], [0; 8]);
        assert_eq!(segments[0].1[8..], 0xffff_ffff_82c3_4567_u64.to_le_bytes());
        assert_eq!(segments[1].1, [[0xff, 0xff], [0x10, 0], [0xa0, 0x82], [0xff, 0xff]].concat());
    }

    #[test]
    fn what_is_no_address_or_not_there_is_refused() {
        let text = |wide| {
            let relocations = Relocations { wide: vec![wide], inverse: vec![], narrow: vec![] };
            relocations.apply(&mut [(0, vec![7; 16])], 0x20_0000).unwrap_err().to_string()
        };
        assert_eq!(text(0x8100_0000), "the kernel has relocations of another form");
        assert_eq!(text(0x8100_0009), "the kernel relocates what it has not");
        assert_eq!(text(0x7fff_ffff), "the kernel relocates what it has not");
    }

    proptest! {
        #[test]
        fn no_tail_panics(words in proptest::collection::vec(0_u32..4, 0..20), offset: u64) {
            let words: Vec<u32> = words.into_iter().map(|w| if w == 0 { 0 } else { 0x80ff_ffff + w }).collect();
            if let Some(relocations) = Relocations::parse(&tail(&words)) {
                let _any = relocations.apply(&mut [(0, vec![0xff; 9])], offset);
            }
        }
    }
}
