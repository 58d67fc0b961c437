//! Kernel packages of distributions: `.deb`, `.rpm`, and compressed tar files as `.pkg.tar.zst`.
//!
//! **Invariant:** nothing of a package is run, and no path of a package is ever opened: two members are copied, the kernel's
//! image and its configuration, into files whose names are ours. What is read is bounded: the package, what comes out of its
//! compression, the number of members, and every header.

mod collect;
mod deb;
mod error;
mod rpm;
mod stream;
mod tarball;

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use collect::Collector;
pub use error::PackageError;

/// The largest package that is read. Debian's of a kernel with all modules has 110 MB, of its debug information 900.
pub(super) const MAX_PACKAGE_BYTES: u64 = 1 << 30;
/// The largest that its contents are, decompressed.
const MAX_UNPACKED_BYTES: u64 = 8 << 30;
/// The longest text of a package about itself.
const MAX_ABOUT_BYTES: u64 = 1 << 20;

/// What kind of package a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `deb(5)`.
    Deb,
    /// RPM.
    Rpm,
    /// A compressed tar file, as pacman's.
    Tar,
}

impl Format {
    /// Bytes of a file's beginning that are looked at.
    pub(super) const HEAD_BYTES: u64 = 16;

    /// By the first bytes; `None` for what is no package.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        if head.starts_with(&deb::MAGIC) {
            return Some(Self::Deb);
        }
        if head.starts_with(&rpm::LEAD_MAGIC) {
            return Some(Self::Rpm);
        }
        stream::Compression::of(head).map(|_| Self::Tar)
    }

    /// What people call it.
    fn name(self) -> &'static str {
        match self {
            Self::Deb => "a Debian package",
            Self::Rpm => "an RPM package",
            Self::Tar => "a compressed tar file",
        }
    }
}

/// What a package says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct About {
    /// Its name.
    name: String,
    /// What processor it is for.
    arch: String,
    /// The packages that it needs, as it writes them.
    needs: Vec<String>,
}

/// What was taken out of a package.
#[derive(Debug)]
pub(super) struct Extracted {
    /// A copy of the kernel's image.
    pub(super) image: PathBuf,
    /// A copy of its configuration, if the package has it.
    pub(super) config: Option<PathBuf>,
}

/// Takes the kernel and its configuration out of the package `file`, which is of this `format`, into the folder `into`.
///
/// # Errors
/// [`PackageError`].
pub(super) fn extract(file: &mut File, format: Format, into: &Path) -> Result<Extracted, PackageError> {
    let read = |source| PackageError::Broken { part: "beginning", source };
    file.rewind().map_err(read)?;
    let mut collector = Collector::new(into);
    let about = match format {
        Format::Deb => deb::read(file, &mut collector)?,
        Format::Rpm => rpm::read(file, &mut collector)?,
        Format::Tar => tarball::read_package(file, &mut collector)?,
    };
    const OURS: [&str; 5] = ["", "amd64", "x86_64", "all", "noarch"];
    if !OURS.contains(&about.arch.as_str()) {
        return Err(PackageError::Arch { arch: about.arch });
    }
    collector.finish(format, about)
}

/// Reads text of at most [`MAX_ABOUT_BYTES`].
fn text(part: &'static str, from: &mut impl Read) -> Result<String, PackageError> {
    let mut bytes = Vec::new();
    let limited = from.take(MAX_ABOUT_BYTES + 1).read_to_end(&mut bytes);
    limited.map_err(|source| PackageError::Broken { part, source })?;
    if bytes.len() as u64 > MAX_ABOUT_BYTES {
        return Err(PackageError::TooLarge { part, limit: MAX_ABOUT_BYTES });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
