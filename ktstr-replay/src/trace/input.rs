//! Where the bytes of a trace come from: a file, standard input or another pipe, or a file inside a gzip file or a zip archive, as
//! forges take them. What cannot be read at offsets is spooled to a temporary file that has no name.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;

use flate2::bufread::GzDecoder;
use flate2::read::DeflateDecoder;
use rawzip::{CompressionMethod, FileReader, RECOMMENDED_BUFFER_SIZE, ZipArchive, ZipArchiveEntryWayfinder};

use super::header::header_magic;

/// The name that stands for standard input.
const STDIN: &str = "-";
/// Most bytes that are spooled.
const MAX_SPOOLED_BYTES: u64 = 64 << 30;
/// How many times its own length an archive may unpack to, beyond [`FREE_BYTES`]: a trace is compressed already, while a small gzip
/// file may hold terabytes of zeros, which would fill the disk.
const MAX_TIMES_PACKED: u64 = 16;
/// What any archive may unpack to.
const FREE_BYTES: u64 = 64 << 20;
/// How often what was unpacked is unpacked again: a forge puts what it was given into an archive of its own.
const MAX_LAYERS: usize = 3;
/// Most files of an archive that are looked at.
const MAX_ENTRIES: usize = 1 << 12;
/// Most of them that are named in an error.
const MAX_NAMED: usize = 5;

const GZIP: &[u8] = b"\x1f\x8b";
const ZIP: &[u8] = b"PK\x03\x04";

/// Open `path` so that it can be read at offsets; `-` is standard input.
///
/// # Errors
/// What the system says; an archive that has no trace, or several.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut file = if path == Path::new(STDIN) {
        File::from(io::stdin().as_fd().try_clone_to_owned()?)
    } else {
        File::open(path)?
    };
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    if !metadata.is_file() {
        file = spool(&mut file, MAX_SPOOLED_BYTES)?;
    }
    for _ in 0..MAX_LAYERS {
        let mut first = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.by_ref().take(ZIP.len() as u64).read_to_end(&mut first)?;
        file.seek(SeekFrom::Start(0))?;
        file = match first {
            first if first.starts_with(GZIP) => {
                from_gzip(file).map_err(|e| what_failed("the gzip data could not be unpacked", &e))?
            }
            first if first == ZIP => from_zip(file)?,
            _ => break,
        };
    }
    Ok(file)
}

/// The contents of a gzip file. Bytes after the gzip data are kept, so that they are reported like bytes after any trace.
fn from_gzip(file: File) -> io::Result<File> {
    let mut left = most_unpacked(file.metadata()?.len());
    let mut packed = BufReader::new(file);
    let mut unpacked = temporary()?;
    loop {
        left -= copy(&mut GzDecoder::new(&mut packed), &mut unpacked, left)?;
        let mut next = Vec::new();
        packed.by_ref().take(GZIP.len() as u64).read_to_end(&mut next)?;
        packed.seek_relative(-(next.len() as i64))?;
        if next != GZIP {
            break;
        }
    }
    copy(&mut packed, &mut unpacked, left)?;
    Ok(unpacked)
}

/// Most bytes that an archive of `packed` bytes may unpack to.
fn most_unpacked(packed: u64) -> u64 {
    packed.saturating_mul(MAX_TIMES_PACKED).saturating_add(FREE_BYTES).min(MAX_SPOOLED_BYTES)
}

/// A file in an archive.
struct ArchivedFile {
    name: String,
    place: ZipArchiveEntryWayfinder,
    method: CompressionMethod,
}

