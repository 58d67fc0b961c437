//! The decompressed kernel: an ELF, followed by its relocations.

use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, elf};

use super::KaslrError;
use super::place::LINK_PHYSICAL;
use super::relocations::Relocations;

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
