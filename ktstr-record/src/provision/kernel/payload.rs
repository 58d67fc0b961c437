//! The compressed payload of a bzImage.
//!
//! Every compression but gzip is followed by the decompressed size, 32 bits little-endian (Linux,
//! `scripts/Makefile.lib`, `size_append`); gzip's own format ends with the same. So the last four
//! bytes always are the size.

use std::io::{self, Read};

use flate2::read::GzDecoder;
use lzma_rust2::{LzmaReader, XzReader};
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::provision::error::ImageError;

/// Largest kernel that is decompressed. Debian's is 62 MB.
const MAX_BYTES: u64 = 1 << 30;
/// Memory for the dictionary of xz and lzma, in KiB; `xz -9` takes 64 MiB.
const MEMORY_KIB: u32 = 256 << 10;
/// Largest decompressed block of the legacy LZ4 format (`lz4 -l`).
const LZ4_BLOCK_BYTES: usize = 8 << 20;

/// How a payload is compressed.
#[derive(Clone, Copy)]
enum Format {
    Zstd,
    Gzip,
    Xz,
    Lzma,
    Lz4,
}

impl Format {
    /// By the first bytes, as the kernel's own `lib/decompress.c` tells them apart.
    fn of(payload: &[u8]) -> Result<Self, ImageError> {
        let unsupported = |name: &str| Err(ImageError::Compression { name: name.to_owned() });
        match payload {
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Format::Zstd),
            [0x1f, 0x8b, ..] => Ok(Format::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok(Format::Xz),
            [0x5d, 0, 0, ..] => Ok(Format::Lzma),
            [0x02, 0x21, 0x4c, 0x18, ..] => Ok(Format::Lz4),
            [b'B', b'Z', b'h', ..] => unsupported("bzip2"),
            [0x89, b'L', b'Z', b'O', ..] => unsupported("lzo"),
            other => {
                unsupported(&format!("something that begins with {:02x?}", &other[..other.len().min(4)]))
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::Zstd => "zstd",
            Format::Gzip => "gzip",
            Format::Xz => "xz",
            Format::Lzma => "lzma",
            Format::Lz4 => "lz4",
        }
    }
}

/// Decompresses a payload to the size that it declares.
pub(super) fn decompress(payload: &[u8]) -> Result<Vec<u8>, ImageError> {
    let format = Format::of(payload)?;
    let declared = payload.len().checked_sub(4).and_then(|at| u32_at(payload, at)).map_or(0, u64::from);
    if declared > MAX_BYTES {
        return Err(ImageError::TooLarge { declared, limit: MAX_BYTES });
    }
    let decoded = match format {
        Format::Zstd => zstd(payload, declared),
        Format::Gzip => read(GzDecoder::new(payload), declared),
        Format::Xz => read(XzReader::new_mem_limit(payload, false, MEMORY_KIB), declared),
        Format::Lzma => {
            LzmaReader::new_mem_limit(payload, MEMORY_KIB, None).and_then(|reader| read(reader, declared))
        }
        Format::Lz4 => lz4(payload.get(4..).unwrap_or_default(), declared),
    };
    let elf = decoded.map_err(|source| ImageError::Payload { format: format.name(), source })?;
    if elf.len() as u64 != declared {
        return Err(ImageError::Size { declared, found: elf.len() as u64 });
    }
    Ok(elf)
}

/// Reads at most one byte more than declared.
fn read(decoder: impl Read, declared: u64) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    decoder.take(declared + 1).read_to_end(&mut out)?;
    Ok(out)
}

fn zstd(payload: &[u8], declared: u64) -> io::Result<Vec<u8>> {
    let mut decoder = ZstdDecoder::with_buffer(payload)?.single_frame();
    // The kernel is compressed with `--ultra -22`, whose window is 128 MiB.
    decoder.window_log_max(27)?;
    read(decoder, declared)
}

