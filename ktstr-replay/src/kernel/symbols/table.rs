//! The decoded table.

use std::sync::OnceLock;

use xxhash_rust::xxh3::xxh3_64;

use crate::units::KernelVirt;

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
    pub(super) text: String,
    /// In ascending order of `address`; equal addresses in the kernel's order.
    pub(super) entries: Vec<Entry>,
    /// (hash of name, position), ascending. Made on first use.
    by_name: OnceLock<Vec<(u64, u32)>>,
}

/// One symbol of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
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
    fn new(text: String, mut entries: Vec<Entry>) -> Self {
        if !entries.is_sorted_by_key(|entry| entry.address) {
            entries.sort_by_key(|entry| entry.address);
        }
        Self { text, entries, by_name: OnceLock::new() }
    }

    /// As [`Symbols::new`] of bytes; `None` when a name is not text. All names together may well be: the length of one
    /// can cut a character in two.
    pub(super) fn of_bytes(text: Vec<u8>, entries: Vec<Entry>) -> Option<Self> {
        let text = String::from_utf8(text).ok()?;
        let is_text = |entry: &Entry| {
            let start = entry.name as usize;
            text.get(start..start.saturating_add(usize::from(entry.len))).is_some()
        };
        entries.iter().all(is_text).then(|| Self::new(text, entries))
    }

    /// A table of (address, class, name).
    #[cfg(test)]
    pub(crate) fn from_list<'n>(list: impl IntoIterator<Item = (u64, u8, &'n str)>) -> Self {
        let (mut text, mut entries) = (String::new(), Vec::new());
        for (address, class, name) in list {
            entries.push(Entry { address, name: text.len() as u32, len: name.len() as u16, class });
            text.push_str(name);
        }
        Self::new(text, entries)
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

    fn symbol(&self, entry: &Entry) -> Option<Symbol<'_>> {
        let start = entry.name as usize;
        Some(Symbol {
            name: self.text.get(start..start.checked_add(usize::from(entry.len))?)?,
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
        let table = self.by_name.get_or_init(|| {
            let hashed = self.entries.iter().enumerate().filter_map(|(position, entry)| {
                Some((xxh3_64(self.symbol(entry)?.name.as_bytes()), u32::try_from(position).ok()?))
            });
            let mut table: Vec<(u64, u32)> = hashed.collect();
            table.sort_unstable();
            table
        });
        let hash = xxh3_64(name.as_bytes());
        let start = table.partition_point(|&(other, _)| other < hash);
        let same =
            table.get(start..).unwrap_or_default().iter().take_while(move |&&(other, _)| other == hash);
        same.filter_map(|&(_, position)| self.symbol(self.entries.get(position as usize)?))
            .filter(move |symbol| symbol.name == name)
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
