//! Headers of an ELF64 core.

/// Bytes of the ELF header.
pub(super) const HEADER: u64 = 64;
/// Bytes of a program header.
pub(super) const PROGRAM: u64 = 56;
/// Bytes of a section header.
pub(super) const SECTION: u64 = 64;
/// `e_phnum` where the number of program headers does not fit: it is in section header 0 then (`PN_XNUM`).
const MANY: u16 = 0xffff;

pub(super) const PT_LOAD: u32 = 1;
pub(super) const PT_NOTE: u32 = 4;

/// A program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub kind: u32,
    pub offset: u64,
    pub vaddr: u64,
    pub paddr: u64,
    /// In the file and in memory.
    pub bytes: u64,
}

/// How long all headers are together, for `programs` program headers.
pub(super) fn headers_bytes(programs: u64) -> u64 {
    HEADER + SECTION + programs.saturating_mul(PROGRAM)
}

/// The headers. Source: System V ABI, chapters 4 and 5; `include/uapi/linux/elf.h`.
pub(super) fn headers(programs: &[Program]) -> Vec<u8> {
    let count = programs.len();
    let many = count >= usize::from(MANY);
    let mut out = Vec::with_capacity(headers_bytes(count as u64) as usize);
    // 64 bits, little-endian, version 1, System V.
    out.extend_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut halves =
        |halves: &[u16]| halves.iter().for_each(|half| out.extend_from_slice(&half.to_le_bytes()));
    // ET_CORE, EM_X86_64.
    halves(&[4, 62]);
    out.extend_from_slice(&1u32.to_le_bytes());
    // Entry point, program headers, section headers.
    for word in [0, HEADER + SECTION, if many { HEADER } else { 0 }] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&0u32.to_le_bytes());
    let number = if many { MANY } else { count as u16 };
    let sections = if many { [SECTION as u16, 1, 0] } else { [0, 0, 0] };
    for half in [HEADER as u16, PROGRAM as u16, number].into_iter().chain(sections) {
        out.extend_from_slice(&half.to_le_bytes());
    }
    // Section header 0: `sh_info` is the number of program headers, where `e_phnum` has no room for it.
    let mut section = [0u8; SECTION as usize];
    if many {
        section[44..48].copy_from_slice(&(count as u32).to_le_bytes());
    }
    out.extend_from_slice(&section);
    for program in programs {
        out.extend_from_slice(&program.kind.to_le_bytes());
        // Read, write, execute: as kdump has it.
        out.extend_from_slice(&(if program.kind == PT_LOAD { 7u32 } else { 0 }).to_le_bytes());
        let Program { offset, vaddr, paddr, bytes, .. } = *program;
        for word in [offset, vaddr, paddr, bytes, bytes, 0] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    out
}
