//! The files that a scheduler is made of.

use std::fs;
use std::path::{Path, PathBuf};

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
    /// `NAME.bpf.c`.
    pub bpf: PathBuf,
    /// `NAME.c`.
    pub loader: PathBuf,
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
        let (bpf, loader) = (source(".bpf.c")?, source(".c")?);
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
}
