//! Work that writes to a file and waits for the disk.

use std::path::PathBuf;

use rustix::fs::fdatasync;
use rustix::io::pwrite;

use super::{Ended, Never, RangeError, Work, Worker, range, temp_file, turn};

/// The file does not grow beyond this.
const FILE_BYTES: u64 = 4 << 20;
/// Bytes of one write.
const BLOCK: u64 = 4096;

/// Writes some blocks to a file and waits until they are on the disk (`fdatasync(2)`), over and over. Stresses tasks that sleep
/// without being able to be woken by others, where the folder is on a disk. **A guest's own files are memory**: there it never
/// sleeps, and stresses system calls and copying.
///
/// A unit is a sync. The file never has a name (`O_TMPFILE`), so nothing is left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoSyncWrite {
    /// Where the file is. Default: `/tmp`.
    pub folder: PathBuf,
    /// Blocks of 4096 bytes between two syncs, 1 to 1024. Default: 4.
    pub blocks: u32,
}

impl Default for IoSyncWrite {
    fn default() -> Self {
        Self { folder: PathBuf::from("/tmp"), blocks: 4 }
    }
}

impl Work for IoSyncWrite {
    fn check(&self) -> Result<(), RangeError> {
        temp_file::check("IoSyncWrite.folder", &self.folder)?;
        range::number("IoSyncWrite.blocks", self.blocks.into(), 1..=1024, "from 1 to 1024")
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        let file = temp_file::make(&self.folder, 0)?;
        let block = [0xa5_u8; BLOCK as usize];
        let mut at = 0;
        loop {
            for _ in 0..self.blocks {
                pwrite(&file, &block, at)?;
                at = (at + BLOCK) % FILE_BYTES;
            }
            fdatasync(&file)?;
            turn(worker, 1)?;
        }
    }
}
