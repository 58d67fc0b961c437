//! Hermetic bundles: programs of one Debian suite with every library that they need, in one folder.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::apt::{Apt, Purpose};
use super::cache::Lock;
use super::error::{Error, Result};
use super::host::Context;
use crate::elf::needs;

/// The suite that bundles of programs come from: the current Debian, whatever the host runs.
const CURRENT_SUITE: &str = "trixie";
/// The suite that the newest libraries come from, where that one's are too old.
const NEWEST_SUITE: &str = "sid";
/// Raised when what is unpacked changes without a change of the packages.
const LAYOUT: u32 = 1;
/// How old package lists may be when a bundle is resolved from them.
const LISTS_MAX_AGE: Duration = Duration::from_secs(6 * 3600);

/// The dynamic loader that starts a bundle's programs.
pub(super) const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";
/// Where Debian keeps the libraries of this architecture.
pub(super) const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Where the packages of a bundle come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suite {
    /// The current Debian: programs that bring their own libc.
    Current,
    /// The host's own release: libraries for programs that run with the host's libc.
    OfHost,
}

/// What goes into a bundle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipe<'a> {
    pub(super) purpose: Purpose<'a>,
    pub(super) suite: Suite,
    /// Names the bundle: `bundles/NAME-RECIPE` in the cache.
    pub(super) name: &'a str,
    /// Its packages, without those that they depend on.
    pub(super) packages: &'a [&'a str],
    /// Packages with a `#` for a number: those of the highest number that the suite has of the first of them.
    pub(super) numbered: &'a [&'a str],
    /// Packages of the newest suite that are unpacked over these, without those that they depend on: headers and static
    /// libraries.
    pub(super) newest: &'a [&'a str],
    /// Files that it must have to be of use.
    pub(super) required: &'a [&'a str],
}

/// `bundle.json`: what a bundle is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Contents {
    /// When it was fetched.
    pub(super) fetched: Timestamp,
    /// The suite it came from.
    pub(super) suite: String,
    /// The files of its packages, which name their versions.
    pub(super) packages: Vec<String>,
    /// What its proof found, such as the program's version: it need not be run again to be known.
    #[serde(default)]
    pub(super) proved: Option<String>,
}

/// An unpacked bundle.
#[derive(Clone, Debug)]
pub(super) struct Bundle {
    pub(super) root: PathBuf,
    pub(super) contents: Contents,
}

