//! Work that reads from a file here and there.

use std::path::PathBuf;

use rustix::io::pread;

use super::{Ended, Never, RangeError, Work, Worker, range, temp_file, turn};

/// Bytes of one read.
const BLOCK: u64 = 4096;

/// Writes a file once, then reads blocks of it at random. Stresses tasks that are mostly in system calls; they sleep only where the
/// folder is on a disk and the file is larger than what memory keeps of it. **A guest's own files are memory.**
///
/// A unit is a block of 4096 bytes. The file never has a name (`O_TMPFILE`), so nothing is left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoRandRead {
    /// Where the file is. Default: `/tmp`.
    pub folder: PathBuf,
    /// Its size, 4096 bytes to 1 GiB. Default: 1 MiB.
    pub bytes: usize,
}

impl Default for IoRandRead {
    fn default() -> Self {
        Self { folder: PathBuf::from("/tmp"), bytes: 1 << 20 }
    }
}

impl Work for IoRandRead {
    fn check(&self) -> Result<(), RangeError> {
        temp_file::check("IoRandRead.folder", &self.folder)?;
        range::bytes("IoRandRead.bytes", self.bytes)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        let file = temp_file::make(&self.folder, self.bytes as u64)?;
        let blocks = self.bytes as u64 / BLOCK;
        let mut block = [0_u8; BLOCK as usize];
        loop {
            let at = worker.random().below(blocks) * BLOCK;
            pread(&file, &mut block, at)?;
            turn(worker, 1)?;
        }
    }
}
