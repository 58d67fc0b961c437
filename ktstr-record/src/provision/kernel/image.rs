//! A kernel file: an ELF, or a bzImage with one inside.
//!
//! The layout of a bzImage is the x86 boot protocol's (Linux, `Documentation/arch/x86/boot.rst`):
//!
//! ```text
//! 0x1f1  setup_sects      u8    sectors of real-mode code after the first; 0 means 4
//! 0x202  "HdrS"
//! 0x206  version          u16   2.08 (0x208) and later have a payload
//! 0x248  payload_offset   u32   from the end of the real-mode code
//! 0x24c  payload_length   u32
//! ```

use super::payload::{self, u32_at};
use crate::provision::error::ImageError;

pub(super) const ELF_MAGIC: &[u8] = b"\x7fELF";
const SETUP_SECTS: usize = 0x1f1;
const HEADER_MAGIC: usize = 0x202;
const PROTOCOL: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR_BYTES: usize = 512;

/// What a file of a kernel is.
#[derive(Debug)]
pub(super) enum Image {
    /// An ELF already.
    Elf,
    /// A bzImage, and the ELF out of it.
    Bz { elf: Vec<u8> },
}

/// Tells the formats apart, and decompresses.
pub(super) fn open(file: &[u8]) -> Result<Image, ImageError> {
    if file.starts_with(ELF_MAGIC) {
        return Ok(Image::Elf);
    }
    let elf = payload::decompress(find_payload(file)?)?;
    if !elf.starts_with(ELF_MAGIC) {
        return Err(ImageError::Format { start: start(&elf) });
    }
    Ok(Image::Bz { elf })
}

/// The compressed payload of a bzImage.
fn find_payload(file: &[u8]) -> Result<&[u8], ImageError> {
    let is_bzimage = file.get(HEADER_MAGIC..HEADER_MAGIC + 4) == Some(b"HdrS");
    let (Some(protocol), true) = (u16_at(file, PROTOCOL), is_bzimage) else {
        return Err(ImageError::Format { start: start(file) });
    };
    if protocol < 0x208 {
        return Err(ImageError::Protocol { version: protocol });
    }
    let truncated = |part, end: u64| ImageError::Truncated { part, end, size: file.len() as u64 };
    let (Some(sectors), Some(offset), Some(length)) =
        (file.get(SETUP_SECTS), u32_at(file, PAYLOAD_OFFSET), u32_at(file, PAYLOAD_LENGTH))
    else {
        return Err(truncated("boot header", (PAYLOAD_LENGTH + 4) as u64));
    };
    let sectors = if *sectors == 0 { 4 } else { usize::from(*sectors) };
    // At most 2^17 + 2^32 + 2^32: these cannot overflow 64 bits.
    let begin = ((sectors + 1) * SECTOR_BYTES) as u64 + u64::from(offset);
    let end = begin + u64::from(length);
    usize::try_from(begin)
        .ok()
        .zip(usize::try_from(end).ok())
        .and_then(|(begin, end)| file.get(begin..end))
        .ok_or_else(|| truncated("payload", end))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_le_bytes(*chunk))
}

fn start(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().take(8).copied().collect()
}

/// Images for tests: the smallest ELF with all that makes a kernel here, in a bzImage.
#[cfg(test)]
pub(super) mod synthetic {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    /// What the kernel of [`elf`] says that it is.
    pub(in super::super) const RELEASE: &str = "7.3.4+test-amd64";

    const NOTE_AT: usize = 0x40 + 56;
    const BTF_AT: usize = 0x100;
    const NAMES_AT: usize = 0x180;
    const BANNER_AT: usize = 0x1a0;
    const SECTIONS_AT: usize = 0x200;

