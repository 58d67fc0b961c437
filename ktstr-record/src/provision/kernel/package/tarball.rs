//! Tar files: what is in a Debian package, and a pacman package as a whole (`PKGBUILD(5)`, `.PKGINFO`).

use std::io::{self, Cursor, Read};

use tar::{Archive, EntryType};

use super::collect::Collector;
use super::stream::{decompressed, is_tar};
use super::{About, PackageError, text};

/// A pacman package's text about itself.
const ABOUT: &str = ".PKGINFO";

/// Goes through a tar file. `about` is the member that is given to `tell` as text; the others go to the collector.
///
/// Headers for long names are not followed: what is wanted has a short one, and such a header may be of any size.
pub(super) fn read(
    part: &'static str,
    from: impl Read,
    about: &str,
    mut tell: impl FnMut(&str),
    mut others: Option<&mut Collector<'_>>,
) -> Result<(), PackageError> {
    let broken = |source| PackageError::Broken { part, source };
    let mut archive = Archive::new(from);
    for entry in archive.entries().map_err(broken)?.raw(true) {
        let mut entry = entry.map_err(broken)?;
        let is_file = matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous);
        let (path, bytes) = (entry.path_bytes().into_owned(), entry.size());
        if is_file && path.strip_prefix(b"./").unwrap_or(&path) == about.as_bytes() {
            tell(&text(part, &mut entry)?);
        } else if let Some(collector) = &mut others {
            collector.member(&path, is_file, bytes, &mut entry)?;
        }
    }
    // To the end of what is compressed: its checksums are there.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
    Ok(())
}

/// Reads a compressed tar file that is a package.
pub(super) fn read_package(from: impl Read, collector: &mut Collector<'_>) -> Result<About, PackageError> {
    let mut plain = decompressed("contents", from, is_tar)?;
    let mut head = Vec::new();
    let looked_at = plain.by_ref().take(512).read_to_end(&mut head);
    looked_at.map_err(|source| PackageError::Broken { part: "contents", source })?;
    if !is_tar(&head) {
        return Err(PackageError::NoTar);
    }
    let mut about = About::default();
    read(
        "contents",
        Cursor::new(head).chain(plain),
        ABOUT,
        |text| about = of_pkginfo(text),
        Some(collector),
    )?;
    Ok(about)
}

/// Lines of `KEY = VALUE`.
fn of_pkginfo(text: &str) -> About {
    let pairs: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(" = ")).collect();
    let all = |wanted: &'static str| {
        pairs.iter().filter(move |(key, _)| *key == wanted).map(|(_, value)| value.trim())
    };
    let first = |wanted: &'static str| all(wanted).next().unwrap_or_default().to_owned();
    let arch = first("arch");
    About {
        name: first("pkgname"),
        arch: if arch == "any" { String::new() } else { arch },
        needs: all("depend").map(str::to_owned).collect(),
    }
}
