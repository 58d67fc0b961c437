//! Reading the files of a job on the host.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::packed::JobError;
use crate::elf::read_without_debug;

/// Bytes of a file that are hashed at a time: few enough to stay in the CPU's cache.
const HASHED_AT_A_TIME: usize = 256 << 10;

/// Permission bits and content of a file.
pub(super) fn read(path: &Path) -> Result<(u32, Vec<u8>), JobError> {
    let read = || Ok((fs::metadata(path)?.permissions().mode() & 0o7777, fs::read(path)?));
    read().map_err(|source| JobError::Read { path: path.to_owned(), source })
}

/// A program or a library, likewise, without its debug sections.
pub(super) fn read_program(path: &Path) -> Result<(u32, Vec<u8>), JobError> {
    let read = || {
        let file = File::open(path)?;
        Ok((file.metadata()?.permissions().mode() & 0o7777, read_without_debug(&file)?))
    };
    read().map_err(|source| JobError::Read { path: path.to_owned(), source })
}

/// XXH3-128 of a file, which is not kept: a debug build has a hundred megabytes.
pub(super) fn xxh3_of(path: &Path) -> Result<u128, JobError> {
    let hash = || {
        let mut file = File::open(path)?;
        let (mut hash, mut piece) = (Xxh3::new(), vec![0; HASHED_AT_A_TIME]);
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(hash.digest128()),
                length => hash.update(&piece[..length]),
            }
        }
    };
    hash().map_err(|source| JobError::Read { path: path.to_owned(), source })
}

/// A path as the guest is told it.
pub(super) fn utf8(path: &Path) -> Result<String, JobError> {
    path.to_str().map(str::to_owned).ok_or_else(|| JobError::NotUtf8 { path: path.to_owned() })
}
