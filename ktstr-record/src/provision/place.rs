//! Where the cache is, and whether that will do. Looked at once, before anything is downloaded.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfs, StatVfsMountFlags, access, statvfs};

use super::error::{Error, Result};

/// Where a user's cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachePlace {
    /// The folder; it may not exist yet.
    pub root: PathBuf,
    /// What is to be said of the choice, for people.
    pub note: Option<String>,
}

impl CachePlace {
    /// That of this user: `$XDG_CACHE_HOME/ktstr`, else `$HOME/.cache/ktstr`.
    ///
    /// # Errors
    /// [`Error::NoCacheDir`] where the environment names no place.
    pub fn of_user() -> Result<Self> {
        Self::of(env::var_os("XDG_CACHE_HOME"), env::var_os("HOME"))
    }

    /// XDG asks that relative paths be ignored (Base Directory Specification), which is said.
    pub(super) fn of(xdg_cache_home: Option<OsString>, home: Option<OsString>) -> Result<Self> {
        let absolute =
            |value: &Option<OsString>| value.clone().map(PathBuf::from).filter(|path| path.is_absolute());
        let xdg = absolute(&xdg_cache_home);
        let root = xdg.clone().or_else(|| absolute(&home).map(|home| home.join(".cache")));
        let root = root.ok_or(Error::NoCacheDir)?.join("ktstr");
        let ignored = xdg_cache_home.filter(|value| xdg.is_none() && !value.is_empty());
        let note = ignored.map(|value| {
            format!(
                "XDG_CACHE_HOME is `{}`, which is not an absolute path and is ignored: the cache is {}",
                value.display(),
                root.display()
            )
        });
        Ok(Self { root, note })
    }

    /// Whether programs of the cache could be found by their paths, and run.
    ///
    /// # Errors
    /// [`Error::BadCachePath`], [`Error::NoExec`].
    pub fn check(&self) -> Result<()> {
        check_path(&self.root)?;
        check_exec(&self.root)
    }

    /// Whether this user could write there, or make the folder.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        let nearest = self.root.ancestors().find(|folder| folder.symlink_metadata().is_ok());
        nearest.is_some_and(|folder| {
            folder.is_dir() && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
        })
    }

    /// Bytes that an ordinary user can still write there; `None` where the host does not tell.
    #[must_use]
    pub fn free_bytes(&self) -> Option<u64> {
        stat(&self.root).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Whether the dynamic loader, which parts a list of folders at `:` and `;`, and programs that take paths as text, can be told
/// of `root`.
pub(super) fn check_path(root: &Path) -> Result<()> {
    let bad = |what: &'static str| Err(Error::BadCachePath { path: root.to_owned(), what });
    match root.to_str() {
        None => bad("is not UTF-8"),
        Some(text) if text.contains(':') => bad("has a `:`, at which lists of folders are parted"),
        Some(text) if text.contains(';') => bad("has a `;`, at which lists of folders are parted"),
        Some(text) if text.chars().any(char::is_control) => bad("has a control character"),
        Some(_) => Ok(()),
    }
}

/// Whether programs can be run from `root`, or from where it will be made.
pub(super) fn check_exec(root: &Path) -> Result<()> {
    match stat(root) {
        Some(stat) if stat.f_flag.contains(StatVfsMountFlags::NOEXEC) => {
            Err(Error::NoExec { path: root.to_owned() })
        }
        // What the host does not tell shows when a program is run.
        _ => Ok(()),
    }
}

/// The file system of a folder, or of the nearest one above it that exists.
fn stat(path: &Path) -> Option<StatVfs> {
    path.ancestors().find_map(|folder| statvfs(folder).ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn place(xdg: Option<&str>, home: Option<&str>) -> Result<CachePlace> {
        CachePlace::of(xdg.map(OsString::from), home.map(OsString::from))
    }

    #[test]
    fn xdg_wins_over_home_and_a_relative_path_is_ignored_aloud() {
        let root = |xdg, home| place(xdg, home).map(|place| (place.root, place.note));
        assert_eq!(root(Some("/x"), Some("/h")).unwrap(), ("/x/ktstr".into(), None));
        assert_eq!(root(Some(""), Some("/h")).unwrap(), ("/h/.cache/ktstr".into(), None));
        assert_eq!(root(None, Some("/h")).unwrap(), ("/h/.cache/ktstr".into(), None));
        let (at, note) = root(Some("x"), Some("/h")).unwrap();
        assert_eq!(at, Path::new("/h/.cache/ktstr"));
        let note = note.expect("a note");
        assert!(note.contains("XDG_CACHE_HOME is `x`") && note.contains("/h/.cache/ktstr"), "{note}");
        assert!(matches!(place(None, Some("")), Err(Error::NoCacheDir)));
    }

    #[test]
    fn paths_that_loaders_take_apart_are_refused_and_odd_ones_are_not() {
        for good in ["/x/ktstr", "/a b/it's/\u{2603}/ktstr", "/a,b=c"] {
            assert!(check_path(Path::new(good)).is_ok(), "{good}");
        }
        for bad in ["/a:b/ktstr", "/a;b/ktstr", "/a\nb"] {
            let error = check_path(Path::new(bad)).unwrap_err().to_string();
            assert!(error.contains("set XDG_CACHE_HOME"), "{error}");
        }
        let bytes = PathBuf::from(OsString::from_vec(b"/a\xff/ktstr".to_vec()));
        assert!(check_path(&bytes).unwrap_err().to_string().contains("is not UTF-8"));
    }

    #[test]
    fn a_file_system_without_programs_is_told_before_there_is_a_folder() {
        // `/proc` is mounted so wherever systemd or a container runtime has mounted it.
        let is_noexec =
            stat(Path::new("/proc")).is_some_and(|stat| stat.f_flag.contains(StatVfsMountFlags::NOEXEC));
        let checked = check_exec(Path::new("/proc/nowhere/ktstr"));
        assert_eq!(checked.is_err(), is_noexec, "{checked:?}");
        let folder = tempfile::tempdir().unwrap();
        assert!(check_exec(&folder.path().join("not/yet")).is_ok());
        let place = |below: &str| CachePlace { root: folder.path().join(below), note: None };
        assert!(place("not/yet").free_bytes() > Some(0) && place("not/yet").is_writable());
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(!place("file").is_writable() && !place("file/ktstr").is_writable());
    }
}
