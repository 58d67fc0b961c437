//! kallsyms: the kernel's own symbol table, decoded from its memory.
//!
//! Source: `kernel/kallsyms.c` and `scripts/kallsyms.c` of Linux. A symbol is a length (7 bits, or 15 with the top bit
//! of the first byte set) and that many token numbers; the tokens' texts, one after the other, are its class and name.
//! Addresses are 32-bit offsets, of which there are three forms:
//!
//! | kernels | `kallsyms_relative_base` | address of symbol i |
//! |---|---|---|
//! | 7.x | absent | `&offsets[i] + (s32)offsets[i]` |
//! | 6.15 and later | present, no offset is negative | `base + (u32)offsets[i]` |
//! | before, SMP | present | `offsets[i] >= 0 ? offsets[i] : base - 1 - offsets[i]` |

use super::table::{SymbolEntry, Symbols, SymbolsError};
use crate::kernel::{KernelError, VirtualMemory, Vmcoreinfo, bytes};
use crate::units::KernelVirt;

/// Most symbols that a table may claim. The largest known kernels have 250,000.
const MAX_SYMBOLS: u32 = 4_000_000;
/// Most bytes of compressed names.
const MAX_NAMES_BYTES: u64 = 64 << 20;
/// Most bytes of all names, decoded.
const MAX_TEXT_BYTES: usize = 256 << 20;
/// Longest name that is kept (`KSYM_NAME_LEN` is 512).
const MAX_NAME_BYTES: usize = 2048;
const TOKENS: usize = 256;

/// The texts that a name's bytes stand for.
struct Tokens {
    text: Vec<u8>,
    index: [u16; TOKENS],
}

impl Tokens {
    fn read(memory: &VirtualMemory<'_>, table: KernelVirt, index: KernelVirt) -> Result<Self, KernelError> {
        let raw = memory.bytes(index, TOKENS * 2)?;
        let mut index = [0; TOKENS];
        for (position, slot) in index.iter_mut().enumerate() {
            *slot = bytes::u16_at(&raw, position * 2).unwrap_or_default();
        }
        // The last token ends at its NUL; no token is longer than a page.
        let len = usize::from(index.iter().copied().max().unwrap_or_default()) + 4096;
        let text = match memory.bytes(table, len) {
            Ok(text) => text,
            Err(_) => memory.bytes(table, len - 4096 + 16)?,
        };
        Ok(Self { text, index })
    }

    fn get(&self, token: u8) -> Option<&[u8]> {
        let start = usize::from(*self.index.get(usize::from(token))?);
        let rest = self.text.get(start..)?;
        let len = rest.iter().position(|&byte| byte == 0)?;
        rest.get(..len)
    }
}

impl Symbols {
    /// Decode the symbols of the kernel that `info` describes.
    ///
    /// # Errors
    /// [`KernelError::Symbols`] for tables that are not found or do not hold together; those of reading memory.
    pub fn from_memory(memory: &VirtualMemory<'_>, info: &Vmcoreinfo) -> Result<Self, KernelError> {
        let place = |name: &'static str| info.symbol(name).ok_or(SymbolsError::NoTable(name));
        let names_at = place("kallsyms_names")?;
        let count = memory.u32(place("kallsyms_num_syms")?)?;
        if count > MAX_SYMBOLS {
            let why = "it claims more symbols than any kernel has";
            return Err(SymbolsError::Damaged { at: 0, count: u64::from(count), why }.into());
        }
        let tokens = Tokens::read(memory, place("kallsyms_token_table")?, place("kallsyms_token_index")?)?;
        // The names' length is stated nowhere; they end before the next of the tables.
        let tables =
            ["kallsyms_token_table", "kallsyms_token_index", "kallsyms_offsets", "kallsyms_relative_base"];
        let next =
            tables.iter().filter_map(|name| info.symbol(name)).filter(|table| table.0 > names_at.0).min();
        let len = next.map_or(MAX_NAMES_BYTES, |next| next.0 - names_at.0).min(MAX_NAMES_BYTES);
        let names = memory.bytes(names_at, len as usize)?;
        let addresses = addresses(memory, info, count)?;
        let symbols = decode(&names, &tokens, &addresses)?;

        // The one check that holds for every form: a symbol whose address is known from elsewhere.
        let stated = place("init_top_pgt")?.0;
        match symbols.address("init_top_pgt") {
            Some(decoded) if decoded.0 == stated => Ok(symbols),
            other => Err(SymbolsError::Disagree { decoded: other.map(|address| address.0), stated }.into()),
        }
    }
}

