//! vmlinux: an ELF whose segments go to their physical addresses.

use std::borrow::Cow;
use std::ops::Range;

use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, elf};

use super::{Loaded, Protocol};
use crate::machine::kvm::boot::build::Region;
use crate::machine::kvm::boot::error::BootError;

/// The note that says where a kernel is entered by PVH (`XEN_ELFNOTE_PHYS32_ENTRY`). Source: `xen/include/public/elfnote.h`.
const PVH_ENTRY: elf::NoteType = elf::NoteType(18);
/// The kernel takes no initramfs beyond, as its default for a setup header says (`initrd_addr_max` of `header.S`).
const INITRAMFS_MAX: u64 = 0x7fff_ffff;

const BROKEN: BootError = BootError::Kernel("has a broken ELF structure");

pub(super) fn load(image: &[u8], protocol: Protocol) -> Result<Loaded<'_>, BootError> {
    let endian = Endianness::Little;
    let header = elf::FileHeader64::<Endianness>::parse(image)
        .map_err(|_| BootError::Kernel("is not a 64-bit ELF"))?;
    if header.e_machine(endian) != elf::EM_X86_64 {
        return Err(BootError::Kernel("is an ELF for another CPU than x86-64"));
    }
    let (mut regions, mut span, mut pvh_entry) = (Vec::new(), None::<Range<u64>>, None);
    for program in header.program_headers(endian, image).map_err(|_| BROKEN)? {
        match program.p_type(endian) {
            elf::PT_LOAD => {
                let at = program.p_paddr(endian);
                let end = at.checked_add(program.p_memsz(endian)).ok_or(BROKEN)?;
                if program.p_filesz(endian) > program.p_memsz(endian) {
                    return Err(BROKEN);
                }
                let before = span.unwrap_or(at..end);
                span = Some(before.start.min(at)..before.end.max(end));
                regions.push(Region {
                    at,
                    bytes: Cow::Borrowed(program.data(endian, image).map_err(|()| BROKEN)?),
                });
            }
            elf::PT_NOTE => {
                let mut notes = program.notes(endian, image).map_err(|_| BROKEN)?.ok_or(BROKEN)?;
                while let Some(note) = notes.next().map_err(|_| BROKEN)? {
                    if note.name() == b"Xen" && note.n_type(endian) == PVH_ENTRY {
                        pvh_entry = address(note.desc());
                    }
                }
            }
            _ => {}
        }
    }
    let entry = match protocol {
        Protocol::Linux64 => header.e_entry(endian),
        Protocol::Pvh => pvh_entry.ok_or(BootError::Kernel(
            "has no note of an entry by PVH (CONFIG_PVH is off?); enter it by its 64-bit entry",
        ))?,
    };
    let span = span.filter(|span| span.contains(&entry));
    let span = span.ok_or(BootError::Kernel("is entered outside of its segments"))?;
    Ok(Loaded { regions, span, entry, setup_header: None, initramfs_max: INITRAMFS_MAX })
}

/// A number of 4 or 8 bytes.
fn address(desc: &[u8]) -> Option<u64> {
    match desc.len() {
        4 => Some(u32::from_le_bytes(desc.try_into().ok()?).into()),
        8 => Some(u64::from_le_bytes(desc.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
pub(in crate::machine::kvm::boot) mod tests {
    use super::super::{Loaded, Protocol};

    /// A kernel of 4 bytes in one page at 16 MiB.
    pub(in crate::machine::kvm::boot) fn tiny_elf() -> Vec<u8> {
        tiny(62, 16 << 20, &[])
    }

    fn error(image: &[u8], protocol: Protocol) -> String {
        Loaded::new(image, protocol).unwrap_err().to_string()
    }

    /// A file header and two program headers: what a kernel of `bytes` at 16 MiB has, entered at its first byte.
    fn tiny(machine: u16, entry: u64, note: &[u8]) -> Vec<u8> {
        let mut elf = Vec::new();
        elf.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        for half in [2, machine] {
            elf.extend_from_slice(&half.to_le_bytes());
        }
        elf.extend_from_slice(&1_u32.to_le_bytes());
        for word in [entry, 64, 0] {
            elf.extend_from_slice(&word.to_le_bytes());
        }
        elf.extend_from_slice(&0_u32.to_le_bytes());
        for half in [64_u16, 56, 2, 64, 0, 0] {
            elf.extend_from_slice(&half.to_le_bytes());
        }
        for (kind, offset, at, len, memory) in
            [(1_u32, 176, 16_u64 << 20, 4, 0x1000_u64), (4, 180, 0, note.len() as u64, note.len() as u64)]
        {
            elf.extend_from_slice(&kind.to_le_bytes());
            elf.extend_from_slice(&5_u32.to_le_bytes());
            for word in [offset, 0xffff_ffff_8100_0000, at, len, memory, 4] {
                elf.extend_from_slice(&word.to_le_bytes());
            }
        }
        elf.extend_from_slice(&[0xf4; 4]);
        elf.extend_from_slice(note);
        elf
    }

    fn pvh_note(desc: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [4, desc.len() as u32, 18] {
            note.extend_from_slice(&word.to_le_bytes());
        }
        note.extend_from_slice(b"Xen\0");
        note.extend_from_slice(desc);
        note
    }

    #[test]
    fn segments_lie_at_their_physical_addresses() {
        let image = tiny(62, 16 << 20, &pvh_note(&0x100_0010_u32.to_le_bytes()));
        let linux = Loaded::new(&image, Protocol::Linux64).unwrap();
        assert_eq!((linux.entry, linux.span.clone()), (16 << 20, 16 << 20..(16 << 20) + 0x1000));
        assert_eq!((linux.regions[0].at, &linux.regions[0].bytes[..]), (16 << 20, &[0xf4; 4][..]));
        assert_eq!(Loaded::new(&image, Protocol::Pvh).unwrap().entry, 0x100_0010);
        let wide = tiny(62, 16 << 20, &pvh_note(&0x100_0020_u64.to_le_bytes()));
        assert_eq!(Loaded::new(&wide, Protocol::Pvh).unwrap().entry, 0x100_0020);
    }

    #[test]
    fn what_cannot_be_entered_is_said() {
        let good = tiny(62, 16 << 20, &[]);
        assert!(error(&good, Protocol::Pvh).contains("CONFIG_PVH"));
        assert_eq!(
            error(&tiny(62, 0, &[]), Protocol::Linux64),
            "the kernel is entered outside of its segments"
        );
        assert_eq!(
            error(&tiny(183, 0, &[]), Protocol::Linux64),
            "the kernel is an ELF for another CPU than x86-64"
        );
        for len in 4..good.len() - 4 {
            assert!(Loaded::new(&good[..len], Protocol::Linux64).is_err(), "{len} bytes");
        }
    }
}
