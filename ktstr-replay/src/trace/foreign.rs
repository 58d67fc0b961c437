//! Saying what a file is that is no trace.

use std::io;

use super::source::Source;

/// First bytes of files that are likely to be taken for a trace.
const KNOWN: [(&[u8], &str); 9] = [
    (b"\x1f\x8b", "is gzip data"),
    (b"\xfd7zXZ\0", "is xz data"),
    (b"BZh", "is bzip2 data"),
    (b"PK\x03\x04", "is a zip archive"),
    (b"\x7fELF", "is an ELF file"),
    (
        b"\x28\xb5\x2f\xfd",
        "is zstd data without a ktstr record; was it compressed again, or is it a kernel dump?",
    ),
    (b"KDUMP", "is a kernel dump"),
    (b"PERFILE2", "is perf data"),
    (b"{", "looks like JSON"),
];

/// A predicate for "the file ...".
pub(crate) fn describe(source: &Source) -> io::Result<String> {
    if source.len() == 0 {
        return Ok("is empty".to_owned());
    }
    let mut bytes = vec![0; source.len().min(512) as usize];
    source.read(0, &mut bytes)?;
    if let Some((_, what)) = KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Ok((*what).to_owned());
    }
    if bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        return Ok("is text".to_owned());
    }
    Ok(format!("has {} bytes and not one intact record header", source.len()))
}
