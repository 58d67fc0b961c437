//! State directories for tests that look at templates.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ktstr_record::provision::Cache;
use tempfile::TempDir;

/// A home of caches with what is provisioned here and no templates, for `XDG_CACHE_HOME`.
///
/// # Panics
/// When it cannot be made.
pub fn cache_without_templates() -> TempDir {
    let home = tempfile::tempdir().expect("a folder");
    let ours = home.path().join("ktstr");
    fs::create_dir(&ours).expect("a folder");
    let cache = Cache::open().expect("the cache");
    for folder in ["bundles", "kernels", "apt", "bpf"] {
        let from: &Path = &cache.path(folder);
        if from.exists() {
            symlink(from, ours.join(folder)).expect("a link");
        }
    }
    home
}
