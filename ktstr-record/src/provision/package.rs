//! Programs of the archive's packages: what a test runs in its guest and the host does not have.
//!
//! A package is a bundle like the emulator: unpacked with all that it depends on into the cache, nothing installed. Its programs are
//! started by the loader of the bundle with the libraries of the bundle, so that the C library of the host does not matter.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use ktstr_replay::text::Candidates;

use super::apt::Purpose;
use super::bundle::{LIBRARIES, LOADER, Recipe, Suite};
use super::error::{Error, Result};
use super::host::Context;
use crate::elf::{is_elf, is_for_guest, needs};

/// Where packages have their programs.
const PROGRAM_FOLDERS: [&str; 6] = ["usr/bin", "usr/sbin", "bin", "sbin", "usr/games", "usr/local/bin"];
/// Where a loader looks for libraries that no run path leads to.
const LIBRARY_FOLDERS: [&str; 3] = [LIBRARIES, "usr/lib64", "usr/lib"];
/// Shortest and longest name of a package. Source: Debian Policy, 5.6.1; apt takes no longer file name.
const NAME_BYTES: std::ops::RangeInclusive<usize> = 2..=100;

/// A program of a package. All paths but the root are relative to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageProgram {
    /// The folder into which the package was unpacked with all that it depends on. It is laid out as `/`.
    pub root: PathBuf,
    /// The package's file, which names its version.
    pub version: String,
    /// The program.
    pub program: PathBuf,
    /// The loader that starts it; `None`: it is linked statically.
    pub loader: Option<PathBuf>,
    /// The libraries that it and they name.
    pub libraries: Vec<PathBuf>,
    /// The folders that these are in.
    pub folders: Vec<PathBuf>,
}

/// Whether a package can have this name. What has another form could be an option of apt.
#[must_use]
pub fn is_package_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    NAME_BYTES.contains(&name.len()) && begins && name.bytes().all(plain)
}

/// The program `binary` of `package`, out of the cache or fetched into it.
pub(super) fn program(context: &Context, package: &str, binary: &str) -> Result<PackageProgram> {
    if !is_package_name(package) {
        return Err(Error::PackageName { name: package.to_owned() });
    }
    let what = format!("the package {package}");
    let name = format!("package-{package}");
    let recipe = Recipe {
        purpose: Purpose {
            name: "trixie",
            what: &what,
            instead: "install the program, so that it is on PATH, or give its path as `binary`",
        },
        suite: Suite::Current,
        name: &name,
        packages: &[package],
        numbered: &[],
        newest: &[],
        required: &[],
    };
    // Kept whether it has the program or not: a misspelt one is to be found out without a second download.
    let bundle = recipe.get(context, false, |_| Ok(None))?;
    let of_package = |file: &&String| file.split_once('_').is_some_and(|(name, _)| name == package);
    let version = bundle.contents.packages.iter().find(of_package).cloned().unwrap_or_default();
    let program = find(&bundle.root, package, binary)?;
    let (loader, libraries, folders) = closure(&bundle.root, &program)?;
    Ok(PackageProgram { root: bundle.root, version, program, loader, libraries, folders })
}

