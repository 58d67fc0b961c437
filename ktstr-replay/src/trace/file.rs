//! Where the bytes of a trace are: read at offsets, or appended.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::input;

/// A file or bytes in memory, read at offsets.
pub(crate) enum Source {
    /// A file from `base` on, and how many bytes there were from there on when it was opened.
    File { file: Arc<File>, base: u64, len: u64 },
    /// Bytes in memory.
    Bytes(Bytes),
}

impl Source {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = input::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self::File { file: Arc::new(file), base: 0, len })
    }

    /// The same from `offset` on.
    pub(crate) fn from(&self, offset: u64) -> Self {
        match self {
            Self::File { file, base, len } => Self::File {
                file: Arc::clone(file),
                base: base.saturating_add(offset),
                len: len.saturating_sub(offset),
            },
            Self::Bytes(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Self::Bytes(bytes.slice(from..))
            }
        }
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::File { len, .. } => *len,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Fill `out` from `offset`.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File { file, base, .. } => file.read_exact_at(out, base.saturating_add(offset)),
            Self::Bytes(bytes) => {
                let from = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
                let from = from.and_then(|from| from.get(..out.len()));
                let from = from.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
                out.copy_from_slice(from);
                Ok(())
            }
        }
    }

    /// `N` bytes at `offset`.
    pub(crate) fn array<const N: usize>(&self, offset: u64) -> io::Result<[u8; N]> {
        let mut out = [0; N];
        self.read(offset, &mut out)?;
        Ok(out)
    }
}

/// First bytes of files that are likely to be taken for a trace.
const KNOWN: [(&[u8], &str); 9] = [
    (b"\x1f\x8b", "is gzip data"),
    (b"\xfd7zXZ\0", "is xz data"),
    (b"BZh", "is bzip2 data"),
    (b"PK\x03\x04", "is a zip archive"),
    (b"\x7fELF", "is an ELF file"),
    (
        b"\x28\xb5\x2f\xfd",
        "is zstd data without a ktstr record; was it compressed again, or is it a kernel dump?",
    ),
    (b"KDUMP", "is a kernel dump"),
    (b"PERFILE2", "is perf data"),
    (b"{", "looks like JSON"),
];

/// Names the format of a file that is not a trace, for the error: what follows "it".
pub(crate) fn name_format(source: &Source) -> io::Result<String> {
    if source.len() == 0 {
        return Ok("is empty".to_owned());
    }
    let mut bytes = vec![0; source.len().min(512) as usize];
    source.read(0, &mut bytes)?;
    if let Some((_, what)) = KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Ok((*what).to_owned());
    }
    if bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        return Ok("is text".to_owned());
    }
    Ok(format!("has {} bytes and not one intact record header", source.len()))
}

/// A file that is appended to, and cut back when an append failed.
pub(crate) trait Sink: Send {
    /// Write all of `bytes` at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cut everything from `len` on.
    fn cut(&mut self, len: u64) -> io::Result<()>;
    /// Have everything on the disk.
    fn sync(&mut self) -> io::Result<()>;
}

impl Sink for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)?;
        self.seek(SeekFrom::Start(len)).map(drop)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
