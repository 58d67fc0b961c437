//! makedumpfile's flattened form: what it writes to a pipe, `makedumpfile -F`.
//!
//! ```text
//! 4096 bytes   "makedumpfile" and NULs to 16, type 1, version 1
//! record       offset, length, then so many bytes that belong there; later ones take the place of earlier ones
//! ...
//! record       offset -1, length -1
//! ```
//!
//! All numbers are of 64 bits and big-endian. Source: `makedumpfile.h` and `IMPLEMENTATION` of makedumpfile.

use std::collections::BTreeMap;
use std::io;

use super::source::Source;

/// How such a file begins.
pub(super) const SIGNATURE: &[u8; 16] = b"makedumpfile\0\0\0\0";
const HEADER: u64 = 4096;
/// What ends it, in place of an offset.
const END: u64 = u64::MAX;
/// Most records: of the size that makedumpfile writes, those of a terabyte.
const MAX_RECORDS: usize = 1 << 24;

/// A flattened file as the one that it is of.
pub(super) struct Flattened {
    file: Box<dyn Source>,
    /// Where the bytes from an offset up to another one are in the file.
    parts: BTreeMap<u64, Part>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    end: u64,
    /// Place in the file of the first.
    at: u64,
}

impl Flattened {
    /// # Errors
    /// Where a record is cut, or there are too many.
    pub(super) fn new(file: Box<dyn Source>) -> io::Result<Self> {
        let mut parts = BTreeMap::new();
        let mut bytes = 0;
        let mut place = HEADER;
        let bad = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        for count in 0.. {
            if count >= MAX_RECORDS {
                return Err(bad(format!("it has more than {MAX_RECORDS} records")));
            }
            let mut head = [0u8; 16];
            file.read(place, &mut head)
                .map_err(|_| bad(format!("it is cut at {place}, before its end mark")))?;
            let [offset, len] = [0, 8].map(|at| word(&head, at));
            if offset == END {
                break;
            }
            let at = place + 16;
            let (Some(end), Some(next)) = (offset.checked_add(len), at.checked_add(len)) else {
                return Err(bad(format!("the record at {place} is longer than a file can be")));
            };
            if next > file.bytes() {
                return Err(bad(format!("it is cut in the record at {place}")));
            }
            put(&mut parts, offset, Part { end, at });
            bytes = end.max(bytes);
            place = next;
        }
        Ok(Self { file, parts, bytes })
    }
}

fn word(head: &[u8; 16], at: usize) -> u64 {
    let bytes = head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_be_bytes)
}

/// Put a part in the place of what was there.
fn put(parts: &mut BTreeMap<u64, Part>, start: u64, part: Part) {
    if start == part.end {
        return;
    }
    // The one that begins before may go on behind.
    if let Some((&before, &old)) = parts.range(..start).next_back()
        && old.end > start
    {
        parts.insert(before, Part { end: start, at: old.at });
        if old.end > part.end {
            parts.insert(part.end, Part { end: old.end, at: old.at + (part.end - before) });
        }
    }
    let covered: Vec<(u64, Part)> = parts.range(start..part.end).map(|(at, old)| (*at, *old)).collect();
    for (at, old) in covered {
        parts.remove(&at);
        if old.end > part.end {
            parts.insert(part.end, Part { end: old.end, at: old.at + (part.end - at) });
        }
    }
    parts.insert(start, part);
}

impl Source for Flattened {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let end = at.checked_add(out.len() as u64).filter(|end| *end <= self.bytes);
        let end = end.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        // What no record has is a hole.
        out.fill(0);
        let first = self.parts.range(..=at).next_back().map_or(at, |(start, _)| *start);
        for (&start, part) in self.parts.range(first..end) {
            let (from, to) = (start.max(at), part.end.min(end));
            if from >= to {
                continue;
            }
            let within = usize::try_from(from - at).ok().zip(usize::try_from(to - at).ok());
            let room = within.and_then(|(from, to)| out.get_mut(from..to));
            self.file.read(part.at + (from - start), room.unwrap_or_default())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::import::tests::InMemory;

    fn record(offset: u64, bytes: &[u8]) -> Vec<u8> {
        [&offset.to_be_bytes()[..], &(bytes.len() as u64).to_be_bytes(), bytes].concat()
    }

    fn file(records: &[(u64, Vec<u8>)], end: bool) -> io::Result<Flattened> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.resize(HEADER as usize, 0);
        records.iter().for_each(|(offset, part)| bytes.extend(record(*offset, part)));
        if end {
            bytes.extend([0xff; 16]);
        }
        Flattened::new(Box::new(InMemory(bytes)))
    }

    proptest! {
        #[test]
        fn later_records_take_the_place_of_earlier_ones(
            records in prop::collection::vec((0u64..40, prop::collection::vec(1u8.., 0..20)), 1..12),
            (from, len) in (0usize..60, 0usize..60),
        ) {
            let mut expected: Vec<u8> = Vec::new();
            for (offset, bytes) in &records {
                let end = *offset as usize + bytes.len();
                expected.resize(expected.len().max(end), 0);
                expected[*offset as usize..end].copy_from_slice(bytes);
            }
            let found = file(&records, true).unwrap();
            prop_assert_eq!(found.bytes(), expected.len() as u64);
            let mut out = vec![0xee; len];
            match expected.get(from..from + len) {
                Some(part) => {
                    found.read(from as u64, &mut out).unwrap();
                    prop_assert_eq!(out, part);
                }
                None => prop_assert!(found.read(from as u64, &mut out).is_err()),
            }
        }
    }

    #[test]
    fn a_file_that_is_cut_is_an_error() {
        let error = file(&[(0, vec![1; 8])], false).err().expect("no end").to_string();
        assert_eq!(error, "it is cut at 4120, before its end mark");
        let long = [(u64::MAX - 3, vec![1; 8])];
        assert!(file(&long, true).err().expect("too long").to_string().contains("longer than a file can be"));
    }
}