/// The legacy format: blocks of a 32-bit compressed size and their data, to the end.
fn lz4(mut blocks: &[u8], declared: u64) -> io::Result<Vec<u8>> {
    let cut_off = || io::Error::new(io::ErrorKind::UnexpectedEof, "a block is cut off");
    let mut out = Vec::new();
    let mut buffer = vec![0; LZ4_BLOCK_BYTES];
    while (out.len() as u64) < declared {
        let size = u32_at(blocks, 0).and_then(|size| usize::try_from(size).ok()).ok_or_else(cut_off)?;
        let block = blocks.get(4..).and_then(|rest| rest.get(..size)).ok_or_else(cut_off)?;
        let bytes = lz4_flex::block::decompress_into(block, &mut buffer).map_err(io::Error::other)?;
        let data = buffer.get(..bytes).filter(|data| !data.is_empty()).ok_or_else(cut_off)?;
        out.extend_from_slice(data);
        blocks = &blocks[4 + size..];
    }
    Ok(out)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lzma_rust2::{LzmaOptions, LzmaWriter, XzOptions, XzWriter};
    use proptest::prelude::*;

    use super::super::image::synthetic;
    use super::*;

    fn with_size(mut compressed: Vec<u8>, bytes: usize) -> Vec<u8> {
        compressed.extend_from_slice(&u32::try_from(bytes).unwrap().to_le_bytes());
        compressed
    }

    fn zstd_payload(data: &[u8]) -> Vec<u8> {
        with_size(zstd::encode_all(data, 19).unwrap(), data.len())
    }

    fn xz_payload(data: &[u8]) -> Vec<u8> {
        let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(6)).unwrap();
        writer.write_all(data).unwrap();
        with_size(writer.finish().unwrap(), data.len())
    }

    fn lzma_payload(data: &[u8]) -> Vec<u8> {
        let mut writer = LzmaWriter::new_use_header(Vec::new(), &LzmaOptions::with_preset(6), None).unwrap();
        writer.write_all(data).unwrap();
        with_size(writer.finish().unwrap(), data.len())
    }

    fn lz4_payload(data: &[u8]) -> Vec<u8> {
        let mut out = vec![0x02, 0x21, 0x4c, 0x18];
        for block in data.chunks(LZ4_BLOCK_BYTES) {
            let block = lz4_flex::block::compress(block);
            out.extend_from_slice(&u32::try_from(block.len()).unwrap().to_le_bytes());
            out.extend_from_slice(&block);
        }
        with_size(out, data.len())
    }

    /// More than one LZ4 block, and compressible.
    fn data() -> Vec<u8> {
        (0..(9u32 << 20)).map(|i| (i / 977) as u8).collect()
    }

    #[test]
    fn every_compression_of_the_kernel_build_that_is_promised_reads_back() {
        let data = data();
        for make in [zstd_payload, synthetic::gzip, xz_payload, lzma_payload, lz4_payload] {
            assert!(decompress(&make(&data)).unwrap() == data);
        }
    }

    #[test]
    fn other_compressions_are_named() {
        assert!(decompress(b"BZh91AY&SY").unwrap_err().to_string().contains("with bzip2"));
        assert!(decompress(b"\x89LZO\0\0\0\0").unwrap_err().to_string().contains("with lzo"));
        assert!(decompress(b"").unwrap_err().to_string().contains("begins with []"));
    }

    #[test]
    fn a_size_that_does_not_fit_is_an_error() {
        let mut payload = zstd_payload(&[7; 1000]);
        let at = payload.len() - 4;
        payload[at..].copy_from_slice(&999u32.to_le_bytes());
        assert!(matches!(decompress(&payload), Err(ImageError::Size { declared: 999, found: 1000 })));
        payload[at..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(decompress(&payload), Err(ImageError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_no_change_and_never_a_panic(which in 0usize..5, at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let data: Vec<u8> = (0..5000u32).map(|i| (i / 7) as u8).collect();
            let make = [zstd_payload, synthetic::gzip, xz_payload, lzma_payload, lz4_payload][which];
            let mut payload = make(&data);
            let at = at.index(payload.len());
            payload[at] ^= 1 << bit;
            if let Ok(out) = decompress(&payload) {
                prop_assert!(out.len() <= data.len() + (1 << 20));
            }
        }
    }
}
