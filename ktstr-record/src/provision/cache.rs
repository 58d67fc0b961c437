//! The one state directory: what is in it is whole, or it is not there.
//!
//! ```text
//! $XDG_CACHE_HOME/ktstr            else $HOME/.cache/ktstr
//! +- bundles/NAME-RECIPE/          an unpacked program bundle: root/ and bundle.json
//! +- kernels/RELEASE/              bzImage, vmlinux, config, kernel.json of a kernel of the archive
//! +- crates/NAME-VERSION/          bin/ of a scheduler of the package registry
//! +- sources/PACKAGE/              folders of a kernel's source
//! +- kernels/file-XXH3/            the same out of a file that the user gave
//! +- kernels/build-XXH3/           the same of a source tree, by its content
//! +- builds/XXH3/                  objects, config and log of a source tree, by its path
//! +- apt/NAME/                     apt's private state: package lists of some suites
//! +- locks/NAME.lock               flock(2)ed by whoever makes NAME; never deleted while in use
//! +- staging/NAME/                 what the holder of lock NAME is making; renamed into place
//! ```
//!
//! An entry is made under its [`Lock`] in the lock's own staging folder and appears by one rename.
//! So parallel runs make it once, and whoever is killed leaves a staging folder at most, which the
//! next holder of that lock, or the next [`Cache::sweep`], removes. Other parts of ktstr (the
//! templates of warm starts) keep their entries here by the same rules.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;

use super::error::{Error, Result};
use super::place::{CachePlace, check_exec, check_path};
use super::progress::Progress;

/// The state directory.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache of this user, created where it is missing.
    ///
    /// # Errors
    /// [`Error::NoCacheDir`] where the environment names no place; as [`Cache::at`].
    pub fn open() -> Result<Self> {
        static TOLD: Once = Once::new();
        let place = CachePlace::of_user()?;
        if let Some(note) = &place.note {
            TOLD.call_once(|| Progress::stderr().note(note));
        }
        Self::at(place.root)
    }

    /// The cache in `root`, created where it is missing.
    ///
    /// # Errors
    /// [`Error::BadCachePath`] where programs could not be run by its path, [`Error::Io`] where it cannot be created.
    pub fn at(root: impl Into<PathBuf>) -> Result<Self> {
        let cache = Self { root: root.into() };
        check_path(&cache.root)?;
        for folder in ["", "locks", "staging"] {
            create_dir_all(&cache.path(folder))?;
        }
        Ok(cache)
    }

    /// Refuses a file system from which programs cannot be run.
    ///
    /// # Errors
    /// [`Error::NoExec`].
    pub(super) fn check_exec(&self) -> Result<()> {
        check_exec(&self.root)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path in the cache.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Waits for the lock `name` and takes it, across processes and threads.
    ///
    /// `name` may hold letters, digits and `.+~_-`; other characters become `_`. When the lock is
    /// held by another, `progress` says so.
    ///
    /// # Errors
    /// [`Error::Io`] where the lock's file cannot be made or locked.
    pub(crate) fn lock(&self, name: &str, progress: Progress) -> Result<Lock> {
        if let Some(lock) = self.try_lock(name)? {
            return Ok(lock);
        }
        progress.note(&format!("waiting for another ktstr that is busy with {name}"));
        let (path, file) = self.lock_file(name)?;
        file.lock().map_err(Error::io("lock", &path))?;
        Ok(self.locked(name, file))
    }

    /// Takes the lock `name` unless another holds it.
    ///
    /// # Errors
    /// [`Error::Io`] where the lock's file cannot be made or locked.
    pub fn try_lock(&self, name: &str) -> Result<Option<Lock>> {
        let (path, file) = self.lock_file(name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(self.locked(name, file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(Error::io("lock", &path)(e)),
        }
    }

    /// Removes what killed processes left in the staging folder; returns how many folders.
    ///
    /// # Errors
    /// [`Error::Io`] where the staging folder cannot be read or emptied.
    pub fn sweep(&self) -> Result<usize> {
        let staging = self.path("staging");
        let mut swept = 0;
        for entry in fs::read_dir(&staging).map_err(Error::io("read", &staging))? {
            let entry = entry.map_err(Error::io("read", &staging))?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if let Some(_lock) = self.try_lock(&name)? {
                remove_all(&entry.path())?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Removes the entry or folder at `relative`; it is not an error if it does not exist.
    ///
    /// It vanishes by one rename, so a killed removal leaves no half entry either.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be removed.
    pub(crate) fn remove(&self, relative: impl AsRef<Path>, progress: Progress) -> Result<bool> {
        let target = self.path(relative);
        let lock = self.lock("trash", progress)?;
        let trash = lock.stage()?;
        match fs::rename(&target, trash.path().join("entry")) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("remove", &target)(e)),
        }
    }

    /// The names of what is kept in `folder` of the cache, without the cache's own locks and
    /// staging folders.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read.
    pub(crate) fn entries(&self, folder: &str) -> Result<Vec<String>> {
        let folder = self.path(folder);
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
            let entry = entry.map_err(Error::io("read", &folder))?;
            names.extend(
                entry.file_name().into_string().ok().filter(|name| name != "locks" && name != "staging"),
            );
        }
        names.sort();
        Ok(names)
    }

    fn lock_file(&self, name: &str) -> Result<(PathBuf, File)> {
        let path = self.path("locks").join(format!("{}.lock", file_name(name)));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io("create", &path))?;
        Ok((path, file))
    }

    fn locked(&self, name: &str, file: File) -> Lock {
        Lock { file, staging: self.path("staging").join(file_name(name)) }
    }
}

/// A lock that is held until it and all its `Lock::share`s are dropped, or their process ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
    staging: PathBuf,
}

