//! RPM packages: a lead, two headers, and a compressed cpio archive.
//!
//! ```text
//! 0     lead       96 bytes, magic ed ab ee db; of no use since 1997
//! 96    signature  a header, padded to a multiple of 8 bytes
//!       header     the package about itself
//!       payload    cpio (newc), compressed
//!
//! header:  8e ad e8 01  reserved u32  entries u32  bytes u32      all big-endian
//!          entries times  tag u32  type u32  offset u32  count u32
//!          bytes of data, into which the offsets point
//! ```
//!
//! `rpm`, the crate, reads the same and brings 30 others, of which two parse Rust; three fields are all that is wanted here.
//! Format: `docs/manual/format.md` of RPM.

use std::io::{self, Read};

use cpio::newc;

use super::collect::Collector;
use super::stream::{Bounded, decompressed};
use super::{About, PackageError};

/// Begins the lead.
pub(super) const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];
const LEAD_BYTES: u64 = 96;
const HEADER_MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 0x01];
/// Entries of a header, at most: RPM's own limit.
const MAX_ENTRIES: u32 = 0xffff;
/// Bytes of a header's data, at most. That of a kernel with all modules has 3 MB.
const MAX_DATA_BYTES: u32 = 64 << 20;
const TAG_NAME: u32 = 1000;
const TAG_ARCH: u32 = 1022;
const TAG_REQUIRES: u32 = 1049;
/// Types of entries: a string, and an array of strings.
const STRING: u32 = 6;
const STRINGS: u32 = 8;
/// Packages that it needs which are read.
const MAX_REQUIRES: usize = 1000;
/// Bytes of a member's header in the payload, its name included.
const MAX_MEMBER_HEADER: u64 = 8 << 10;
/// The file type in a member's mode, and that of a regular file (`inode(7)`).
const FILE_TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

/// Reads a package.
pub(super) fn read(mut from: impl Read, collector: &mut Collector<'_>) -> Result<About, PackageError> {
    let broken = |part| move |source| PackageError::Broken { part, source };
    skip(&mut from, LEAD_BYTES).map_err(broken("lead"))?;
    let signature = Header::read(&mut from).map_err(broken("signature"))?;
    skip(&mut from, (8 - signature.data.len() as u64 % 8) % 8).map_err(broken("signature"))?;
    let header = Header::read(&mut from).map_err(broken("header"))?;
    let about = About {
        name: header.strings(TAG_NAME).next().unwrap_or_default(),
        arch: header.strings(TAG_ARCH).next().unwrap_or_default(),
        needs: header.strings(TAG_REQUIRES).take(MAX_REQUIRES).collect(),
    };
    let plain = decompressed("payload", from, |head| head.starts_with(b"0707"))?;
    members(plain, collector)?;
    Ok(about)
}

/// Goes through the cpio archive.
fn members(plain: Bounded<impl Read>, collector: &mut Collector<'_>) -> Result<(), PackageError> {
    let broken = |source| PackageError::Broken { part: "payload", source };
    // A header says itself how long its name is.
    let mut plain = Bounded::new(plain, MAX_MEMBER_HEADER);
    let left = plain.left();
    loop {
        left.set(MAX_MEMBER_HEADER);
        let mut member = newc::Reader::new(plain).map_err(broken)?;
        left.set(u64::MAX);
        if member.entry().is_trailer() {
            // To the end of what is compressed: its checksum is there.
            io::copy(&mut member.finish().map_err(broken)?, &mut io::sink()).map_err(broken)?;
            return Ok(());
        }
        let entry = member.entry();
        let (name, is_file) = (entry.name().to_owned(), entry.mode() & FILE_TYPE == REGULAR);
        let bytes = u64::from(entry.file_size());
        collector.member(name.as_bytes(), is_file, bytes, &mut member)?;
        plain = member.finish().map_err(broken)?;
    }
}

/// A header: entries, and the data that they point into.
struct Header {
    entries: Vec<[u32; 4]>,
    data: Vec<u8>,
}

impl Header {
    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; 16];
        from.read_exact(&mut head)?;
        if !head.starts_with(&HEADER_MAGIC) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "there is no header where one should begin",
            ));
        }
        let (count, bytes) = (word(&head, 2), word(&head, 3));
        if count > MAX_ENTRIES || bytes > MAX_DATA_BYTES {
            let why = format!("its header says that it has {count} entries and {bytes} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let index = exactly(from, u64::from(count) * 16)?;
        let entries = index.chunks_exact(16).map(|entry| [0, 1, 2, 3].map(|at| word(entry, at))).collect();
        Ok(Self { entries, data: exactly(from, u64::from(bytes))? })
    }

    /// The strings of an entry; empty where there is no such entry, or it is of another type.
    fn strings(&self, wanted: u32) -> impl Iterator<Item = String> {
        let entry =
            self.entries.iter().find(|[tag, kind, ..]| *tag == wanted && [STRING, STRINGS].contains(kind));
        let (offset, count) = entry.map_or((0, 0), |[_, _, offset, count]| (*offset, *count));
        let data =
            usize::try_from(offset).ok().and_then(|offset| self.data.get(offset..)).unwrap_or_default();
        let strings = data.split(|&byte| byte == 0).take(usize::try_from(count).unwrap_or(0));
        strings.map(|text| String::from_utf8_lossy(text).into_owned())
    }
}

/// The big-endian word number `at`.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at * 4..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_be_bytes(*word))
}

/// The next `bytes`, for which memory is taken as they come.
fn exactly(from: &mut impl Read, bytes: u64) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    from.take(bytes).read_to_end(&mut out)?;
    if out.len() as u64 != bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(out)
}

fn skip(from: &mut impl Read, bytes: u64) -> io::Result<()> {
    exactly(from, bytes).map(drop)
}