fn addresses(memory: &VirtualMemory<'_>, info: &Vmcoreinfo, count: u32) -> Result<Vec<u64>, KernelError> {
    let at = info.symbol("kallsyms_offsets").ok_or(SymbolsError::NoTable("kallsyms_offsets"))?;
    let raw = memory.bytes(at, count as usize * 4)?;
    let offsets = raw.as_chunks().0.iter().map(|word| i32::from_le_bytes(*word));
    let Some(base) = info.symbol("kallsyms_relative_base") else {
        let relative = |(position, offset): (usize, i32)| {
            at.0.wrapping_add(position as u64 * 4).wrapping_add_signed(i64::from(offset))
        };
        return Ok(offsets.enumerate().map(relative).collect());
    };
    let base = memory.u64(base)?;
    if offsets.clone().all(|offset| offset >= 0) {
        return Ok(offsets.map(|offset| base.wrapping_add(u64::from(offset.cast_unsigned()))).collect());
    }
    let either = |offset: i32| match u64::try_from(offset) {
        Ok(absolute) => absolute,
        Err(_) => base.wrapping_sub(1).wrapping_sub_signed(i64::from(offset)),
    };
    Ok(offsets.map(either).collect())
}

fn decode(names: &[u8], tokens: &Tokens, addresses: &[u64]) -> Result<Symbols, SymbolsError> {
    // Texts with their lengths at hand: this loop runs two million times.
    let texts: Vec<&[u8]> = (0..=u8::MAX).map(|token| tokens.get(token).unwrap_or_default()).collect();
    let mut text = Vec::with_capacity(names.len().saturating_mul(2).min(MAX_TEXT_BYTES));
    let mut entries = Vec::with_capacity(addresses.len());
    let mut rest = names;
    for (at, &address) in addresses.iter().enumerate() {
        let damaged = |why| SymbolsError::Damaged { at: at as u64, count: addresses.len() as u64, why };
        let (compressed, later) = split_name(rest).ok_or_else(|| damaged("the names end before it"))?;
        rest = later;
        let start = text.len();
        for &token in compressed {
            // Before it is made: tokens of some kilobytes each make gigabytes of one name.
            if text.len() - start > MAX_NAME_BYTES || text.len() > MAX_TEXT_BYTES {
                return Err(damaged("its name is longer than any kernel's"));
            }
            text.extend_from_slice(texts.get(usize::from(token)).copied().unwrap_or_default());
        }
        let class = *text.get(start).ok_or_else(|| damaged("it has neither class nor name"))?;
        let len =
            u16::try_from(text.len() - start - 1).ok().filter(|len| usize::from(*len) <= MAX_NAME_BYTES);
        let len = len.ok_or_else(|| damaged("its name is longer than any kernel's"))?;
        entries.push(SymbolEntry { address, name: start as u32 + 1, len, class });
    }
    Symbols::of_bytes(text, entries).ok_or(SymbolsError::Damaged {
        at: 0,
        count: addresses.len() as u64,
        why: "the names are not text",
    })
}

