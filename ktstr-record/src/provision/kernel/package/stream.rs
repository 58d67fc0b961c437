//! Decompressing what is in a package, by its first bytes and within a limit.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use lzma_rust2::{LzmaReader, XzReader};
use zstd::stream::read::Decoder as ZstdDecoder;

use super::{MAX_UNPACKED_BYTES, PackageError};

/// Memory for the dictionary of xz and lzma, in KiB; `xz -9` takes 64 MiB.
const MEMORY_KIB: u32 = 256 << 10;
/// The largest window of zstd, as a power of two: that of `zstd --ultra -22`.
const WINDOW_LOG: u32 = 27;

/// How something is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Zstd,
    Xz,
    Gzip,
    Lzma,
}

impl Compression {
    /// By the first bytes.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x5d, 0, 0, ..] => Some(Self::Lzma),
            _ => None,
        }
    }
}

/// `part` of a package, decompressed. `is_plain` tells by the first bytes what needs no decompression.
///
/// # Errors
/// A compression that is not read; a decompressor that does not begin.
pub(super) fn decompressed<'r>(
    part: &'static str,
    from: impl Read + 'r,
    is_plain: fn(&[u8]) -> bool,
) -> Result<Bounded<Box<dyn Read + 'r>>, PackageError> {
    let broken = |source| PackageError::Broken { part, source };
    let mut from = BufReader::new(from);
    let head = from.fill_buf().map_err(broken)?;
    let inner: Box<dyn Read + 'r> = match Compression::of(head) {
        Some(Compression::Zstd) => {
            let mut decoder = ZstdDecoder::with_buffer(from).map_err(broken)?;
            decoder.window_log_max(WINDOW_LOG).map_err(broken)?;
            Box::new(decoder)
        }
        Some(Compression::Xz) => Box::new(XzReader::new_mem_limit(from, true, MEMORY_KIB)),
        Some(Compression::Gzip) => Box::new(MultiGzDecoder::new(from)),
        Some(Compression::Lzma) => {
            Box::new(LzmaReader::new_mem_limit(from, MEMORY_KIB, None).map_err(broken)?)
        }
        None if is_plain(head) => Box::new(from),
        None => return Err(PackageError::Compression { part }),
    };
    Ok(Bounded { inner, left: Rc::new(Cell::new(MAX_UNPACKED_BYTES)) })
}

/// Whether what begins so is a tar file (`pax(1)`, ustar).
pub(super) fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

/// A reader that fails where it would give more bytes than are left to it.
pub(super) struct Bounded<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R> Bounded<R> {
    /// Gives at most `limit` bytes.
    pub(super) fn new(inner: R, limit: u64) -> Self {
        Self { inner, left: Rc::new(Cell::new(limit)) }
    }

    /// How many bytes are left to it, to be set anew.
    pub(super) fn left(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.left)
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 && !buffer.is_empty() {
            // At the very end nothing more is wanted of it.
            let mut one = [0];
            return match self.inner.read(&mut one)? {
                0 => Ok(0),
                _ => Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than the limit")),
            };
        }
        let got = self.inner.read(&mut buffer[..room])?;
        self.left.set(left - got as u64);
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_reader_gives_all_up_to_its_limit_and_no_more() {
        let mut out = Vec::new();
        Bounded::new(&b"four"[..], 4).read_to_end(&mut out).unwrap();
        assert_eq!(out, b"four");
        let error = Bounded::new(io::repeat(7), 4).read_to_end(&mut out).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn bytes_that_expand_without_end_are_cut() {
        let small = zstd::encode_all(io::repeat(0).take(64 << 20), 3).unwrap();
        assert!(small.len() < 64 << 10);
        let reader = decompressed("payload", &small[..], is_tar).unwrap();
        reader.left().set(1 << 20);
        assert_eq!(
            io::copy(&mut { reader }, &mut io::sink()).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
    }

    #[test]
    fn what_is_neither_compressed_nor_plain_is_refused() {
        let error = decompressed("payload", &b"BZh91AY&SY"[..], is_tar).err().unwrap();
        assert!(error.to_string().contains("its payload is compressed in a way that is not read"), "{error}");
    }
}
