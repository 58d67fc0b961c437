//! ELF cores: where they have which memory, and their notes. Sources: System V ABI, chapters 4 and 5; `include/uapi/linux/elf.h`.

use std::io;
use std::ops::Range;

use super::source::{Source, Words};

const HEADER: u64 = 64;
const PROGRAM: u64 = 56;
const SECTION: u64 = 64;
/// `e_phnum` where the number of program headers does not fit: it is in section header 0 then (`PN_XNUM`).
const MANY: u16 = 0xffff;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// Most program headers.
const MAX_PROGRAMS: u64 = 1 << 20;
/// Longest notes.
const MAX_NOTES_BYTES: u64 = 64 << 20;

/// A part of physical memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Physical addresses that it is of.
    pub memory: Range<u64>,
    /// Where its first byte is in the file.
    pub at: u64,
    /// So many of its bytes are in the file, from the first on, whatever the header claims.
    pub bytes: u64,
}

/// What an ELF core says of itself.
pub(super) struct Elf {
    /// Ascending by where they begin.
    pub segments: Vec<Segment>,
    /// The contents of all note segments, each padded to 8 bytes.
    pub notes: Vec<u8>,
}

/// # Errors
/// What is wrong with its headers.
pub(super) fn read(file: &dyn Source) -> io::Result<Elf> {
    let bad = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text);
    let cut = || bad("its headers are cut");
    let raw = file.take(0, HEADER, HEADER)?;
    let header = Words(&raw);
    // 64 bits, little-endian; ET_CORE; EM_X86_64.
    if raw.get(4..6) != Some(&[2, 1]) || header.u16(16) != Some(4) || header.u16(18) != Some(62) {
        return Err(bad("it is no core of an x86-64 machine"));
    }
    let (programs, sections) = header.u64(32).zip(header.u64(40)).ok_or_else(cut)?;
    if header.u16(54).map(u64::from) != Some(PROGRAM) {
        return Err(bad("its program headers are of another size"));
    }
    let count = match header.u16(56).ok_or_else(cut)? {
        MANY => {
            let section = file.take(sections, SECTION, SECTION)?;
            u64::from(Words(&section).u32(44).ok_or_else(cut)?)
        }
        count => u64::from(count),
    };
    if count > MAX_PROGRAMS {
        return Err(bad("it has more program headers than are read"));
    }
    let raw = file.take(programs, count * PROGRAM, MAX_PROGRAMS * PROGRAM)?;
    let mut elf = Elf { segments: Vec::new(), notes: Vec::new() };
    for program in raw.chunks_exact(PROGRAM as usize).map(Words) {
        let word = |at| program.u64(at).ok_or_else(cut);
        let (at, start, bytes, size) = (word(8)?, word(24)?, word(32)?, word(40)?);
        match program.u32(0) {
            Some(PT_LOAD) => {
                let end =
                    start.checked_add(size.max(bytes)).ok_or_else(|| bad("a segment ends beyond memory"))?;
                // What it claims behind the file's end is not there.
                let bytes = bytes.min(file.bytes().saturating_sub(at));
                if start < end {
                    elf.segments.push(Segment { memory: start..end, at, bytes });
                }
            }
            Some(PT_NOTE) => {
                let room = MAX_NOTES_BYTES.saturating_sub(elf.notes.len() as u64);
                elf.notes.extend(file.take(at, bytes, room)?);
                elf.notes.resize(elf.notes.len().next_multiple_of(8), 0);
            }
            _ => {}
        }
    }
    elf.segments.sort_by_key(|segment| segment.memory.start);
    Ok(elf)
}
