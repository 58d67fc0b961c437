//! What a program says that it needs to run.

use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, EM_X86_64, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind};

/// What a program or library needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The dynamic loader of a program, or the interpreter of a script.
    pub interpreter: Option<String>,
    /// Shared libraries, by name.
    pub libraries: Vec<String>,
    /// Folders of `DT_RPATH`, unexpanded.
    pub rpath: Vec<String>,
    /// Folders of `DT_RUNPATH`, unexpanded.
    pub runpath: Vec<String>,
}

/// Whether these bytes are a program or library for the guest's CPUs.
pub fn is_for_guest(data: &[u8]) -> bool {
    FileHeader64::<Endianness>::parse(data)
        .is_ok_and(|header| header.endian().is_ok_and(|endian| header.e_machine(endian) == EM_X86_64))
}

/// Whether these bytes are an ELF at all.
pub fn is_elf(data: &[u8]) -> bool {
    matches!(FileKind::parse(data), Ok(FileKind::Elf32 | FileKind::Elf64))
}

/// What the ELF `data` needs.
pub fn needs(data: &[u8]) -> Result<Needs, object::Error> {
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let mut needs = Needs::default();
    for segment in header.program_headers(endian, data)? {
        if let Some(interpreter) = segment.interpreter(endian, data)? {
            needs.interpreter = Some(text(interpreter));
        }
    }
    let table = header.sections(endian, data)?.dynamic_table(endian, data)?;
    for entry in &table {
        let list = match entry.tag {
            DT_NEEDED => {
                needs.libraries.push(text(table.string(entry)?));
                continue;
            }
            DT_RPATH => &mut needs.rpath,
            DT_RUNPATH => &mut needs.runpath,
            _ => continue,
        };
        list.extend(
            text(table.string(entry)?).split(':').filter(|folder| !folder.is_empty()).map(str::to_owned),
        );
    }
    Ok(needs)
}

/// The interpreter that the first line of a script names.
pub fn script_interpreter(data: &[u8]) -> Option<String> {
    let line = data.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()).map(text)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_needs_the_c_library_and_a_loader() {
        let me = std::fs::read(std::env::current_exe().expect("known")).expect("readable");
        let needs = needs(&me).expect("an ELF");
        assert!(needs.libraries.iter().any(|name| name == "libc.so.6"), "{needs:?}");
        assert!(needs.interpreter.is_some_and(|path| path.contains("/ld-")));
    }

    #[test]
    fn a_static_program_needs_nothing() {
        assert_eq!(needs(crate::init_image()).expect("an ELF"), Needs::default());
    }

    #[test]
    fn scripts_name_their_interpreter() {
        assert_eq!(script_interpreter(b"#! /usr/bin/env python3\n"), Some("/usr/bin/env".into()));
        assert_eq!(script_interpreter(b"\x7fELF"), None);
        assert_eq!(script_interpreter(b"#!\n/bin/sh"), None);
    }

    #[test]
    fn truncation_is_an_error_or_harmless() {
        let me = std::fs::read(std::env::current_exe().expect("known")).expect("readable");
        for length in (0..4096).chain((4096..me.len()).step_by(100_003)) {
            let _any = needs(&me[..length]);
        }
    }
}
