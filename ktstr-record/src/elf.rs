//! What a program needs to run, and programs without their debug sections.
//!
//! A test binary is mostly DWARF, which nothing in the guest reads. What a program is loaded from (its segments)
//! is kept byte for byte; behind it go the sections that remain, symbols for backtraces among them, and a section
//! table in which the dropped ones are null, so that no index changes.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use object::elf::{
    DT_NEEDED, DT_RPATH, DT_RUNPATH, EM_X86_64, FileHeader64, SHF_ALLOC, SHT_NULL, SectionFlags,
    SectionHeader64,
};
use object::pod::{bytes_of, bytes_of_mut};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::read::{ReadCache, ReadRef};
use object::{Endianness, FileKind, U32, U64};

/// What a program or library needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The dynamic loader of a program, or the interpreter of a script.
    pub(crate) interpreter: Option<String>,
    /// Shared libraries, by name.
    pub(crate) libraries: Vec<String>,
    /// Folders of `DT_RPATH`, unexpanded.
    pub(crate) rpath: Vec<String>,
    /// Folders of `DT_RUNPATH`, unexpanded.
    pub(crate) runpath: Vec<String>,
}

/// Whether these bytes are a program or library for the guest's CPUs.
pub(crate) fn is_for_guest(data: &[u8]) -> bool {
    FileHeader64::<Endianness>::parse(data)
        .is_ok_and(|header| header.endian().is_ok_and(|endian| header.e_machine(endian) == EM_X86_64))
}

/// Whether these bytes are an ELF at all.
pub(crate) fn is_elf(data: &[u8]) -> bool {
    matches!(FileKind::parse(data), Ok(FileKind::Elf32 | FileKind::Elf64))
}

/// What the ELF `data` needs.
pub(crate) fn needs(data: &[u8]) -> Result<Needs, object::Error> {
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
pub(crate) fn script_interpreter(data: &[u8]) -> Option<String> {
    let line = data.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()).map(text)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `data` without debug sections, or as it is when it has none or is not laid out as linkers do it.
pub(crate) fn without_debug(data: &[u8]) -> Cow<'_, [u8]> {
    let copied = |at: u64, size: usize, out: &mut Vec<u8>| -> io::Result<()> {
        let bytes = usize::try_from(at).ok().and_then(|at| data.get(at..)?.get(..size));
        out.extend_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    };
    let smaller = Kept::of(data).filter(|kept| kept.bytes() < data.len());
    match smaller.and_then(|kept| kept.assemble(copied).ok()) {
        Some(smaller) => Cow::Owned(smaller),
        None => Cow::Borrowed(data),
    }
}

