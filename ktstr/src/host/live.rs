//! Folders of runs that go on: who writes into one holds a lock on it, and what is locked is not removed.
//!
//! The lock is flock(2) on the folder itself, so that it adds no file to the results, and is gone when its holder dies in any
//! way. A run on several kernels has a folder in its folder for each. A file system without such locks holds nothing: what is in it
//! is removed as if no run went on, which somebody asked for, and otherwise not touched.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How often a folder is looked at until nobody else writes into it.
const POLL: Duration = Duration::from_millis(20);

/// A folder that is not removed while this is held.
#[derive(Debug)]
pub struct LiveFolder {
    path: PathBuf,
    folder: File,
}

impl LiveFolder {
    /// Make the folder, where it is missing, and hold it.
    ///
    /// # Errors
    /// A folder that cannot be made or opened.
    pub fn make(path: &Path) -> io::Result<Self> {
        loop {
            fs::create_dir_all(path)?;
            let folder = match File::open(path) {
                Ok(folder) => folder,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            hold(&folder);
            // It may have been removed before it was locked.
            if is_same(&folder, path) {
                return Ok(Self { path: path.to_owned(), folder });
            }
        }
    }

    /// Wait until nobody else holds it, at most for `patience`; whether that is so.
    pub fn wait_until_alone(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let is_alone = loop {
            match is_free(&self.folder) {
                false if Instant::now() < deadline => thread::sleep(POLL),
                is_alone => break is_alone,
            }
        };
        // What was asked for has taken the place of the lock that was held, also where it was refused: see flock(2).
        hold(&self.folder);
        is_alone
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Let go of it, and remove it if nothing is in it.
    pub fn leave(self) {
        // It fails where something is in it.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Remove a folder with all that is in it, unless it or a folder in it is held; whether it is gone, which another may have seen to.
///
/// # Errors
/// A folder that cannot be read or removed.
pub fn remove_unless_live(path: &Path) -> io::Result<bool> {
    match remove_unless_held(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.exists() => Ok(true),
        result => result,
    }
}

/// Do something with a folder while nobody holds it, and nobody begins to. `None`: somebody does, or it cannot be known, as where it
/// cannot be opened and in file systems without such locks.
pub fn unless_live<T>(path: &Path, work: impl FnOnce() -> T) -> Option<T> {
    let folder = File::open(path).ok()?;
    folder.try_lock().is_ok().then(work)
}

fn remove_unless_held(path: &Path) -> io::Result<bool> {
    let inner =
        fs::read_dir(path)?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut held = Vec::new();
    for path in std::iter::once(path.to_owned()).chain(inner.map(|entry| entry.path())) {
        let folder = File::open(path)?;
        if !is_free(&folder) {
            return Ok(false);
        }
        held.push(folder);
    }
    fs::remove_dir_all(path)?;
    Ok(true)
}

/// Whether nobody holds it. Then we do, alone.
fn is_free(folder: &File) -> bool {
    !matches!(folder.try_lock(), Err(TryLockError::WouldBlock))
}

/// Hold it together with others. A signal may come while it is waited for.
fn hold(folder: &File) {
    while folder.lock_shared().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {}
}

fn is_same(folder: &File, path: &Path) -> bool {
    let id = |meta: &fs::Metadata| (meta.dev(), meta.ino());
    matches!((folder.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if id(&a) == id(&b))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn what_is_held_or_has_a_folder_that_is_held_is_not_removed() {
        let dir = TempDir::new().expect("a folder");
        let (run, pass) = (dir.path().join("run"), dir.path().join("run/1-7.3"));
        let (outer, inner) = (LiveFolder::make(&run).expect("held"), LiveFolder::make(&pass).expect("held"));
        assert!(!remove_unless_live(&run).expect("asked"));
        drop(outer);
        assert!(!remove_unless_live(&run).expect("asked"), "its inner folder is held");
        fs::write(pass.join("x"), "").expect("a file");
        drop(inner);
        assert!(remove_unless_live(&run).expect("asked"));
        assert!(!run.exists());
        assert!(remove_unless_live(&run).expect("asked"), "another was faster");
    }

    #[test]
    fn several_hold_a_folder_and_each_can_wait_for_the_others() {
        let dir = TempDir::new().expect("a folder");
        let ours = LiveFolder::make(dir.path()).expect("held");
        let other = LiveFolder::make(dir.path()).expect("held");
        assert_eq!(unless_live(dir.path(), || ()), None);
        assert!(!ours.wait_until_alone(Duration::ZERO));
        assert!(!remove_unless_live(dir.path()).expect("asked"), "it is held again after the wait");
        thread::scope(|scope| {
            let waits = scope.spawn(|| ours.wait_until_alone(Duration::from_secs(60)));
            drop(other);
            assert!(waits.join().expect("a thread"));
        });
        assert!(!remove_unless_live(dir.path()).expect("asked"), "it is held still");
        drop(ours);
        let remade =
            unless_live(dir.path(), || File::open(dir.path()).expect("a folder").try_lock_shared().is_err());
        assert_eq!(remade, Some(true), "nobody else holds it meanwhile");
    }

    #[test]
    fn an_empty_folder_does_not_stay() {
        let dir = TempDir::new().expect("a folder");
        let (empty, full) = (dir.path().join("empty"), dir.path().join("full"));
        let folders = [&empty, &full].map(|path| LiveFolder::make(path).expect("held"));
        fs::write(full.join("x"), "").expect("a file");
        folders.into_iter().for_each(LiveFolder::leave);
        assert!(!empty.exists() && full.exists());
    }
}
