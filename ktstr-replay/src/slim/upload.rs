//! A trace as forges take it for an attachment: small, and with a name that they know.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::options::{Dropped, KeepPages, SlimError, SlimOptions};
use super::rewrite::{Slimmed, place, slim_trace};
use crate::trace::{Kind, Trace, folder_of, unfinished_folder};

/// Largest attachment that forges take: 25 MB of GitHub, the least of those that are in wide use.
pub const MAX_UPLOAD_BYTES: u64 = 25_000_000;

/// A trace made ready for a forge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The trace that was written; the length is the gzip file's.
    pub slimmed: Slimmed,
    /// The pages that were kept.
    pub pages: KeepPages,
}

/// Write `trace` as `options` say into the gzip file `to`, which must not exist and becomes no longer than `max_bytes`. Each of
/// `pages` is tried in turn, until it is short enough; then the last of them without the run's other machines, where it has some.
///
/// # Errors
/// [`SlimError`], [`SlimError::TooLarge`] when nothing was short enough; `to` then does not exist.
pub fn slim_for_upload(
    trace: &Trace,
    to: &Path,
    options: &SlimOptions,
    pages: &[KeepPages],
    max_bytes: u64,
) -> Result<Upload, SlimError> {
    let failed = |source: io::Error| SlimError::Place { path: to.to_owned(), source };
    if to.symlink_metadata().is_ok() {
        return Err(SlimError::Exists(to.to_owned()));
    }
    // Who is killed leaves it behind, so its name says whose it is.
    let folder =
        tempfile::Builder::new().prefix(&unfinished_folder()).tempdir_in(folder_of(to)).map_err(failed)?;
    let mut last_error = None;
    let mut choices: Vec<(KeepPages, Vec<Dropped>)> =
        pages.iter().map(|pages| (*pages, options.drop.clone())).collect();
    if let Some((last, drop)) = choices.last().cloned()
        && !trace.segments().is_empty()
        && !drop.contains(&Dropped::Segments)
    {
        choices.push((last, [drop, vec![Dropped::Segments]].concat()));
    }
    for (nth, (pages, drop)) in choices.into_iter().enumerate() {
        let small = folder.path().join(format!("{nth}.trace.zst"));
        let options = SlimOptions { pages, drop, ..options.clone() };
        let mut slimmed = match slim_trace(trace, &small, &options) {
            Ok(slimmed) => slimmed,
            // What its pages are cannot be told; another choice may need not to know.
            Err(error @ SlimError::Pages { .. }) => {
                last_error = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let packed = folder.path().join("packed");
        slimmed.to_bytes = pack(&small, &packed).map_err(failed)?;
        if slimmed.to_bytes <= max_bytes {
            place(&packed, to)?;
            return Ok(Upload { slimmed, pages });
        }
        let parts = parts(&Trace::open(&small)?);
        last_error = Some(SlimError::TooLarge { bytes: slimmed.to_bytes, max_bytes, parts });
        fs::remove_file(&small).map_err(failed)?;
    }
    Err(last_error.unwrap_or_else(|| SlimError::Damaged("no choice of pages was given".to_owned())))
}

/// Put a file into a gzip file as it is, for it is compressed already; the length of that.
fn pack(from: &Path, to: &Path) -> io::Result<u64> {
    let mut encoder = GzEncoder::new(File::create(to)?, Compression::none());
    io::copy(&mut File::open(from)?, &mut encoder)?;
    Ok(encoder.finish()?.metadata()?.len())
}

/// What a trace consists of, the most first, in words.
fn parts(trace: &Trace) -> String {
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in trace.records_of_all() {
        let part = match entry.read_as() {
            Some(Kind::PageChunk | Kind::Checkpoint) => "guest memory",
            Some(Kind::Blob) => "the kernel's symbols and types",
            Some(Kind::Events) => "events",
            Some(Kind::Sample) => "samples",
            _ => "all else",
        };
        *bytes.entry(part).or_default() += entry.stored_len;
    }
    let mut bytes: Vec<_> = bytes.into_iter().collect();
    bytes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let one = |(part, bytes): (&str, u64)| format!("{:.1} MB {part}", bytes as f64 / 1e6);
    bytes.into_iter().map(one).collect::<Vec<_>>().join(", ")
}