    /// An ELF: header, one PT_NOTE with the PVH entry, `.BTF` and the section names, a banner.
    pub(in super::super) fn elf(has_sched_ext: bool) -> Vec<u8> {
        let mut out = Image(vec![0; SECTIONS_AT + 3 * 64]);
        out.put(0, b"\x7fELF\x02\x01\x01");
        out.u16(0x10, 2); // ET_EXEC
        out.u16(0x12, 62); // EM_X86_64
        out.u32(0x14, 1);
        out.u64(0x20, 0x40); // e_phoff
        out.u64(0x28, SECTIONS_AT as u64);
        out.u16(0x34, 64);
        out.u16(0x36, 56);
        out.u16(0x38, 1); // e_phnum
        out.u16(0x3a, 64);
        out.u16(0x3c, 3); // e_shnum
        out.u16(0x3e, 2); // e_shstrndx

        out.u32(0x40, 4); // PT_NOTE
        out.u64(0x48, NOTE_AT as u64);
        out.u64(0x60, 20);
        out.u64(0x68, 20);
        out.u64(0x70, 4);
        out.u32(NOTE_AT, 4);
        out.u32(NOTE_AT + 4, 4);
        out.u32(NOTE_AT + 8, 18);
        out.put(NOTE_AT + 12, b"Xen\0");

        let name: &[u8] = if has_sched_ext { b"\0sched_ext_ops\0" } else { b"\0sched_class\0" };
        out.put(BTF_AT, &[0x9f, 0xeb, 1, 0]);
        out.u32(BTF_AT + 4, 24);
        out.u32(BTF_AT + 20, name.len() as u32);
        out.put(BTF_AT + 24, name);

        out.put(NAMES_AT, b"\0.BTF\0.shstrtab\0");
        out.put(BANNER_AT, format!("Linux version {RELEASE} (builder)").as_bytes());
        for (index, name, kind, at, size) in
            [(1, 1u32, 1u32, BTF_AT, 24 + name.len()), (2, 6, 3, NAMES_AT, 16)]
        {
            let section = SECTIONS_AT + index * 64;
            out.u32(section, name);
            out.u32(section + 4, kind);
            out.u64(section + 0x18, at as u64);
            out.u64(section + 0x20, size as u64);
        }
        out.0
    }

    /// [`elf`] with the first occurrence of `text` made unrecognizable.
    pub(in super::super) fn without(text: &[u8]) -> Vec<u8> {
        let mut out = elf(true);
        let at = memchr::memmem::find(&out, text).unwrap();
        out[at] ^= 0x20;
        out
    }

    /// `data` as a gzip payload.
    pub(in super::super) fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// A bzImage with this payload.
    pub(in super::super) fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut out = Image(vec![0; 1024]);
        out.0[0x1f1] = 1;
        out.put(0x1fe, &[0x55, 0xaa]);
        out.put(0x202, b"HdrS");
        out.u16(0x206, 0x20f);
        out.u32(0x248, 16);
        out.u32(0x24c, payload.len() as u32);
        out.0.extend_from_slice(&[0x90; 16]);
        out.0.extend_from_slice(payload);
        out.0
    }

    struct Image(Vec<u8>);

    impl Image {
        fn put(&mut self, at: usize, bytes: &[u8]) {
            self.0[at..at + bytes.len()].copy_from_slice(bytes);
        }

        fn u16(&mut self, at: usize, value: u16) {
            self.put(at, &value.to_le_bytes());
        }

        fn u32(&mut self, at: usize, value: u32) {
            self.put(at, &value.to_le_bytes());
        }

        fn u64(&mut self, at: usize, value: u64) {
            self.put(at, &value.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_kernel_is_refused_with_its_first_bytes() {
        assert_eq!(
            open(b"#!/bin/sh\n").unwrap_err().to_string(),
            "it is neither an ELF file nor a bzImage (it begins with 23 21 2f 62 69 6e 2f 73)"
        );
        assert!(open(b"").unwrap_err().to_string().contains("it is empty"));
    }

    #[test]
    fn an_image_that_is_cut_off_says_where() {
        let whole = synthetic::bzimage(&synthetic::gzip(&synthetic::elf(true)));
        assert!(matches!(open(&whole).unwrap(), Image::Bz { elf } if elf == synthetic::elf(true)));
        let text = open(&whole[..whole.len() - 1]).unwrap_err().to_string();
        assert!(text.contains("its payload ends at byte"), "{text}");
        let text = open(&whole[..0x240]).unwrap_err().to_string();
        assert!(text.contains("its boot header ends at byte 592"), "{text}");
    }

    #[test]
    fn an_old_boot_protocol_is_named() {
        let mut image = synthetic::bzimage(&[]);
        image[PROTOCOL] = 7;
        assert!(open(&image).unwrap_err().to_string().contains("2.07"));
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(at in 0usize..0x250, byte in any::<u8>(), cut in 0usize..4096) {
            let mut image = synthetic::bzimage(&synthetic::gzip(&synthetic::elf(true)));
            image[at] = byte;
            image.truncate(image.len() - cut.min(image.len()));
            let _ = open(&image);
        }
    }
}
