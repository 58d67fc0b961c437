//! A file of one worker that never has a name, so that it is gone however the worker ends.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, pwrite};

use super::super::settings::RangeError;
use super::range;

/// A longer path would have to be copied to allocated memory for the system call.
const PATH_BYTES: usize = 200;

/// Whether files can be made in a folder.
///
/// # Errors
/// A path that is too long, or of no folder.
pub fn check(what: &'static str, folder: &Path) -> Result<(), RangeError> {
    let is_good = folder.as_os_str().len() <= PATH_BYTES && folder.is_dir();
    range::good(
        is_good,
        what,
        || format!("`{}`", folder.display()),
        "a folder, with a path of at most 200 bytes",
    )
}

/// Make a file of `bytes` in a folder (`O_TMPFILE`).
///
/// # Errors
/// The kernel's: `EOPNOTSUPP` on a file system that has no files without a name.
pub fn make(folder: &Path, bytes: u64) -> Result<OwnedFd, Errno> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = open(folder, flags, Mode::RUSR | Mode::WUSR)?;
    let block = [0x5a_u8; 4096];
    let mut written = 0;
    while written < bytes {
        written += pwrite(&file, &block, written)? as u64;
    }
    Ok(file)
}
