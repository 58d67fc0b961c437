//! Where a writer's bytes go.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

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
