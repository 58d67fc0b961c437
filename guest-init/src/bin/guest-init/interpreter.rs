//! Which other file a program needs to be started at all.

use std::fs;
use std::path::Path;

/// The dynamic loader that an ELF names in `PT_INTERP`, or the interpreter of a `#!` line.
pub fn of(program: &Path) -> Option<String> {
    parse(&fs::read(program).ok()?)
}

fn parse(bytes: &[u8]) -> Option<String> {
    if let Some(script) = bytes.strip_prefix(b"#!") {
        let line = script.split(|&byte| byte == b'\n').next()?;
        let word = line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?;
        return String::from_utf8(word.to_vec()).ok();
    }
    // ELF64 little-endian; places of the fields from elf(5).
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = usize::try_from(u64::from_le_bytes(field(bytes, 0x20)?)).ok()?;
    let entry = usize::from(u16::from_le_bytes(field(bytes, 0x36)?));
    let count = usize::from(u16::from_le_bytes(field(bytes, 0x38)?));
    (0..count).find_map(|i| {
        let header = bytes.get(table.checked_add(i * entry)?..)?;
        let is_interpreter = u32::from_le_bytes(field(header, 0)?) == libc::PT_INTERP;
        let at = usize::try_from(u64::from_le_bytes(field(header, 8)?)).ok()?;
        let length = usize::try_from(u64::from_le_bytes(field(header, 32)?)).ok()?;
        let path = bytes.get(at..at.checked_add(length)?).filter(|_| is_interpreter)?;
        Some(String::from_utf8_lossy(path).trim_end_matches('\0').to_owned())
    })
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_loader_of_this_very_test() {
        let me = std::env::current_exe().expect("known");
        let loader = of(&me).expect("a test binary is linked dynamically");
        assert!(loader.contains("/ld-") && Path::new(&loader).exists(), "{loader}");
    }

    #[test]
    fn reads_a_script_and_refuses_the_rest() {
        assert_eq!(parse(b"#! /bin/sh -e\nexit"), Some("/bin/sh".into()));
        assert_eq!(parse(b"#!"), None);
        assert_eq!(parse(b"\x7fELF\x02\x01"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn a_truncated_program_has_no_interpreter() {
        let me = fs::read(std::env::current_exe().expect("known")).expect("readable");
        for length in (0..1024).step_by(7) {
            let _any = parse(&me[..length]);
        }
    }
}
