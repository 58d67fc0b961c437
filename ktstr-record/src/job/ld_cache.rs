//! The dynamic loader's cache of the host's libraries.
//!
//! `/etc/ld.so.cache` in the format that glibc writes since 2.2 (`struct cache_file_new` of glibc's
//! sysdeps/generic/dl-cache.h):
//!
//! ```text
//!  0 "glibc-ld.so.cache1.1"
//! 20 u32 entries   24 u32 bytes of strings   28 u8 flags, padding and extensions to 48
//! 48 entries of { i32 flags, u32 name, u32 path, u32 -, u64 hwcap }, name and path as offsets in the file
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Where it lies.
pub const PATH: &str = "/etc/ld.so.cache";

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 24;
/// `FLAG_X8664_LIB64 | FLAG_ELF_LIBC6`.
const X86_64: u32 = 0x0303;

/// Libraries for x86-64 by name.
#[derive(Debug, Default)]
pub struct LdCache {
    libraries: HashMap<String, PathBuf>,
}

impl LdCache {
    /// The host's cache; empty where there is none, or one that is not understood.
    pub fn of_host() -> Self {
        std::fs::read(PATH).map_or_else(|_| Self::default(), |data| Self::parse(&data))
    }

    /// Where the cache says that the library is.
    pub fn find(&self, name: &str) -> Option<&Path> {
        self.libraries.get(name).map(PathBuf::as_path)
    }

    fn parse(data: &[u8]) -> Self {
        let entries =
            Some(data).filter(|data| data.starts_with(MAGIC)).and_then(|data| data.get(HEADER_BYTES..));
        let count = u32_at(data, MAGIC.len()).unwrap_or(0) as usize;
        let mut libraries = HashMap::new();
        for entry in entries.unwrap_or_default().chunks_exact(ENTRY_BYTES).take(count) {
            // Variants for certain CPUs only are left aside: the guest's CPU is another.
            let hwcap = u32_at(entry, 16).zip(u32_at(entry, 20));
            if u32_at(entry, 0) != Some(X86_64) || hwcap != Some((0, 0)) {
                continue;
            }
            let string = |at| u32_at(entry, at).and_then(|offset| string_at(data, offset as usize));
            if let (Some(name), Some(path)) = (string(4), string(8)) {
                libraries.entry(name.to_owned()).or_insert_with(|| PathBuf::from(path));
            }
        }
        Self { libraries }
    }
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn string_at(data: &[u8], at: usize) -> Option<&str> {
    let rest = data.get(at..)?;
    let length = rest.iter().position(|&byte| byte == 0)?;
    std::str::from_utf8(&rest[..length]).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cache(entries: &[(u32, u64, &str, &str)]) -> Vec<u8> {
        let mut data = MAGIC.to_vec();
        data.extend((entries.len() as u32).to_le_bytes());
        data.resize(HEADER_BYTES, 0);
        let mut strings = Vec::new();
        let base = HEADER_BYTES + entries.len() * ENTRY_BYTES;
        for (flags, hwcap, name, path) in entries {
            let mut place = |text: &str| {
                let at = (base + strings.len()) as u32;
                strings.extend(text.bytes().chain([0]));
                at
            };
            let (name, path) = (place(name), place(path));
            for word in [*flags, name, path, 0] {
                data.extend(word.to_le_bytes());
            }
            data.extend(hwcap.to_le_bytes());
        }
        data.extend(strings);
        data
    }

    #[test]
    fn finds_x86_64_libraries_of_every_cpu_only() {
        let data = cache(&[
            (0x0803, 0, "liba.so.1", "/lib/i386/liba.so.1"),
            (X86_64, 1 << 62, "liba.so.1", "/lib/v3/liba.so.1"),
            (X86_64, 0, "liba.so.1", "/lib/liba.so.1"),
        ]);
        assert_eq!(LdCache::parse(&data).find("liba.so.1"), Some(Path::new("/lib/liba.so.1")));
        assert_eq!(LdCache::parse(&data).find("libb.so.1"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_to_an_end(mut data in prop::collection::vec(any::<u8>(), 0..300)) {
            LdCache::parse(&data);
            data.splice(0..0, MAGIC.iter().copied());
            LdCache::parse(&data);
        }
    }
}