/// As [`without_debug`], of a file of which only what is kept is read: a debug build is mostly what is dropped.
///
/// # Errors
/// A file that cannot be read, or that became shorter meanwhile.
pub(crate) fn read_without_debug(mut file: &File) -> io::Result<Vec<u8>> {
    let whole = file.metadata()?.len();
    let cache = ReadCache::new(file);
    let smaller = Kept::of(&cache).filter(|kept| (kept.bytes() as u64) < whole);
    let mut read = |at: u64, size: usize, out: &mut Vec<u8>| -> io::Result<()> {
        file.seek(SeekFrom::Start(at))?;
        let got = file.take(size as u64).read_to_end(out)?;
        if got == size { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    };
    match smaller {
        Some(kept) => kept.assemble(read),
        None => {
            let mut out = Vec::new();
            read(0, usize::try_from(whole).map_err(io::Error::other)?, &mut out)?;
            Ok(out)
        }
    }
}

/// What is kept of an ELF, and where it goes.
struct Kept {
    header: FileHeader64<Endianness>,
    /// The first bytes of the file, segments and all.
    loaded: usize,
    /// Sections behind them: where they begin in the file, their sizes, and where they are to begin.
    sections: Vec<(u64, usize, usize)>,
    table: Vec<SectionHeader64<Endianness>>,
    /// Where that is to begin.
    table_at: usize,
}

impl Kept {
    /// `None` where the file is no ELF, or not laid out as linkers do it.
    fn of<'d, R: ReadRef<'d>>(data: R) -> Option<Self> {
        let header = FileHeader64::<Endianness>::parse(data).ok()?;
        let endian = header.endian().ok()?;
        let sections = header.sections(endian, data).ok()?;
        let loaded = loaded_bytes(header, endian, data)?;
        let whole = data.len().ok()?;
        let mut end = loaded;
        let (mut kept, mut table) = (Vec::new(), Vec::new());
        for section in sections.iter() {
            let mut entry = *section;
            let place = section.file_range(endian);
            let is_debug = sections.section_name(endian, section).is_ok_and(is_debug_name);
            match place {
                _ if section.sh_flags(endian).contains(SHF_ALLOC) => {
                    // Part of a segment; one that is not would lose its bytes.
                    place.is_none_or(|(at, size)| at.saturating_add(size) <= loaded as u64).then_some(())?;
                }
                _ if is_debug => entry = null(endian),
                Some((at, size)) => {
                    at.checked_add(size).filter(|end| *end <= whole)?;
                    let size = usize::try_from(size).ok()?;
                    let to = end.next_multiple_of(section.sh_addralign(endian).clamp(1, 4096) as usize);
                    entry.sh_offset = U64::new(endian, to as u64);
                    kept.push((at, size, to));
                    end = to.checked_add(size)?;
                }
                None => {}
            }
            table.push(entry);
        }
        let table_at = end.next_multiple_of(8);
        let mut header = *header;
        header.e_shoff = U64::new(endian, table_at as u64);
        (loaded as u64 <= whole).then_some(Self { header, loaded, sections: kept, table, table_at })
    }

    /// The size of what is assembled. Sections that overlap in a damaged file make it larger than that.
    fn bytes(&self) -> usize {
        self.table_at.saturating_add(size_of_val(&*self.table))
    }

    /// Put it together; `read` appends so many bytes of the file from an offset on.
    fn assemble(
        mut self,
        mut read: impl FnMut(u64, usize, &mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(self.bytes());
        read(0, self.loaded, &mut out)?;
        for (at, size, to) in self.sections {
            out.resize(to, 0);
            read(at, size, &mut out)?;
        }
        out.resize(self.table_at, 0);
        self.table.iter().for_each(|entry| out.extend_from_slice(bytes_of(entry)));
        let header = bytes_of_mut(&mut self.header);
        out.get_mut(..header.len()).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(header);
        Ok(out)
    }
}

/// How much of the file the segments and their table take.
fn loaded_bytes<'d, R: ReadRef<'d>>(
    header: &FileHeader64<Endianness>,
    endian: Endianness,
    data: R,
) -> Option<usize> {
    let segments = header.program_headers(endian, data).ok()?;
    let table = header.e_phoff(endian).checked_add(size_of_val(segments) as u64)?;
    let end = segments.iter().try_fold(table.max(size_of_val(header) as u64), |end, segment| {
        let (at, size) = segment.file_range(endian);
        Some(end.max(at.checked_add(size)?))
    })?;
    usize::try_from(end).ok()
}

fn is_debug_name(name: &[u8]) -> bool {
    [&b".debug_"[..], b".zdebug_", b".gdb_index"].iter().any(|prefix| name.starts_with(prefix))
}

/// The entry of a section that is not there.
fn null(endian: Endianness) -> SectionHeader64<Endianness> {
    let zero = U64::new(endian, 0);
    SectionHeader64 {
        sh_name: U32::new(endian, 0),
        sh_type: U32::new(endian, SHT_NULL),
        sh_flags: U64::new(endian, SectionFlags(0)),
        sh_addr: zero,
        sh_offset: zero,
        sh_size: zero,
        sh_link: U32::new(endian, 0),
        sh_info: U32::new(endian, 0),
        sh_addralign: zero,
        sh_entsize: zero,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use object::{Object, ObjectSymbol};
    use proptest::prelude::*;

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

    fn me() -> Vec<u8> {
        fs::read(std::env::current_exe().expect("known")).expect("readable")
    }

    fn symbols(data: &[u8]) -> Vec<(String, u64)> {
        let file = object::File::parse(data).expect("an ELF");
        file.symbols().map(|s| (s.name().unwrap_or_default().to_owned(), s.address())).collect()
    }

    #[test]
    fn this_test_binary_shrinks_runs_and_keeps_its_symbols() {
        let before = me();
        let after = without_debug(&before);
        assert!(after.len() < before.len(), "{} of {}", after.len(), before.len());
        for name in [".debug_info", ".debug_line", ".debug_str"] {
            let has = |data| object::File::parse(data).expect("an ELF").section_by_name(name).is_some();
            assert!(has(&before[..]) && !has(&after[..]), "{name}");
        }
        assert_eq!(symbols(&after), symbols(&before));
        let folder = tempfile::tempdir().expect("made");
        let program = folder.path().join("stripped");
        fs::write(&program, &after).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("set");
        let output = Command::new(program).arg("--list").output().expect("started");
        let tests = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && tests.contains("this_test_binary_shrinks"), "{output:?}");
    }

    /// Of the file only a part is read, and what comes of it is the same.
    #[test]
    fn a_file_is_read_as_its_bytes_are_rewritten() {
        let folder = tempfile::tempdir().expect("made");
        let read = |bytes: &[u8]| {
            let path = folder.path().join("file");
            fs::write(&path, bytes).expect("written");
            read_without_debug(&File::open(path).expect("there")).expect("readable")
        };
        let whole = me();
        for bytes in [&whole[..], &whole[..whole.len() / 2], crate::init_image(), b"#!/bin/sh\n", b""] {
            assert!(read(bytes) == *without_debug(bytes), "{} bytes", bytes.len());
        }
    }

    #[test]
    fn segments_stay_byte_for_byte() {
        let before = me();
        let header = FileHeader64::<Endianness>::parse(&*before).expect("an ELF");
        let loaded = loaded_bytes(header, Endianness::Little, &*before).expect("sane");
        let after = without_debug(&before);
        let start = size_of_val(header);
        assert_eq!(after[start..loaded], before[start..loaded]);
    }

    #[test]
    fn what_has_no_debug_sections_stays_as_it_is() {
        assert!(matches!(without_debug(crate::init_image()), Cow::Borrowed(_)));
        assert!(matches!(without_debug(b"#!/bin/sh\n"), Cow::Borrowed(_)));
        assert!(matches!(without_debug(b""), Cow::Borrowed(_)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_damaged_program_is_no_panic(at in 0..4096_usize, byte in any::<u8>(), cut in 64..200_000_usize) {
            let mut data = me();
            data[at] = byte;
            without_debug(&data);
            data.truncate(cut);
            without_debug(&data);
        }
    }
}
