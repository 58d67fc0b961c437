//! Symbols as the bytes of a trace's `KernelSymbols` blob.
//!
//! ```text
//! "KSYMS" version=1 | count | addresses: count deltas | lengths: count | classes: count bytes | names
//! ```
//!
//! Numbers are LEB128, at most 10 bytes. Deltas are from the address before (the first: from 0), so the table has to be
//! in ascending order. Columns are apart because the trace compresses them with zstd.

use super::SymbolsError;
use super::table::{Entry, Symbols};

const MAGIC: &[u8; 6] = b"KSYMS\x01";
const MAX_SYMBOLS: u64 = 4_000_000;

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

impl Symbols {
    /// As the bytes of a blob.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put(&mut out, self.entries.len() as u64);
        let mut last = 0;
        for entry in &self.entries {
            put(&mut out, entry.address.wrapping_sub(last));
            last = entry.address;
        }
        for symbol in self.iter() {
            put(&mut out, symbol.name.len() as u64);
        }
        out.extend(self.entries.iter().map(|entry| entry.class));
        for symbol in self.iter() {
            out.extend_from_slice(symbol.name.as_bytes());
        }
        out
    }

    /// Take the bytes of a blob.
    ///
    /// # Errors
    /// [`SymbolsError::BadBlob`].
    pub fn decode(blob: &[u8]) -> Result<Self, SymbolsError> {
        let bad = SymbolsError::BadBlob;
        let mut input = blob.strip_prefix(MAGIC).ok_or(bad("they do not begin with KSYMS of version 1"))?;
        let count = take(&mut input).ok_or(bad("the count is cut short"))?;
        // Each symbol takes three bytes at least.
        if count > MAX_SYMBOLS || count > input.len() as u64 / 3 {
            return Err(bad("there are fewer bytes than symbols"));
        }
        let mut entries = Vec::with_capacity(count as usize);
        let mut address = 0u64;
        for _ in 0..count {
            let delta = take(&mut input).ok_or(bad("the addresses are cut short"))?;
            address = address.checked_add(delta).ok_or(bad("an address is beyond 64 bits"))?;
            entries.push(Entry { address, name: 0, len: 0, class: 0 });
        }
        let mut end = 0u32;
        for entry in &mut entries {
            let len = take(&mut input).ok_or(bad("the lengths are cut short"))?;
            entry.name = end;
            entry.len = u16::try_from(len).map_err(|_| bad("a name is too long"))?;
            end = end.checked_add(u32::from(entry.len)).ok_or(bad("the names are too long"))?;
        }
        let (classes, names) =
            input.split_at_checked(entries.len()).ok_or(bad("the classes are cut short"))?;
        for (entry, &class) in entries.iter_mut().zip(classes) {
            entry.class = class;
        }
        if names.len() != end as usize {
            return Err(bad("the names are not as long as their lengths"));
        }
        Symbols::of_bytes(names.to_vec(), entries).ok_or(bad("the names are not text"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn symbols(list: &[(u64, u8, String)]) -> Symbols {
        Symbols::from_list(list.iter().map(|(address, class, name)| (*address, *class, name.as_str())))
    }

    /// The format is in traces that are read for ever.
    #[test]
    fn the_bytes_are_those_of_version_1() {
        let two = symbols(&[(0x10, b'T', "ab".into()), (0x110, b'd', "c".into())]);
        let golden = b"KSYMS\x01\x02\x10\x80\x02\x02\x01Tdabc";
        assert_eq!(two.encode(), golden);
        assert_eq!(Symbols::decode(golden).unwrap(), two);
    }

    /// Found by fuzzing: such a table had more symbols than could be listed.
    #[test]
    fn a_length_that_cuts_a_character_in_two_is_refused() {
        assert!(Symbols::decode("KSYMS\x01\x02\x10\x10\x02\x01TTaé".as_bytes()).is_err());
        assert!(Symbols::decode("KSYMS\x01\x02\x10\x10\x01\x02TTaé".as_bytes()).is_ok());
    }

    #[test]
    fn every_cut_is_refused() {
        let blob = symbols(&[(0x10, b'T', "ab".into()), (u64::MAX, b'd', "c".into())]).encode();
        for len in 0..blob.len() {
            assert!(Symbols::decode(&blob[..len]).is_err(), "cut at {len}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            mut list in prop::collection::vec((any::<u64>(), any::<u8>(), "[a-zA-Z_.$]{0,20}"), 0..40),
        ) {
            list.sort_by_key(|symbol| symbol.0);
            let symbols = symbols(&list);
            prop_assert_eq!(Symbols::decode(&symbols.encode()).unwrap(), symbols);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(mut blob in prop::collection::vec(any::<u8>(), 0..200)) {
            blob.splice(0..0, MAGIC.iter().copied());
            let _ = Symbols::decode(&blob);
        }
    }
}