impl Recipe<'_> {
    fn folder(&self, context: &Context) -> PathBuf {
        let mut recipe = format!("{LAYOUT} {} {}", self.suite(context), self.packages.join(" "));
        for pattern in self.numbered {
            recipe.push_str(&format!(" {pattern}"));
        }
        if !self.newest.is_empty() {
            recipe.push_str(&format!(" {NEWEST_SUITE} {}", self.newest.join(" ")));
        }
        let digest = xxh3_64(recipe.as_bytes()) >> 32;
        context.cache.path("bundles").join(format!("{}-{digest:08x}", self.name))
    }

    /// The suite's code name.
    fn suite(&self, context: &Context) -> String {
        match self.suite {
            Suite::Current => CURRENT_SUITE.to_owned(),
            Suite::OfHost => context.host.release().codename,
        }
    }

    /// The bundle, if it is in the cache.
    pub(super) fn find(&self, context: &Context) -> Option<Bundle> {
        let folder = self.folder(context);
        let json = fs::read(folder.join("bundle.json")).ok()?;
        Some(Bundle { root: folder.join("root"), contents: serde_json::from_slice(&json).ok()? })
    }

    /// The bundle out of the cache, or else fetched into it. A new one must pass `prove` before it
    /// is kept, with what that found; with `refresh` it is fetched anew.
    pub(super) fn get(
        &self,
        context: &Context,
        refresh: bool,
        prove: impl FnOnce(&Bundle) -> Result<Option<String>>,
    ) -> Result<Bundle> {
        // Before a download, and for a bundle that is there already.
        context.cache.check_exec()?;
        if !refresh && let Some(bundle) = self.find(context) {
            return Ok(bundle);
        }
        let lock = context.cache.lock(&format!("bundle-{}", self.name), context.progress)?;
        if !refresh && let Some(bundle) = self.find(context) {
            return Ok(bundle);
        }
        let suite = self.suite(context);
        let apt = Apt::open(context, self.purpose, |_| vec![suite.clone()])?;
        apt.update(if refresh { Duration::ZERO } else { LISTS_MAX_AGE })?;
        let names = self.names(&apt)?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let staging = lock.stage()?;
        let made = staging.path().join("bundle");
        let root = made.join("root");
        super::cache::create_dir_all(&root)?;
        let mut packages = match apt.unpack_closure(&names, &root, &lock) {
            // Versions leave the archive when newer ones come: the lists may name what is gone.
            Err(Error::Failed { .. }) => {
                super::cache::remove_all(&root)?;
                super::cache::create_dir_all(&root)?;
                apt.update(Duration::ZERO)?;
                apt.unpack_closure(&names, &root, &lock)
            }
            other => other,
        }?;
        drop(apt);
        packages.extend(self.unpack_newest(context, refresh, &root, &lock)?);
        for file in self.required {
            if !root.join(file).exists() {
                return Err(Error::Incomplete {
                    what: self.purpose.what.to_owned(),
                    path: PathBuf::from(file),
                });
            }
        }
        write_protect(&root)?;
        let contents = Contents { fetched: Timestamp::now(), suite, packages, proved: None };
        let mut bundle = Bundle { root, contents };
        bundle.contents.proved = prove(&bundle)?;
        let json = serde_json::to_vec_pretty(&bundle.contents)
            .map_err(|e| Error::io("write", &made)(std::io::Error::other(e)))?;
        let file = made.join("bundle.json");
        fs::write(&file, json).map_err(Error::io("write", &file))?;
        staging.publish("bundle", &self.folder(context))?;
        Ok(Bundle { root: self.folder(context).join("root"), contents: bundle.contents })
    }

    /// Its packages by the names that they have in the suite.
    fn names(&self, apt: &Apt<'_>) -> Result<Vec<String>> {
        let mut names: Vec<String> = self.packages.iter().map(|name| (*name).to_owned()).collect();
        if let Some(first) = self.numbered.first() {
            let found = apt.names(&format!("^{}$", first.replace('#', "[0-9]+")))?;
            let number = highest(first, &found).ok_or_else(|| Error::Incomplete {
                what: format!("suite {}", apt.suites().join(" ")),
                path: PathBuf::from(first),
            })?;
            names.extend(self.numbered.iter().map(|pattern| pattern.replace('#', &number.to_string())));
        }
        Ok(names)
    }

    /// Unpacks the packages of the newest suite into `root`, for which `lock` is held.
    fn unpack_newest(
        &self,
        context: &Context,
        refresh: bool,
        root: &Path,
        lock: &Lock,
    ) -> Result<Vec<String>> {
        if self.newest.is_empty() {
            return Ok(Vec::new());
        }
        let purpose = Purpose { name: NEWEST_SUITE, ..self.purpose };
        let apt = Apt::open(context, purpose, |_| vec![NEWEST_SUITE.to_owned()])?;
        apt.update(if refresh { Duration::ZERO } else { LISTS_MAX_AGE })?;
        match apt.unpack_alone(self.newest, root, lock) {
            Err(Error::Failed { .. }) => {
                apt.update(Duration::ZERO)?;
                apt.unpack_alone(self.newest, root, lock)
            }
            other => other,
        }
    }
}

impl Bundle {
    /// The words that start `program` of the bundle: its own loader, library folders and itself.
    pub(super) fn program(&self, program: &str, more_libraries: &[&str]) -> Vec<PathBuf> {
        program_below(&self.root, program, more_libraries)
    }

