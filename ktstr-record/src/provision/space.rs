//! Whether what is about to be fetched fits on the disk.

use std::fmt;
use std::path::Path;

use super::error::{Error, Result};

/// Left free beyond what is written: a file system that is filled to the brim fails elsewhere.
const RESERVE_BYTES: u64 = 64 << 20;

/// Disk bytes for each byte that is downloaded, at most, the download itself included. Measured: 5.4
/// for the emulator, 6 for the toolchain, 7.6 for a kernel with its copy and its decompressed ELF.
const UNPACK_FACTOR: u64 = 8;

/// Bytes, shown in MiB.
#[derive(Clone, Copy)]
pub(super) struct Mib(pub(super) u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0.div_ceil(1 << 20))
    }
}

/// Disk bytes that packages of `download_bytes` take while they are unpacked.
pub(super) fn needed_for_download(download_bytes: u64) -> u64 {
    download_bytes.saturating_mul(UNPACK_FACTOR)
}

/// Bytes that an ordinary user can still write below `path`.
pub(super) fn free_bytes(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(path)
        .map_err(std::io::Error::from)
        .map_err(Error::io("ask for the free space of", path))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Refuses to begin what cannot be finished.
pub(super) fn check(path: &Path, what: &str, needed_bytes: u64, free_bytes: u64) -> Result<()> {
    if needed_bytes.saturating_add(RESERVE_BYTES) <= free_bytes {
        return Ok(());
    }
    Err(Error::NoSpace { path: path.to_owned(), what: what.to_owned(), needed_bytes, free_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_space_is_refused_with_both_numbers() {
        let error = check(Path::new("/cache"), "the emulator", 300 << 20, 299 << 20).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("fetching the emulator takes 300 MiB, 299 MiB are free"), "{text}");
        assert!(text.contains("ktstr setup --clean"), "{text}");
    }

    #[test]
    fn the_reserve_is_kept_free() {
        assert!(check(Path::new("/cache"), "x", 1, RESERVE_BYTES).is_err());
        assert!(check(Path::new("/cache"), "x", 1, RESERVE_BYTES + 1).is_ok());
        assert!(check(Path::new("/cache"), "x", u64::MAX, u64::MAX - 1).is_err());
    }

    #[test]
    fn free_space_of_a_real_folder_is_known() {
        assert!(free_bytes(Path::new("/")).unwrap() > 0);
        assert!(free_bytes(Path::new("/nonexistent-ktstr")).is_err());
    }
}
