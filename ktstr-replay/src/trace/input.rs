//! Where the bytes of a trace come from: a file, standard input or another pipe, or a file inside a gzip file or a zip archive, as
//! forges take them. What cannot be read at offsets is spooled to a temporary file that has no name.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;

use flate2::read::{DeflateDecoder, MultiGzDecoder};
use rawzip::{CompressionMethod, FileReader, RECOMMENDED_BUFFER_SIZE, ZipArchive, ZipArchiveEntryWayfinder};

use super::header::header_magic;

/// The name that stands for standard input.
const STDIN: &str = "-";
/// Most bytes that are spooled: a small gzip file may hold terabytes of zeros.
const MAX_SPOOLED_BYTES: u64 = 64 << 30;
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
        file = spool(&mut file)?;
    }
    for _ in 0..MAX_LAYERS {
        let mut first = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.by_ref().take(ZIP.len() as u64).read_to_end(&mut first)?;
        file.seek(SeekFrom::Start(0))?;
        file = match first {
            first if first.starts_with(GZIP) => spool(&mut MultiGzDecoder::new(io::BufReader::new(file)))
                .map_err(|e| what_failed("the gzip data could not be unpacked", &e))?,
            first if first == ZIP => from_zip(file)?,
            _ => break,
        };
    }
    Ok(file)
}

/// A file in an archive.
struct Entry {
    name: String,
    place: ZipArchiveEntryWayfinder,
    method: CompressionMethod,
}

/// The one trace in an archive, or the one file in it.
fn from_zip(file: File) -> io::Result<File> {
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(file, &mut buffer).map_err(unpacked)?;
    let mut files = Vec::new();
    let mut entries = archive.entries(&mut buffer);
    while let Some(entry) = entries.next_entry().map_err(unpacked)?.filter(|_| files.len() < MAX_ENTRIES) {
        if !entry.is_dir() {
            files.push(Entry {
                name: String::from_utf8_lossy(entry.file_path().as_ref()).into_owned(),
                place: entry.wayfinder(),
                method: entry.compression_method(),
            });
        }
    }
    let magic = header_magic();
    let begins_as_a_trace = |entry: &&Entry| {
        let first = read_entry(&archive, entry, |reader| {
            let mut first = Vec::new();
            reader.take(magic.len() as u64).read_to_end(&mut first).map(|_| first)
        });
        // What cannot be read is none; if it is the one that is meant, reading it says why.
        first.is_ok_and(|first| first == magic)
    };
    let traces: Vec<&Entry> = files.iter().filter(begins_as_a_trace).collect();
    let found = if traces.is_empty() { files.iter().collect() } else { traces };
    match found.as_slice() {
        [one] => read_entry(&archive, one, spool).map_err(|e| what_failed(ZIP_FAILED, &e)),
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
    entry: &Entry,
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

/// Copy what can only be read once to a file without a name.
fn spool(reader: &mut dyn Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()
        .map_err(|e| what_failed("a temporary file for it could not be made (TMPDIR says where)", &e))?;
    let copied = io::copy(&mut reader.take(MAX_SPOOLED_BYTES + 1), &mut file)?;
    if copied > MAX_SPOOLED_BYTES {
        let why = format!("it has more than {} GiB when it is unpacked", MAX_SPOOLED_BYTES >> 30);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(file)
}

fn what_failed(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