    /// Names the bundle's contents: the same packages, the same text.
    pub(super) fn id(&self) -> String {
        format!("{:016x}", xxh3_64(self.contents.packages.join("\n").as_bytes()))
    }
}

/// The highest number that stands for the `#` of `pattern` in one of `names`.
fn highest(pattern: &str, names: &[String]) -> Option<u32> {
    let (before, after) = pattern.split_once('#')?;
    let number = |name: &String| name.strip_prefix(before)?.strip_suffix(after)?.parse().ok();
    names.iter().filter_map(number).max()
}

/// The words that start a program below `root`, which is laid out as Debian's `/` is.
pub(super) fn program_below(root: &Path, program: &str, more_libraries: &[&str]) -> Vec<PathBuf> {
    let libraries = std::iter::once(&LIBRARIES).chain(more_libraries);
    let libraries: Vec<String> = libraries.map(|folder| root.join(folder).display().to_string()).collect();
    vec![root.join(LOADER), "--library-path".into(), libraries.join(":").into(), root.join(program)]
}

/// The files below `root` that `program` needs in order to run elsewhere: itself, its loader, and
/// the libraries that it and they name (`DT_NEEDED`), relative to `root`.
pub(super) fn closure(root: &Path, program: &str) -> Result<Vec<PathBuf>> {
    let mut files = BTreeSet::from([PathBuf::from(LOADER)]);
    let mut queue = vec![PathBuf::from(program)];
    while let Some(file) = queue.pop() {
        let path = root.join(&file);
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let needs = needs(&bytes).map_err(|e| Error::io("read", &path)(std::io::Error::other(e)))?;
        for library in needs.libraries {
            let library = Path::new(LIBRARIES).join(library);
            if !files.contains(&library) && root.join(&library).exists() {
                queue.push(library);
            }
        }
        files.insert(file);
    }
    Ok(files.into_iter().collect())
}

/// Takes the right to write from every file, so that nothing changes a bundle by mistake. Folders
/// keep it: their owner must be able to remove the bundle.
fn write_protect(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        let path = entry.path();
        let meta = entry.metadata().map_err(Error::io("read", &path))?;
        if meta.is_dir() {
            // A package may hold folders that even their owner cannot write to.
            let mode = meta.permissions().mode() | 0o700;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
                .map_err(Error::io("change", &path))?;
            write_protect(&path)?;
        } else if meta.is_file() {
            let mode = meta.permissions().mode() & !0o7222;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
                .map_err(Error::io("change", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closure_of_a_host_program_has_its_loader_and_libc() {
        // /bin/sh is linked dynamically on every Debian; with usr-merge it is below usr/ too.
        let files = closure(Path::new("/"), "usr/bin/sh").unwrap();
        assert!(files.contains(&PathBuf::from(LOADER)));
        assert!(files.contains(&Path::new(LIBRARIES).join("libc.so.6")), "{files:?}");
    }

    #[test]
    fn of_numbered_packages_the_highest_is_taken_as_a_number() {
        let names = ["libclang1-9", "libclang1-19", "libclang1-19-dbg", "libclang1-14", "xlibclang1-20"];
        let names = names.map(str::to_owned);
        assert_eq!(highest("libclang1-#", &names), Some(19));
        assert_eq!(highest("libclang-common-#-dev", &names), None);
    }

    #[test]
    fn files_are_write_protected_and_folders_can_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("sub");
        fs::create_dir(&sub).unwrap();
        fs::write(sub.join("file"), "x").unwrap();
        fs::set_permissions(sub.join("file"), fs::Permissions::from_mode(0o6755)).unwrap();
        fs::set_permissions(&sub, fs::Permissions::from_mode(0o555)).unwrap();
        write_protect(dir.path()).unwrap();
        assert_eq!(fs::metadata(sub.join("file")).unwrap().permissions().mode() & 0o7777, 0o555);
        assert_eq!(fs::metadata(&sub).unwrap().permissions().mode() & 0o700, 0o700);
    }
}
