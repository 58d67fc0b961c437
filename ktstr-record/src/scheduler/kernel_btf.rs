//! The kernel's types, out of its file: `.BTF`, and the header that BPF programs include.

use std::fs::File;
use std::path::Path;

use object::{Object, ObjectSection, ReadCache};

use super::error::BuildError;

/// The bytes of the `.BTF` section of the kernel at `vmlinux`. Only that section of the file is read.
pub(super) fn kernel_btf(vmlinux: &Path) -> Result<Vec<u8>, BuildError> {
    let elf_error = |source| BuildError::KernelElf { path: vmlinux.to_owned(), source };
    let file = File::open(vmlinux).map_err(BuildError::io("open the kernel", vmlinux))?;
    let cache = ReadCache::new(file);
    let elf = object::File::parse(&cache).map_err(elf_error)?;
    let section =
        elf.section_by_name(".BTF").ok_or_else(|| BuildError::NoBtf { path: vmlinux.to_owned() })?;
    Ok(section.data().map_err(elf_error)?.to_vec())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// An ELF64 file with the sections `.BTF` (holding `btf`, if any) and `.shstrtab`.
    fn elf_with(btf: Option<&[u8]>) -> Vec<u8> {
        let names = b"\0.BTF\0.shstrtab\0";
        let content = btf.unwrap_or_default();
        let header_bytes = 64_usize;
        let names_at = header_bytes + content.len();
        let table_at = (names_at + names.len()).next_multiple_of(8);
        let mut file = Vec::new();
        file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        file.extend_from_slice(&2_u16.to_le_bytes()); // ET_EXEC
        file.extend_from_slice(&62_u16.to_le_bytes()); // EM_X86_64
        file.extend_from_slice(&1_u32.to_le_bytes());
        file.extend_from_slice(&[0; 16]); // entry, program headers
        file.extend_from_slice(&(table_at as u64).to_le_bytes());
        file.extend_from_slice(&0_u32.to_le_bytes());
        let sections = if btf.is_some() { 3_u16 } else { 2 };
        for half in [64_u16, 0, 0, 64, sections, sections - 1] {
            file.extend_from_slice(&half.to_le_bytes());
        }
        file.extend_from_slice(content);
        file.extend_from_slice(names);
        file.resize(table_at + 64, 0); // and the null section's header
        let mut section = |name: u32, kind: u32, at: usize, size: usize| {
            file.extend_from_slice(&name.to_le_bytes());
            file.extend_from_slice(&kind.to_le_bytes());
            file.extend_from_slice(&[0; 16]);
            file.extend_from_slice(&(at as u64).to_le_bytes());
            file.extend_from_slice(&(size as u64).to_le_bytes());
            file.extend_from_slice(&[0; 24]);
        };
        if btf.is_some() {
            section(1, 1, header_bytes, content.len());
        }
        section(6, 3, names_at, names.len());
        file
    }

    #[test]
    fn the_section_is_found_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vmlinux");
        fs::write(&path, elf_with(Some(b"types"))).unwrap();
        assert_eq!(kernel_btf(&path).unwrap(), b"types");
    }

    #[test]
    fn a_kernel_without_btf_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vmlinux");
        fs::write(&path, elf_with(None)).unwrap();
        let error = kernel_btf(&path).unwrap_err();
        assert!(matches!(error, BuildError::NoBtf { .. }), "{error}");
        assert!(error.to_string().contains("CONFIG_DEBUG_INFO_BTF"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_elf_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vmlinux");
        fs::write(&path, "not a kernel").unwrap();
        assert!(matches!(kernel_btf(&path), Err(BuildError::KernelElf { .. })));
    }
}
