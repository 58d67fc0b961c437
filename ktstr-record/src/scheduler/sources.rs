//! The files that a scheduler is built of: its own sources, and the kernel's types out of its file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use object::{Object, ObjectSection, ReadCache};
use xxhash_rust::xxh3::Xxh3;

use super::error::BuildError;

/// The most files that are looked at, and how deep: a guard against being pointed at a source tree or at `/`.
const MAX_FILES: usize = 2000;
const MAX_DEPTH: usize = 8;

/// A scheduler's folder with what is in it.
#[derive(Debug)]
pub(super) struct Sources {
    /// The folder, absolute.
    pub dir: PathBuf,
    /// The BPF side: `NAME.bpf.c`.
    pub bpf: Vec<PathBuf>,
    /// What is linked into the program: `NAME.c`.
    pub loader: Vec<PathBuf>,
    /// Every `.c` and `.h` below `dir`, ascending: any of them may be included.
    files: Vec<PathBuf>,
}

impl Sources {
    /// Looks for the scheduler `name` in `dir`.
    pub(super) fn find(dir: &Path, name: &str) -> Result<Self, BuildError> {
        let c_identifier = !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_');
        if !c_identifier {
            return Err(BuildError::Name { name: name.to_owned() });
        }
        let dir = fs::canonicalize(dir).map_err(BuildError::io("open the scheduler's folder", dir))?;
        let source = |suffix: &str| {
            let path = dir.join(format!("{name}{suffix}"));
            let missing = || BuildError::NoSource { dir: dir.clone(), missing: format!("{name}{suffix}") };
            if path.is_file() { Ok(path) } else { Err(missing()) }
        };
        let (bpf, loader) = (vec![source(".bpf.c")?], vec![source(".c")?]);
        Self::with_all_files(dir, bpf, loader)
    }

    /// All sources in `dir`.
    pub(super) fn all(dir: &Path) -> Result<Self, BuildError> {
        let dir = fs::canonicalize(dir).map_err(BuildError::io("open the suite's folder", dir))?;
        let (mut bpf, mut loader) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&dir).map_err(BuildError::io("list", &dir))? {
            let path = entry.map_err(BuildError::io("list", &dir))?.path();
            match path.file_name().and_then(|name| name.to_str()) {
                Some(name) if name.ends_with(".bpf.c") => bpf.push(path),
                Some(name) if name.ends_with(".c") => loader.push(path),
                _ => {}
            }
        }
        bpf.sort();
        loader.sort();
        Self::with_all_files(dir, bpf, loader)
    }

    fn with_all_files(dir: PathBuf, bpf: Vec<PathBuf>, loader: Vec<PathBuf>) -> Result<Self, BuildError> {
        let mut files = Vec::new();
        collect(&dir, MAX_DEPTH, &mut files)?;
        if files.len() > MAX_FILES {
            return Err(BuildError::TooManySources { dir, limit: MAX_FILES });
        }
        files.sort();
        Ok(Self { dir, bpf, loader, files })
    }

    /// Feeds names and contents of all files to `hash`.
    pub(super) fn hash_into(&self, hash: &mut Xxh3) -> Result<(), BuildError> {
        for path in &self.files {
            let bytes = fs::read(path).map_err(BuildError::io("read", path))?;
            let name = path.strip_prefix(&self.dir).unwrap_or(path).as_os_str().as_encoded_bytes();
            for part in [name, &bytes] {
                hash.update(&(part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
        Ok(())
    }
}

/// Adds the C files below `dir`, at most `depth` folders deep, and stops once there are too many.
fn collect(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), BuildError> {
    for entry in fs::read_dir(dir).map_err(BuildError::io("list", dir))? {
        let entry = entry.map_err(BuildError::io("list", dir))?;
        // Editors keep their locks and copies under such names, some of them dangling links.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let kind = fs::metadata(&path).map_err(BuildError::io("look at", &path))?;
        let is_c = path.extension().is_some_and(|extension| extension == "c" || extension == "h");
        if kind.is_file() && is_c {
            files.push(path);
        } else if kind.is_dir() && depth > 0 {
            collect(&path, depth - 1, files)?;
        }
        if files.len() > MAX_FILES {
            break;
        }
    }
    Ok(())
}

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
    use super::*;

    fn digest(dir: &Path) -> u128 {
        let mut hash = Xxh3::new();
        Sources::find(dir, "scx_x").unwrap().hash_into(&mut hash).unwrap();
        hash.digest128()
    }

    fn scheduler() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("scx_x.bpf.c"), "bpf").unwrap();
        fs::write(dir.path().join("scx_x.c"), "loader").unwrap();
        dir
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = scheduler();
        fs::remove_file(dir.path().join("scx_x.c")).unwrap();
        let error = Sources::find(dir.path(), "scx_x").unwrap_err();
        assert!(error.to_string().starts_with("no scx_x.c in "), "{error}");
    }

    #[test]
    fn a_suite_is_all_c_files_of_its_folder_and_of_no_other() {
        let dir = scheduler();
        fs::create_dir(dir.path().join("include")).unwrap();
        for name in ["runner.c", "scx_test.h", "include/other.c", "Makefile"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let sources = Sources::all(dir.path()).unwrap();
        let names = |paths: &[PathBuf]| -> Vec<String> {
            paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&sources.bpf), ["scx_x.bpf.c"]);
        assert_eq!(names(&sources.loader), ["runner.c", "scx_x.c"]);
    }

    #[test]
    fn a_name_that_is_no_identifier_is_refused() {
        let dir = scheduler();
        for name in ["", "../scx_x", "9lives", "scx-x"] {
            assert!(matches!(Sources::find(dir.path(), name), Err(BuildError::Name { .. })), "{name}");
        }
    }

    #[test]
    fn the_hash_follows_included_files() {
        let dir = scheduler();
        let before = digest(dir.path());
        assert_eq!(before, digest(dir.path()));
        fs::create_dir(dir.path().join("include")).unwrap();
        fs::write(dir.path().join("include/x.h"), "one").unwrap();
        let with_header = digest(dir.path());
        assert_ne!(before, with_header);
        fs::write(dir.path().join("include/x.h"), "two").unwrap();
        assert_ne!(with_header, digest(dir.path()));
    }

    #[test]
    fn the_hash_does_not_follow_other_files() {
        let dir = scheduler();
        let before = digest(dir.path());
        fs::write(dir.path().join("README"), "text").unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join(".#scx_x.c")).unwrap();
        assert_eq!(before, digest(dir.path()));
    }

    #[test]
    fn a_loop_of_links_ends() {
        let dir = scheduler();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("again")).unwrap();
        assert!(Sources::find(dir.path(), "scx_x").is_ok());
    }

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