/// The one trace in an archive, or the one file in it.
fn from_zip(file: File) -> io::Result<File> {
    let most = most_unpacked(file.metadata()?.len());
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(file, &mut buffer).map_err(unpacked)?;
    let mut files = Vec::new();
    let mut entries = archive.entries(&mut buffer);
    while let Some(entry) = entries.next_entry().map_err(unpacked)?.filter(|_| files.len() < MAX_ENTRIES) {
        if !entry.is_dir() {
            files.push(ArchivedFile {
                name: String::from_utf8_lossy(entry.file_path().as_ref()).into_owned(),
                place: entry.wayfinder(),
                method: entry.compression_method(),
            });
        }
    }
    let magic = header_magic();
    let begins_as_a_trace = |entry: &&ArchivedFile| {
        let first = read_entry(&archive, entry, |reader| {
            let mut first = Vec::new();
            reader.take(magic.len() as u64).read_to_end(&mut first).map(|_| first)
        });
        // A file that cannot be read does not count; where it is the only one, reading it says why.
        first.is_ok_and(|first| first == magic)
    };
    let traces: Vec<&ArchivedFile> = files.iter().filter(begins_as_a_trace).collect();
    let found = if traces.is_empty() { files.iter().collect() } else { traces };
    match found.as_slice() {
        [one] => {
            read_entry(&archive, one, |reader| spool(reader, most)).map_err(|e| what_failed(ZIP_FAILED, &e))
        }
        [] => Err(io::Error::new(io::ErrorKind::InvalidData, "the zip archive is empty")),
        several => {
            let named: Vec<_> = several.iter().take(MAX_NAMED).map(|entry| entry.name.as_str()).collect();
            let more = if several.len() > MAX_NAMED { ", ..." } else { "" };
            let why = format!(
                "the zip archive has {} files that may be meant ({}{more}); unpack it and name one of them",
                several.len(),
                named.join(", ")
            );
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        }
    }
}

/// Let `read` read the bytes of an entry; checksum and length are verified at its end.
fn read_entry<T>(
    archive: &ZipArchive<FileReader>,
    entry: &ArchivedFile,
    read: impl FnOnce(&mut dyn Read) -> io::Result<T>,
) -> io::Result<T> {
    let found = archive.get_entry(entry.place).map_err(unpacked)?;
    match entry.method {
        CompressionMethod::STORE => read(&mut found.verifying_reader(found.reader())),
        CompressionMethod::DEFLATE => read(&mut found.verifying_reader(DeflateDecoder::new(found.reader()))),
        other => {
            let why =
                format!("`{}` is packed by a method that is not read ({other:?}); unpack it", entry.name);
            Err(io::Error::new(io::ErrorKind::Unsupported, why))
        }
    }
}

/// What is said of an archive that is damaged.
const ZIP_FAILED: &str = "the zip archive could not be unpacked";

fn unpacked(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    what_failed(ZIP_FAILED, &io::Error::other(error))
}

/// Copy what can only be read once, at most `most` bytes, to a file without a name.
fn spool(reader: &mut dyn Read, most: u64) -> io::Result<File> {
    let mut file = temporary()?;
    copy(reader, &mut file, most)?;
    Ok(file)
}

/// A file without a name.
fn temporary() -> io::Result<File> {
    tempfile::tempfile()
        .map_err(|e| what_failed("a temporary file for it could not be made (TMPDIR says where)", &e))
}

/// Copy all of `reader`, which may have `most` bytes; how many it had.
fn copy(reader: &mut dyn Read, to: &mut File, most: u64) -> io::Result<u64> {
    let copied = io::copy(&mut reader.take(most.saturating_add(1)), to).map_err(|e| match e.kind() {
        io::ErrorKind::StorageFull => {
            what_failed("there is no room for it among the temporary files (TMPDIR says where)", &e)
        }
        _ => e,
    })?;
    if copied > most {
        let why = format!("it has more than {} MiB, which is more than is copied of such a file", most >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(copied)
}

fn what_failed(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_not_spooled_without_end() {
        assert_eq!(spool(&mut &[1u8; 1000][..], 1000).unwrap().metadata().unwrap().len(), 1000);
        let error = spool(&mut io::repeat(0), 1000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn an_archive_may_unpack_to_what_a_trace_in_it_would_have() {
        assert_eq!(most_unpacked(0), FREE_BYTES);
        assert_eq!(most_unpacked(1 << 20), FREE_BYTES + (16 << 20));
        assert_eq!(most_unpacked(u64::MAX), MAX_SPOOLED_BYTES);
    }
}
