//! The bytes of a core file, wherever in the file they are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that can be read at any place.
pub(super) trait Source: Send + Sync {
    /// How many there are.
    fn bytes(&self) -> u64;

    /// Fill `out` with those from `at` on.
    ///
    /// # Errors
    /// Those of the file; [`io::ErrorKind::UnexpectedEof`] where it ends before.
    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()>;

    /// `len` bytes from `at` on, of at most `most`.
    ///
    /// # Errors
    /// As [`Source::read`]; also where they are more than `most`, or beyond the end, before room is made for them.
    fn take(&self, at: u64, len: u64, most: u64) -> io::Result<Vec<u8>> {
        let within = at.checked_add(len).is_some_and(|end| end <= self.bytes());
        if len > most || !within {
            let text = format!("{len} bytes at {at}, of a file of {} bytes", self.bytes());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        let mut out = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        self.read(at, &mut out)?;
        Ok(out)
    }
}

/// A file as it is.
pub(super) struct Plain {
    file: File,
    bytes: u64,
}

impl Plain {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }
}

impl Source for Plain {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, at)
    }
}

/// The little-endian numbers of a header, from places in it.
pub(super) struct Words<'b>(pub &'b [u8]);

impl Words<'_> {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    pub(super) fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
}
