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

use std::io;

use super::payload;

pub(super) const ELF_MAGIC: &[u8] = b"\x7fELF";
const SETUP_SECTS: usize = 0x1f1;
const HEADER_MAGIC: usize = 0x202;
const PROTOCOL: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR_BYTES: usize = 512;

/// Why a file cannot serve as a kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It is a folder.
    #[error("it is a folder; give the file in it, arch/x86/boot/bzImage or vmlinux")]
    Folder,
    /// It is neither of the two formats.
    #[error("it is neither an ELF file nor a bzImage (it begins with {})", hex(.start))]
    Format {
        /// Its first bytes.
        start: Vec<u8>,
    },
    /// It is a bzImage from before 2008.
    #[error("its boot protocol {}.{:02} is older than 2.08, from which on a payload can be found", .version >> 8, .version & 0xff)]
    Protocol {
        /// The version, major in the high byte.
        version: u16,
    },
    /// Its end is missing.
    #[error("it is cut off: its {part} ends at byte {end}, the file at {size}; copy or build it again")]
    Truncated {
        /// What lies beyond the end.
        part: &'static str,
        /// Where that would end.
        end: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// Its payload is compressed in a way that is not read.
    #[error(
        "its payload is compressed with {name}, which is not supported (zstd, gzip, xz, lzma and lz4 are); build with CONFIG_KERNEL_ZSTD=y or give its vmlinux"
    )]
    Compression {
        /// The compression, or the payload's first bytes.
        name: String,
    },
    /// Its payload cannot be decompressed.
    #[error("its {format} payload cannot be decompressed")]
    Payload {
        /// The compression.
        format: &'static str,
        /// What the decompressor says.
        source: io::Error,
    },
    /// Its payload declares a size that no kernel has.
    #[error("its payload declares {declared} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Bytes that it declares.
        declared: u64,
        /// The most that is decompressed.
        limit: u64,
    },
    /// Its payload has another size than it says.
    #[error("its payload decompresses to {found} bytes where it declares {declared}; copy or build it again")]
    Size {
        /// Bytes that it declares.
        declared: u64,
        /// Bytes that came out, at most one more than declared.
        found: u64,
    },
    /// It is no ELF file that can be read.
    #[error("its ELF structure is broken")]
    Elf(#[source] object::Error),
    /// It is a kernel for another processor, or no kernel.
    #[error("it is not an x86_64 kernel (ELF machine {machine}, type {kind})")]
    Machine {
        /// `e_machine`.
        machine: u16,
        /// `e_type`.
        kind: u16,
    },
    /// It does not say which release it is.
    #[error("it has no `Linux version` text, so it is no kernel; give a vmlinux or bzImage")]
    NoBanner,
    /// It has no type information.
    #[error("it has no BTF, without which its memory cannot be read; build with CONFIG_DEBUG_INFO_BTF=y")]
    NoBtf,
    /// It cannot be entered as an ELF.
    #[error(
        "it has no PVH entry, so that it can only boot through a bzImage's own loader; build with CONFIG_PVH=y"
    )]
    NoPvh,
}

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

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

fn start(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().take(8).copied().collect()
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing, it is empty".to_owned();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::synthetic;
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