/// The token numbers of the first name, and what follows it.
fn split_name(names: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&low, rest) = names.split_first()?;
    if low & 0x80 == 0 {
        return rest.split_at_checked(usize::from(low));
    }
    let (&high, rest) = rest.split_first()?;
    rest.split_at_checked(usize::from(low & 0x7f) | usize::from(high) << 7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tokens 0..=255 stand for themselves, but 1 for "Tinit_" and 2 for "pgt".
    fn tokens() -> Tokens {
        let mut text = Vec::new();
        let mut index = [0; TOKENS];
        for (token, slot) in index.iter_mut().enumerate() {
            *slot = text.len() as u16;
            match token {
                0 => {}
                1 => text.extend_from_slice(b"Tinit_"),
                2 => text.extend_from_slice(b"pgt"),
                128.. => text.push(b'?'),
                other => text.push(other as u8),
            }
            text.push(0);
        }
        Tokens { text, index }
    }

    #[test]
    fn names_are_made_of_tokens_and_addresses_put_in_order() {
        let mut names = vec![6, 1, b't', b'o', b'p', b'_', 2];
        names.extend([3, b'd', b'x', b'y']);
        // A length of two bytes: 130 = 0x80 | 2, 1.
        names.extend([0x82, 1, b't']);
        names.extend([b'z'; 129]);
        let symbols = decode(&names, &tokens(), &[30, 10, 20]).unwrap();
        let found: Vec<(u64, char)> = symbols.iter().map(|one| (one.address.0, one.class)).collect();
        assert_eq!(found, [(10, 'd'), (20, 't'), (30, 'T')]);
        assert_eq!(symbols.address("init_top_pgt"), Some(KernelVirt(30)));
        assert_eq!(symbols.address(&"z".repeat(129)), Some(KernelVirt(20)));
        assert_eq!(symbols.address("init_top"), None);
        let (symbol, distance) = symbols.at(KernelVirt(25)).unwrap();
        assert_eq!((symbol.address.0, distance), (20, 5));
        assert_eq!(symbols.at(KernelVirt(9)), None);
    }

    #[test]
    fn names_that_end_early_are_an_error() {
        let names = [2, b'd', b'x', 5, b'd'];
        let error = decode(&names, &tokens(), &[1, 2]).unwrap_err();
        assert_eq!(error, SymbolsError::Damaged { at: 1, count: 2, why: "the names end before it" });
    }

    #[test]
    fn a_name_that_expands_without_end_is_an_error_and_takes_no_memory() {
        // Each token is 60,000 bytes long, and the name 30,000 tokens: 1.8 GB.
        let long = Tokens { text: [vec![b'x'; 60_000], vec![0]].concat(), index: [0; TOKENS] };
        let names = [vec![0x80 | (30_000 & 0x7f) as u8, (30_000 >> 7) as u8], vec![7; 30_000]].concat();
        let error = decode(&names, &long, &[1]).unwrap_err();
        assert!(error.to_string().contains("longer than any kernel's"), "{error}");
    }

    /// What is decoded from memory goes into a trace, and must be read from there.
    #[test]
    fn a_class_that_is_half_a_character_is_refused() {
        let mut accent = tokens();
        let start = accent.text.len();
        accent.text.extend_from_slice("é\0".as_bytes());
        accent.index[3] = start as u16;
        assert!(decode(&[2, 3, b'x'], &accent, &[1]).is_err());
        let symbols = decode(&[2, b'T', 3], &accent, &[1]).unwrap();
        assert_eq!(Symbols::decode(symbols.encode()).unwrap(), symbols);
    }

    proptest! {
        #[test]
        fn any_names_decode_or_are_refused(
            names in prop::collection::vec(any::<u8>(), 0..600),
            addresses in prop::collection::vec(any::<u64>(), 0..40),
        ) {
            if let Ok(symbols) = decode(&names, &tokens(), &addresses) {
                prop_assert_eq!(symbols.len(), addresses.len());
                prop_assert!(symbols.iter().is_sorted_by_key(|symbol| symbol.address));
            }
        }
    }
}
