//! The decoded table, and its encoding as a trace's `KernelSymbols` blob.
//!
//! ```text
//! "KSYMS" version=1 | count | addresses: count deltas | lengths: count | classes: count bytes | names
//! ```
//!
//! Numbers are LEB128, at most 10 bytes. Deltas are from the address before (the first: from 0), so the table has to be
//! in ascending order. Columns are apart because the trace compresses them with zstd.

use std::sync::OnceLock;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::btf::NameIndex;
use crate::units::KernelVirt;

/// Why symbols cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SymbolsError {
    /// vmcoreinfo does not say where a table is.
    #[error("vmcoreinfo does not say where `{0}` is")]
    NoTable(&'static str),
    /// A table that contradicts itself.
    #[error("the table is damaged at symbol {at} of {count}: {why}")]
    Damaged {
        /// Position of the symbol, from 0.
        at: u64,
        /// How many symbols the table claims to have.
        count: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// The decoded addresses are not those that the kernel states elsewhere.
    #[error("the decoded address of `init_top_pgt` is {decoded:x?}, and vmcoreinfo says {stated:#x}")]
    Disagree {
        /// As decoded.
        decoded: Option<u64>,
        /// As vmcoreinfo has it.
        stated: u64,
    },
    /// A blob of a trace that is no symbol blob, or a damaged one.
    #[error("the symbols of the trace are not readable: {0}")]
    BadBlob(&'static str),
}

/// A symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address, as it is in this boot.
    pub address: KernelVirt,
    /// Its class as `nm` prints it: `T`, `t`, `D`, ...
    pub class: char,
}

/// All symbols of a kernel.
#[derive(Debug, Default)]
pub struct Symbols {
    /// Names one after the other.
    pub(super) text: Bytes,
    /// In ascending order of `address`; equal addresses in the kernel's order.
    pub(super) entries: Vec<SymbolEntry>,
    /// Positions by the hash of their names. Made on first use.
    by_name: OnceLock<NameIndex>,
}

/// One symbol of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SymbolEntry {
    pub address: u64,
    /// First byte of the name in `text`.
    pub name: u32,
    /// Length of the name in bytes.
    pub len: u16,
    pub class: u8,
}

impl PartialEq for Symbols {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Symbols {
    /// Put entries in order of their addresses; `text` holds the names in the order of `entries`.
    fn new(text: Bytes, mut entries: Vec<SymbolEntry>) -> Self {
        if !entries.is_sorted_by_key(|entry| entry.address) {
            entries.sort_by_key(|entry| entry.address);
        }
        Self { text, entries, by_name: OnceLock::new() }
    }

    /// As [`Symbols::new`] of bytes; `None` when a name is not text. All names together may well be: the length of one
    /// can cut a character in two.
    pub(super) fn of_bytes(text: impl Into<Bytes>, entries: Vec<SymbolEntry>) -> Option<Self> {
        let text = text.into();
        let all = str::from_utf8(&text).ok()?;
        let is_text = |entry: &SymbolEntry| {
            let start = entry.name as usize;
            all.get(start..start.saturating_add(usize::from(entry.len))).is_some()
        };
        let whole = entries.iter().all(is_text);
        whole.then(|| Self::new(text, entries))
    }

