//! Keeping the folder of templates small.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::store::{META, TMP_PREFIX, lock_path, remove};
use crate::machine::slots::{open, try_lock};

/// What may stay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// All templates together, in bytes.
    pub total_bytes: u64,
    /// Since the last use.
    pub age: Duration,
    /// How long after its last change an unfinished template is taken for abandoned.
    pub abandoned: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { total_bytes: 4 << 30, age: 14 * day, abandoned: Duration::from_secs(3600) }
    }
}

/// Remove templates other than `keep` that were not used for too long, and then the longest unused ones while all
/// together are too large. A template that is in use, or that cannot be removed, stays.
pub(super) fn evict(root: &Path, keep: &str, limits: Limits, now: SystemTime) {
    let mut templates = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if !path.is_dir() {
            continue;
        }
        if name.starts_with(TMP_PREFIX) {
            if unused_for(&path, now) > limits.abandoned {
                // Someone else may be quicker; both are content.
                let _ = fs::remove_dir_all(&path);
            }
            continue;
        }
        let unused = unused_for(&path.join(META), now).max(Duration::ZERO);
        templates.push(Found { bytes: bytes_in(&path), unused, path, name });
    }
    let mut total: u64 = templates.iter().map(|t| t.bytes).sum();
    templates.sort_by_key(|t| std::cmp::Reverse(t.unused));
    for template in templates.iter().filter(|t| t.name != keep) {
        if (template.unused > limits.age || total > limits.total_bytes) && remove_unused(root, template) {
            total -= template.bytes;
        }
    }
}

struct Found {
    path: PathBuf,
    name: String,
    bytes: u64,
    unused: Duration,
}

fn remove_unused(root: &Path, template: &Found) -> bool {
    let Ok(lock) = open(&lock_path(root, &template.name)) else { return false };
    matches!(try_lock(&lock), Ok(true)) && remove(root, &template.path).is_ok()
}

/// Time since the file at `path` was changed; for ever if it is not there.
fn unused_for(path: &Path, now: SystemTime) -> Duration {
    match fs::metadata(path).and_then(|m| m.modified()) {
        Ok(modified) => now.duration_since(modified).unwrap_or_default(),
        Err(_) => Duration::MAX,
    }
}

fn bytes_in(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::{Limits, evict, lock_path};

    const HOUR: Duration = Duration::from_secs(3600);
    const LIMITS: Limits = Limits { total_bytes: 2500, age: Duration::from_secs(48 * 3600), abandoned: HOUR };

    /// A folder with a thousand bytes, last used so many hours ago.
    fn template(root: &Path, name: &str, hours: u32, now: SystemTime) {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("meta.json"), vec![0; 1000]).unwrap();
        let file = File::options().append(true).open(root.join(name).join("meta.json")).unwrap();
        file.set_modified(now - HOUR * hours).unwrap();
        File::open(root.join(name)).unwrap().set_modified(now - HOUR * hours).unwrap();
    }

    fn left(root: &Path) -> Vec<String> {
        let names = fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|n| !n.starts_with("lock-")).collect();
        names.sort();
        names
    }

    #[test]
    fn old_ones_go_then_the_longest_unused() {
        let (dir, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
        for (name, hours) in [("aa", 50), ("bb", 3), ("cc", 2), ("dd", 1), ("ee", 0)] {
            template(dir.path(), name, hours, now);
        }
        evict(dir.path(), "ee", LIMITS, now);
        assert_eq!(left(dir.path()), ["dd", "ee"]);
    }

    #[test]
    fn what_is_kept_or_in_use_stays() {
        let (dir, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
        for name in ["aa", "bb", "cc"] {
            template(dir.path(), name, 99, now);
        }
        let in_use = super::open(&lock_path(dir.path(), "bb")).unwrap();
        in_use.lock_shared().unwrap();
        evict(dir.path(), "aa", LIMITS, now);
        assert_eq!(left(dir.path()), ["aa", "bb"]);
    }

    #[test]
    fn only_abandoned_leftovers_go() {
        let (dir, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
        template(dir.path(), ".tmp-old", 2, now);
        template(dir.path(), ".tmp-new", 0, now);
        evict(dir.path(), "", LIMITS, now);
        assert_eq!(left(dir.path()), [".tmp-new"]);
    }
}