impl Lock {
    /// An empty folder for making an entry, removed again unless it is published.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be made, or an old one not removed.
    pub(crate) fn stage(&self) -> Result<Staging<'_>> {
        remove_all(&self.staging)?;
        create_dir_all(&self.staging)?;
        Ok(Staging { path: self.staging.clone(), _lock: self })
    }

    /// Where [`Lock::stage`] makes its folder.
    pub(super) fn staging_path(&self) -> &Path {
        &self.staging
    }

    /// The lock's file for a child process: the lock is held until the child is gone too, even if
    /// this process is killed before. The file is empty, so it can be the child's stdin.
    ///
    /// # Errors
    /// [`Error::Io`] where the process has no file descriptor left.
    pub(crate) fn share(&self) -> Result<File> {
        self.file.try_clone().map_err(Error::io("share the lock of", &self.staging))
    }
}

/// A folder in which an entry is made.
#[derive(Debug)]
pub(crate) struct Staging<'a> {
    path: PathBuf,
    /// Borrowed, so that the lock outlives what it guards.
    _lock: &'a Lock,
}

impl Staging<'_> {
    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Renames `part` (a file or folder in the staging folder) to `target`, which is replaced.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be renamed.
    pub(crate) fn publish(&self, part: impl AsRef<Path>, target: &Path) -> Result<()> {
        if let Some(parent) = target.parent() {
            create_dir_all(parent)?;
        }
        if target.is_dir() {
            let old = self.path.join("replaced");
            fs::rename(target, &old).map_err(Error::io("replace", target))?;
        }
        fs::rename(self.path.join(part), target).map_err(Error::io("create", target))
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next holder of the lock, who can report it.
        let _ = remove_all(&self.path);
    }
}

/// `name` with nothing in it that means something in a path.
fn file_name(name: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "+~_-".contains(c);
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        let leading_dot = c == '.' && out.is_empty();
        out.push(if safe(c) || (c == '.' && !leading_dot) { c } else { '_' });
    }
    out
}

pub(super) fn create_dir_all(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create", path))
}