/// Where below `root` the program is.
fn find(root: &Path, package: &str, binary: &str) -> Result<PathBuf> {
    let is_program = |path: &Path| {
        root.join(path).metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let places = PROGRAM_FOLDERS.iter().map(|folder| Path::new(folder).join(binary));
    let plain = Path::new(binary).components().eq([Component::Normal(binary.as_ref())]);
    let Some(path) = places.into_iter().find(|path| plain && is_program(path)) else {
        return Err(Error::NotInPackage {
            package: package.to_owned(),
            binary: binary.to_owned(),
            candidates: Candidates::new(binary, programs(root)),
        });
    };
    let bytes = fs::read(root.join(&path)).map_err(Error::io("read", &path))?;
    if !is_elf(&bytes) || !is_for_guest(&bytes) {
        let what = if bytes.starts_with(b"#!") { "a script" } else { "no 64-bit x86 program" };
        return Err(Error::PackageScript { package: package.to_owned(), binary: binary.to_owned(), what });
    }
    Ok(path)
}

/// The names of the programs below `root`.
fn programs(root: &Path) -> Vec<String> {
    let folders = PROGRAM_FOLDERS.iter().filter_map(|folder| fs::read_dir(root.join(folder)).ok());
    let names = folders.flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Loader, libraries and their folders, relative to `root`.
type Closure = (Option<PathBuf>, Vec<PathBuf>, Vec<PathBuf>);

/// What `program` needs in order to run elsewhere.
fn closure(root: &Path, program: &Path) -> Result<Closure> {
    let (mut libraries, mut folders, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    let mut loader = None;
    let mut queue = vec![program.to_owned()];
    while let Some(file) = queue.pop() {
        let path = root.join(&file);
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let needs = needs(&bytes).map_err(|e| Error::io("read", &path)(std::io::Error::other(e)))?;
        if file == program && needs.interpreter.is_some() {
            loader = Some(PathBuf::from(LOADER));
        }
        let own = file.parent().unwrap_or(Path::new("")).to_owned();
        let run_path = |folder: &String| {
            let folder = folder.replace("${ORIGIN}", "$ORIGIN");
            match folder.strip_prefix("$ORIGIN") {
                Some(rest) => flat(&own.join(rest.trim_start_matches('/'))),
                None => PathBuf::from(folder.trim_start_matches('/')),
            }
        };
        let by_run_path = needs.rpath.iter().chain(&needs.runpath).map(run_path);
        let search: Vec<PathBuf> = by_run_path.chain(LIBRARY_FOLDERS.map(PathBuf::from)).collect();
        for name in needs.libraries.into_iter().filter(|name| !name.contains('/')) {
            if !seen.insert(name.clone()) {
                continue;
            }
            let Some(folder) = search.iter().find(|folder| root.join(folder).join(&name).exists()) else {
                let what = format!("the bundle of {}", program.display());
                return Err(Error::Incomplete { what, path: PathBuf::from(name) });
            };
            if !folders.contains(folder) {
                folders.push(folder.clone());
            }
            libraries.push(folder.join(&name));
            queue.push(folder.join(&name));
        }
    }
    Ok((loader, libraries, folders))
}

/// A relative path without `..`, as far as it can be.
fn flat(path: &Path) -> PathBuf {
    let mut flat = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                flat.pop();
            }
            Component::Normal(name) => flat.push(name),
            _ => {}
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &[u8], mode: u32) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn names_of_packages_are_no_options() {
        for name in ["fio", "stress-ng", "libc6", "g++", "0ad", "python3.13"] {
            assert!(is_package_name(name), "{name}");
        }
        for name in ["", "f", "-oDir::State=/", "Fio", "a b", "fio=1", "../x", &"a".repeat(101)] {
            assert!(!is_package_name(name), "{name}");
        }
    }

    #[test]
    fn a_program_that_is_not_in_its_package_names_those_that_are() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "usr/bin/stress-ng", crate::init_image(), 0o755);
        put(dir.path(), "usr/share/stress", b"", 0o644);
        assert_eq!(find(dir.path(), "p", "stress-ng").unwrap(), PathBuf::from("usr/bin/stress-ng"));
        let text = find(dir.path(), "p", "stress").unwrap_err().to_string();
        assert!(text.contains("`stress`") && text.contains("stress-ng"), "{text}");
        for outside in ["../bin/stress-ng", "/bin/sh", "."] {
            assert!(find(dir.path(), "p", outside).is_err(), "{outside}");
        }
    }

    #[test]
    fn a_script_of_a_package_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "usr/bin/tool", b"#!/usr/bin/python3\n", 0o755);
        let text = find(dir.path(), "p", "tool").unwrap_err().to_string();
        assert!(text.contains("a script") && text.contains("`binary`"), "{text}");
    }

    #[test]
    fn a_program_that_is_linked_statically_needs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "usr/bin/init", crate::init_image(), 0o755);
        let found = closure(dir.path(), Path::new("usr/bin/init")).unwrap();
        assert_eq!(found, (None, Vec::new(), Vec::new()));
    }

    #[test]
    fn the_closure_of_a_program_has_its_libraries_and_their_folders() {
        // The host is laid out as a bundle.
        let (loader, libraries, folders) = closure(Path::new("/"), Path::new("usr/bin/sh")).unwrap();
        assert_eq!(loader, Some(PathBuf::from(LOADER)));
        assert!(libraries.contains(&Path::new(LIBRARIES).join("libc.so.6")), "{libraries:?}");
        assert!(folders.contains(&PathBuf::from(LIBRARIES)), "{folders:?}");
    }

    #[test]
    fn run_paths_are_taken_below_the_root() {
        assert_eq!(flat(Path::new("usr/bin/../lib/x")), PathBuf::from("usr/lib/x"));
        assert_eq!(flat(Path::new("../../x")), PathBuf::from("x"));
    }
}
