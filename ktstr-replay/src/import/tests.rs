//! Files of each format, made here byte by byte.

use std::io::{self, Write};
use std::ops::Range;

use proptest::prelude::*;

use super::core::Core;
use super::flattened;
use super::source::Source;
use crate::memory::{LeftOut, Memory, MemoryError};
use crate::trace::record::PAGE_BYTES;
use crate::units::GuestPhys;

/// A file in memory.
pub(super) struct InMemory(pub Vec<u8>);

impl Source for InMemory {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let part = usize::try_from(at).ok().and_then(|at| self.0.get(at..at.checked_add(out.len())?));
        out.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn open(bytes: &[u8]) -> Core {
    Core::of(Box::new(InMemory(bytes.to_vec()))).unwrap()
}

fn page(fill: u8) -> [u8; PAGE_BYTES] {
    std::array::from_fn(|i| fill.wrapping_add((i / 64) as u8))
}

fn read(core: &Core, gfn: u64) -> Result<[u8; PAGE_BYTES], MemoryError> {
    let mut out = [0; PAGE_BYTES];
    core.read(GuestPhys(gfn * PAGE_BYTES as u64), &mut out).map(|()| out)
}

/// How a page is stored.
#[derive(Clone, Copy, Debug)]
enum Stored {
    Plain,
    Zlib,
    Zstd,
    Lzo,
    Snappy,
}

impl Stored {
    fn of(self, page: &[u8; PAGE_BYTES]) -> (u32, Vec<u8>) {
        match self {
            Self::Plain => (0, page.to_vec()),
            Self::Zlib => {
                let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                out.write_all(page).unwrap();
                (1, out.finish().unwrap())
            }
            Self::Zstd => (0x20, zstd::bulk::compress(page, 1).unwrap()),
            // Literals alone, as the compressors would write what has nothing twice. They would be longer than the page, so that this
            // page ends with a run: a copy from one byte before.
            Self::Lzo => {
                assert!(page[100..].iter().all(|byte| *byte == page[99]));
                let rest = PAGE_BYTES - 100;
                let long = rest - 2 - 31;
                let zeros = (long - 1) / 255;
                let mut out = vec![100 + 17];
                out.extend(&page[..100]);
                out.push(0b0010_0000);
                out.extend(vec![0; zeros]);
                out.extend([(long - zeros * 255) as u8, 0, 0, 0b0001_0001, 0, 0]);
                (2, out)
            }
            Self::Snappy => {
                assert!(page[60..].iter().all(|byte| *byte == page[59]));
                let mut out = vec![0x80, 0x20, 59 << 2];
                out.extend(&page[..60]);
                let mut rest = PAGE_BYTES - 60;
                while rest > 0 {
                    let now = rest.min(64);
                    out.extend([((now - 1) << 2 | 2) as u8, 1, 0]);
                    rest -= now;
                }
                (4, out)
            }
        }
    }
}

/// A kdump file: which frames are RAM, which of them it has, how each is stored.
fn kdump(frames: u64, ram: &[u64], pages: &[(u64, Stored, [u8; PAGE_BYTES])], level: u32) -> Vec<u8> {
    let mut out = vec![0u8; PAGE_BYTES];
    let put = |out: &mut Vec<u8>, at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(&mut out, 0, b"KDUMP   ");
    for (at, value) in [(8, 6u32), (428, PAGE_BYTES as u32), (432, 1), (436, 2), (440, frames as u32)] {
        put(&mut out, at, &value.to_le_bytes());
    }
    // The sub header, with a vmcoreinfo behind it in its block.
    let mut sub = vec![0u8; PAGE_BYTES];
    put(&mut sub, 8, &level.to_le_bytes());
    for (at, value) in [(32, PAGE_BYTES as u64 + 200), (40, 12), (96, frames)] {
        put(&mut sub, at, &value.to_le_bytes());
    }
    put(&mut sub, 200, b"OSRELEASE=1\n");
    out.extend(sub);
    for set in [ram.to_vec(), pages.iter().map(|(gfn, ..)| *gfn).collect::<Vec<_>>()] {
        let mut bitmap = vec![0u8; PAGE_BYTES];
        set.iter().for_each(|gfn| bitmap[(gfn / 8) as usize] |= 1 << (gfn % 8));
        out.extend(bitmap);
    }
    let mut data = Vec::new();
    let begin = out.len() + pages.len() * 24;
    for (_, how, page) in pages {
        let (flags, bytes) = how.of(page);
        out.extend(((begin + data.len()) as u64).to_le_bytes());
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend(flags.to_le_bytes());
        out.extend([0; 8]);
        data.extend(bytes);
    }
    out.extend(data);
    out
}

/// A page that begins with what is not repeated, and ends with what is.
fn run(fill: u8) -> [u8; PAGE_BYTES] {
    std::array::from_fn(|i| if i < 59 { (i as u8).wrapping_mul(7) ^ fill } else { fill })
}

/// Ranges by their ends.
fn ranges(ends: &[(u64, u64)]) -> Vec<Range<u64>> {
    ends.iter().map(|&(from, to)| from..to).collect()
}

#[test]
fn pages_of_a_kdump_core_are_read_however_they_are_stored() {
    let pages = [
        (2, Stored::Plain, page(1)),
        (3, Stored::Zlib, page(2)),
        (70, Stored::Zstd, page(3)),
        (71, Stored::Lzo, run(4)),
        (599, Stored::Snappy, run(5)),
    ];
    let file = kdump(600, &[2, 3, 4, 70, 71, 599], &pages, 31);
    let core = open(&file);
    assert_eq!(core.format(), "kdump-compressed core of dump level 31");
    assert_eq!(core.vmcoreinfo(), Some(&b"OSRELEASE=1\n"[..]));
    for (gfn, how, page) in &pages {
        assert_eq!(read(&core, *gfn).as_ref(), Ok(page), "{how:?}");
    }
    // A read across two pages, and again, out of what was kept.
    let mut across = [0; 16];
    core.read(GuestPhys(3 * PAGE_BYTES as u64 - 8), &mut across).unwrap();
    assert_eq!((&across[..8], &across[8..]), (&page(1)[PAGE_BYTES - 8..], &page(2)[..8]));
    // One that is RAM and was not written, and one that is no RAM.
    assert_eq!(core.absent(), ranges(&[(4, 5)]));
    assert!(matches!(read(&core, 4), Err(MemoryError::LeftOut { why: LeftOut::NotInCore, .. })));
    assert!(matches!(read(&core, 5), Err(MemoryError::OutOfRange { .. })));
    // Where only pages of zeros were not written, it is one of them.
    let mut file = kdump(600, &[2, 3, 4, 70, 71, 599], &pages, 1);
    let core = open(&file);
    assert_eq!((core.absent(), read(&core, 4)), (Vec::new(), Ok([0; PAGE_BYTES])));
    // Of a file that is incomplete by its own word nobody knows.
    file[424] = 8;
    let core = open(&file);
    assert!(core.is_incomplete());
    assert_eq!(core.absent(), ranges(&[(4, 5)]));
    assert!(matches!(read(&core, 4), Err(MemoryError::LeftOut { why: LeftOut::NotInCore, .. })));
}

#[test]
fn a_flattened_core_is_the_core() {
    let file = kdump(8, &[1], &[(1, Stored::Zlib, page(9))], 0);
    let mut flat = flattened::SIGNATURE.to_vec();
    flat.resize(4096, 0);
    // The header comes last, as makedumpfile writes it again when it knows all of it.
    let (head, rest) = file.split_at(PAGE_BYTES);
    for (offset, part) in [(PAGE_BYTES, rest), (0, head)] {
        flat.extend((offset as u64).to_be_bytes());
        flat.extend((part.len() as u64).to_be_bytes());
        flat.extend(part);
    }
    flat.extend([0xff; 16]);
    let core = open(&flat);
    assert_eq!(core.format(), "kdump-compressed core of dump level 0, flattened");
    assert_eq!(read(&core, 1), Ok(page(9)));
}

/// An ELF core of these segments: physical address, bytes in memory, bytes in the file.
fn elf(segments: &[(u64, u64, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    out.resize(64, 0);
    let put = |out: &mut Vec<u8>, at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(&mut out, 16, &[4, 0, 62, 0]);
    put(&mut out, 32, &64u64.to_le_bytes());
    put(&mut out, 54, &56u16.to_le_bytes());
    put(&mut out, 56, &(segments.len() as u16).to_le_bytes());
    let mut at = 64 + segments.len() as u64 * 56;
    for (paddr, size, bytes) in segments {
        out.extend([1, 0, 0, 0, 7, 0, 0, 0]);
        for word in [at, 0, *paddr, bytes.len() as u64, *size, 0] {
            out.extend(word.to_le_bytes());
        }
        at += bytes.len() as u64;
    }
    segments.iter().for_each(|(.., bytes)| out.extend(bytes));
    out
}

#[test]
fn an_elf_core_may_have_memory_twice_and_not_have_the_end_of_a_segment() {
    let pages = |fills: &[u8]| fills.iter().flat_map(|fill| page(*fill)).collect::<Vec<u8>>();
    let core = open(&elf(&[
        (0x4000, 0x1000, pages(&[3])),
        (0x1000, 0x3000, pages(&[1, 2])),
        (0x2000, 0x1000, pages(&[2])),
    ]));
    let found: Vec<_> = (1..6).map(|gfn| read(&core, gfn)).collect();
    assert_eq!(found[..2], [Ok(page(1)), Ok(page(2))]);
    assert!(matches!(found[2], Err(MemoryError::LeftOut { why: LeftOut::NotInCore, .. })));
    assert_eq!(found[3], Ok(page(3)));
    assert!(matches!(found[4], Err(MemoryError::OutOfRange { .. })));
    assert_eq!((core.ram(), core.absent()), (ranges(&[(0x1000, 0x5000)]), ranges(&[(3, 4)])));
}

#[test]
fn what_an_elf_core_claims_behind_its_end_is_not_there() {
    let mut long = elf(&[(0x1000, 0x3000, page(1).to_vec())]);
    // `p_filesz` of the first program header.
    long[96..104].copy_from_slice(&0x3000u64.to_le_bytes());
    let core = open(&long);
    assert_eq!(read(&core, 1), Ok(page(1)));
    assert_eq!(core.absent(), ranges(&[(2, 4)]));
    // A file of a few KiB can have holes for any memory.
    let mut wide = elf(&[(0x1000, 1 << 49, Vec::new())]);
    wide[96..104].copy_from_slice(&(1u64 << 49).to_le_bytes());
    let mut flat = flattened::SIGNATURE.to_vec();
    flat.resize(4096, 0);
    for (offset, part) in [(0u64, wide.as_slice()), (1 << 50, &wide[..0])] {
        flat.extend(offset.to_be_bytes());
        flat.extend((part.len() as u64).to_be_bytes());
        flat.extend(part);
    }
    flat.extend([0xff; 16]);
    let error = Core::of(Box::new(InMemory(flat))).err().expect("too much memory");
    let why = std::error::Error::source(&error).map(ToString::to_string);
    assert_eq!(why.as_deref(), Some("it claims more than 16 TiB of memory"));
}

#[test]
fn a_page_of_an_elf_core_may_be_in_two_segments() {
    let (first, second) = (page(1), page(2));
    let core = open(&elf(&[
        (0x1000, 0x1800, [&first[..], &second[..0x800]].concat()),
        (0x2800, 0x800, second[0x800..].to_vec()),
    ]));
    assert_eq!((read(&core, 1), read(&core, 2)), (Ok(first), Ok(second)));
    assert_eq!((core.populated(), core.absent()), (ranges(&[(0x1000, 0x3000)]), Vec::new()));
}

#[test]
fn what_is_no_core_is_said() {
    let said = |bytes: &[u8]| {
        let error = Core::of(Box::new(InMemory(bytes.to_vec()))).err().expect("no core");
        format!("{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default())
    };
    assert!(said(b"").starts_with("it is no core file"));
    assert!(said(b"#!/bin/sh\n").starts_with("it is no core file"));
    let mut program = elf(&[]);
    program[16] = 2;
    assert!(said(&program).contains("no core of an x86-64 machine"));
    assert!(said(&elf(&[])).contains("no memory"));
    let mut split = kdump(8, &[1], &[], 0);
    split[PAGE_BYTES + 12] = 1;
    assert!(said(&split).contains("--reassemble"));
    let mut large = kdump(8, &[1], &[], 0);
    large[PAGE_BYTES + 96..PAGE_BYTES + 104].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(said(&large).contains("no room for the 18446744073709551615 page frames"));
}

proptest! {
    /// Whatever bytes of a core are others, opening and reading it ends, and nothing panics.
    #[test]
    fn a_damaged_core_is_read_as_far_as_it_goes(
        which in 0usize..3,
        damage in prop::collection::vec((0usize..20_000, any::<u8>()), 0..8),
        cut in prop::option::of(0usize..30_000),
    ) {
        let dump = kdump(600, &[2, 3, 71], &[(2, Stored::Zlib, page(1)), (3, Stored::Lzo, run(2)), (71, Stored::Snappy, run(3))], 31);
        let mut file = match which {
            0 => dump,
            1 => elf(&[(0x1000, 0x3000, page(1).to_vec()), (0x8000, 0x1000, page(2).to_vec())]),
            _ => {
                let mut flat = flattened::SIGNATURE.to_vec();
                flat.resize(4096, 0);
                flat.extend(0u64.to_be_bytes());
                flat.extend((dump.len() as u64).to_be_bytes());
                flat.extend(dump);
                flat.extend([0xff; 16]);
                flat
            }
        };
        for (at, value) in damage {
            let len = file.len();
            file[at % len] = value;
        }
        file.truncate(cut.unwrap_or(file.len()));
        if let Ok(core) = Core::of(Box::new(InMemory(file))) {
            for gfn in [0, 1, 2, 3, 8, 71, u64::MAX / 4096] {
                let _ = read(&core, gfn);
            }
            let _ = (core.absent().len(), core.populated().len(), core.vcpus().len());
        }
    }
}