/// Removes a file or a folder with all that is in it, or nothing.
pub(super) fn remove_all(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Left free beyond what is written: other programs fail on a file system that is full.
const RESERVE_BYTES: u64 = 64 << 20;

/// Disk bytes for each byte that is downloaded, at most, the download itself included. Measured: 5.4
/// for the emulator, 6 for the toolchain, 7.6 for a kernel with its copy and its decompressed ELF.
const UNPACK_FACTOR: u64 = 8;

/// Disk bytes that packages of `download_bytes` take while they are unpacked.
pub(super) fn needed_for_download(download_bytes: u64) -> u64 {
    download_bytes.saturating_mul(UNPACK_FACTOR)
}

/// Bytes that an ordinary user can still write below `path`.
pub(super) fn free_bytes(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(path)
        .map_err(std::io::Error::from)
        .map_err(Error::io("ask for the free space of", path))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Refuses to begin what cannot be finished.
pub(super) fn check_space(path: &Path, what: &str, needed_bytes: u64, free_bytes: u64) -> Result<()> {
    if needed_bytes.saturating_add(RESERVE_BYTES) <= free_bytes {
        return Ok(());
    }
    Err(Error::NoSpace { path: path.to_owned(), what: what.to_owned(), needed_bytes, free_bytes })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("ktstr")).unwrap();
        (dir, cache)
    }

    #[test]
    fn threads_that_want_one_entry_make_it_once() {
        let (_dir, cache) = cache();
        let made = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let lock = cache.lock("entry", Progress::Silent).unwrap();
                    let target = cache.path("things/entry");
                    if !target.exists() {
                        made.fetch_add(1, Ordering::Relaxed);
                        let staging = lock.stage().unwrap();
                        fs::write(staging.path().join("file"), "whole").unwrap();
                        staging.publish("file", &target).unwrap();
                    }
                    assert_eq!(fs::read_to_string(&target).unwrap(), "whole");
                });
            }
        });
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_a_killed_process_staged_is_swept_and_what_is_being_made_is_not() {
        let (_dir, cache) = cache();
        fs::create_dir_all(cache.path("staging/dead/sub")).unwrap();
        let lock = cache.lock("alive", Progress::Silent).unwrap();
        let staging = lock.stage().unwrap();
        assert_eq!(cache.sweep().unwrap(), 1);
        assert!(!cache.path("staging/dead").exists());
        assert!(staging.path().exists());
    }

    #[test]
    fn a_shared_lock_outlives_the_lock_itself() {
        let (_dir, cache) = cache();
        let lock = cache.lock("x", Progress::Silent).unwrap();
        let share = lock.share().unwrap();
        drop(lock);
        assert!(cache.try_lock("x").unwrap().is_none());
        drop(share);
        assert!(cache.try_lock("x").unwrap().is_some());
    }

    #[test]
    fn staging_that_is_dropped_leaves_nothing() {
        let (_dir, cache) = cache();
        let lock = cache.lock("x", Progress::Silent).unwrap();
        let path = {
            let staging = lock.stage().unwrap();
            fs::write(staging.path().join("half"), "x").unwrap();
            staging.path().to_owned()
        };
        assert!(!path.exists());
    }

    #[test]
    fn publishing_replaces_an_old_entry() {
        let (_dir, cache) = cache();
        let target = cache.path("bundles/b");
        fs::create_dir_all(&target).unwrap();
        fs::write(target.join("old"), "").unwrap();
        let lock = cache.lock("b", Progress::Silent).unwrap();
        let staging = lock.stage().unwrap();
        fs::create_dir(staging.path().join("new")).unwrap();
        staging.publish("new", &target).unwrap();
        drop(staging);
        assert!(target.is_dir() && !target.join("old").exists());
        assert_eq!(fs::read_dir(cache.path("staging")).unwrap().count(), 0);
    }

    #[test]
    fn removing_what_is_not_there_is_no_error() {
        let (_dir, cache) = cache();
        fs::create_dir_all(cache.path("kernels/7.3/sub")).unwrap();
        assert!(cache.remove("kernels", Progress::Silent).unwrap());
        assert!(!cache.path("kernels").exists());
        assert!(!cache.remove("kernels", Progress::Silent).unwrap());
    }

    proptest! {
        #[test]
        fn a_lock_name_is_one_harmless_path_component(name in any::<String>()) {
            let safe = file_name(&name);
            prop_assert!(!safe.contains('/') && !safe.starts_with('.'));
            prop_assert_eq!(safe.chars().count(), name.chars().count());
        }
    }

    #[test]
    fn too_little_space_is_refused_with_both_numbers() {
        let error = check_space(Path::new("/cache"), "the emulator", 300 << 20, 299 << 20).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("fetching the emulator takes 300 MiB, 299 MiB are free"), "{text}");
        assert!(text.contains("ktstr setup --clean"), "{text}");
    }

    #[test]
    fn the_reserve_is_kept_free() {
        assert!(check_space(Path::new("/cache"), "x", 1, RESERVE_BYTES).is_err());
        assert!(check_space(Path::new("/cache"), "x", 1, RESERVE_BYTES + 1).is_ok());
        assert!(check_space(Path::new("/cache"), "x", u64::MAX, u64::MAX - 1).is_err());
    }

    #[test]
    fn free_space_of_a_real_folder_is_known() {
        assert!(free_bytes(Path::new("/")).unwrap() > 0);
        assert!(free_bytes(Path::new("/nonexistent-ktstr")).is_err());
    }
}