    /// A table of (address, class, name).
    pub(crate) fn from_list<'n>(list: impl IntoIterator<Item = (u64, u8, &'n str)>) -> Self {
        let (mut text, mut entries) = (String::new(), Vec::new());
        for (address, class, name) in list {
            entries.push(SymbolEntry { address, name: text.len() as u32, len: name.len() as u16, class });
            text.push_str(name);
        }
        Self::new(text.into(), entries)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn symbol(&self, entry: &SymbolEntry) -> Option<Symbol<'_>> {
        let start = entry.name as usize;
        Some(Symbol {
            name: str::from_utf8(self.text.get(start..start.checked_add(usize::from(entry.len))?)?).ok()?,
            address: KernelVirt(entry.address),
            class: char::from(entry.class),
        })
    }

    /// All symbols, ascending by address.
    pub fn iter(&self) -> impl Iterator<Item = Symbol<'_>> {
        self.entries.iter().filter_map(|entry| self.symbol(entry))
    }

    /// The symbols of a name, ascending by address: local symbols can share one.
    pub fn named<'s>(&'s self, name: &'s str) -> impl Iterator<Item = Symbol<'s>> {
        let found = self.name_index().candidates(xxh3_64(name.as_bytes()));
        found
            .filter_map(|position| self.symbol(self.entries.get(position as usize)?))
            .filter(move |symbol| symbol.name == name)
    }

    /// The index of names, which is made when the first one is asked for.
    pub(crate) fn name_index(&self) -> &NameIndex {
        let hash = |position: usize| {
            let entry = self.entries.get(position)?;
            let start = entry.name as usize;
            let name = self.text.get(start..start.checked_add(usize::from(entry.len))?)?;
            Some(xxh3_64(name))
        };
        self.by_name.get_or_init(|| NameIndex::new(self.entries.len(), hash))
    }

    /// The address of the first symbol of a name.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<KernelVirt> {
        self.named(name).next().map(|symbol| symbol.address)
    }

    /// The symbol that an address is in, and the distance from its beginning.
    #[must_use]
    pub fn at(&self, address: KernelVirt) -> Option<(Symbol<'_>, u64)> {
        let after = self.entries.partition_point(|entry| entry.address <= address.0);
        let entry = self.entries.get(after.checked_sub(1)?)?;
        Some((self.symbol(entry)?, address.0 - entry.address))
    }

    /// The symbol that the kernel prints for an address (the first of those that begin at one address), and its length
    /// in bytes: up to the next symbol. Source: `get_symbol_pos` of `kernel/kallsyms.c`.
    #[must_use]
    pub fn containing(&self, address: KernelVirt) -> Option<(Symbol<'_>, u64)> {
        let after = self.entries.partition_point(|entry| entry.address <= address.0);
        let begins = self.entries.get(after.checked_sub(1)?)?.address;
        let first = self.entries.partition_point(|entry| entry.address < begins);
        let end = self.entries.get(after).map_or(begins, |entry| entry.address);
        Some((self.symbol(self.entries.get(first)?)?, end - begins))
    }
}

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
    pub fn decode(blob: impl Into<Bytes>) -> Result<Self, SymbolsError> {
        let bad = SymbolsError::BadBlob;
        let blob = blob.into();
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
            entries.push(SymbolEntry { address, name: 0, len: 0, class: 0 });
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
        Symbols::of_bytes(blob.slice_ref(names), entries).ok_or(bad("the names are not text"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn of_symbols_at_one_address_the_first_is_printed_with_the_length_of_all() {
        let symbols =
            Symbols::from_list([(0x10, b'T', "a"), (0x20, b'T', "b"), (0x20, b't', "c"), (0x50, b'T', "d")]);
        let found = |at| symbols.containing(KernelVirt(at)).map(|(symbol, size)| (symbol.name, size));
        assert_eq!(found(0xf), None);
        assert_eq!(found(0x1f), Some(("a", 0x10)));
        assert_eq!(found(0x20), Some(("b", 0x30)));
        assert_eq!(found(0x4f), Some(("b", 0x30)));
        assert_eq!(found(0x99), Some(("d", 0)));
    }

    fn symbols(list: &[(u64, u8, String)]) -> Symbols {
        Symbols::from_list(list.iter().map(|(address, class, name)| (*address, *class, name.as_str())))
    }

    /// The format is in traces that are read for ever.
    #[test]
    fn the_bytes_are_those_of_version_1() {
        let two = symbols(&[(0x10, b'T', "ab".into()), (0x110, b'd', "c".into())]);
        let golden = b"KSYMS\x01\x02\x10\x80\x02\x02\x01Tdabc";
        assert_eq!(two.encode(), golden);
        assert_eq!(Symbols::decode(&golden[..]).unwrap(), two);
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
            assert!(Symbols::decode(blob[..len].to_vec()).is_err(), "cut at {len}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            mut list in prop::collection::vec((any::<u64>(), any::<u8>(), "[a-zA-Z_.$]{0,20}"), 0..40),
        ) {
            list.sort_by_key(|symbol| symbol.0);
            let symbols = symbols(&list);
            prop_assert_eq!(Symbols::decode(symbols.encode()).unwrap(), symbols);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(mut blob in prop::collection::vec(any::<u8>(), 0..200)) {
            blob.splice(0..0, MAGIC.iter().copied());
            let _ = Symbols::decode(blob);
        }
    }
}
