//! The state of a source tree as one number: its files by name and content, without what a build leaves there.
//!
//! What a build in place leaves there is told by the tree's own `.gitignore` files, which the kernel's sources have in their tar files
//! too. They are believed only if they let the tree itself be seen: the one in Debian's source packages excludes everything.

use std::fs::{self, File};
use std::io;
use std::num::NonZero;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use ignore::WalkBuilder;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::super::error::{Error, Result};
use super::hash;

/// Files that are looked at, at most. Linux has 95,000.
const MAX_FILES: usize = 1_000_000;
/// Threads that read files.
const MAX_THREADS: usize = 8;

/// What a tree is not without: if these are ignored, so is the rest.
const SURELY_SOURCE: [&str; 2] = ["Makefile", "Kconfig"];

/// The state of the source tree at `root`. With `is_built_in`, what a build leaves there is no part of it.
///
/// # Errors
/// [`Error::Io`] of what cannot be read: the tree, or one of its files.
pub(super) fn of(root: &Path, is_built_in: bool) -> Result<u128> {
    let unread = |source| Error::io("list the files of", root)(source);
    let mut paths = files(root, is_built_in).map_err(unread)?;
    let has = |name: &&str| paths.contains(&root.join(name));
    if is_built_in && !SURELY_SOURCE.iter().all(has) {
        paths = files(root, false).map_err(unread)?;
    }
    paths.sort();
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    let share = paths.len().div_ceil(threads).max(1);
    let hashes: Vec<Result<u128>> = thread::scope(|scope| {
        let shares: Vec<_> =
            paths.chunks(share).map(|paths| scope.spawn(move || of_files(root, paths))).collect();
        let joined = shares.into_iter().map(|share| share.join());
        joined.map(|hash| hash.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut all = Xxh3::new();
    for hash in hashes {
        all.update(&hash?.to_le_bytes());
    }
    Ok(all.digest128())
}

/// The files below `root`, those of git aside, and those that `.gitignore` files exclude if they are `believed`.
fn files(root: &Path, believed: bool) -> io::Result<Vec<PathBuf>> {
    let walk = WalkBuilder::new(root)
        .standard_filters(false)
        .git_ignore(believed)
        .require_git(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    let mut paths = Vec::new();
    for entry in walk {
        let entry = entry.map_err(io::Error::other)?;
        if entry.file_type().is_some_and(|kind| kind.is_file() || kind.is_symlink()) {
            paths.push(entry.into_path());
        }
        if paths.len() > MAX_FILES {
            return Err(io::Error::other(format!("it has more than {MAX_FILES} files")));
        }
    }
    Ok(paths)
}

fn of_files(root: &Path, paths: &[PathBuf]) -> Result<u128> {
    let mut hash = Xxh3::new();
    for path in paths {
        let name = path.strip_prefix(root).unwrap_or(path).as_os_str().as_encoded_bytes();
        let (kind, content) = of_file(path).map_err(Error::io("read", path))?;
        hash.update(&(name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update(&[kind]);
        hash.update(&content.to_le_bytes());
    }
    Ok(hash.digest128())
}

/// What a file is, and the hash of its content: 0 for a file, 1 for one that can be run, 2 for a symbolic link.
fn of_file(path: &Path) -> io::Result<(u8, u128)> {
    let data = fs::symlink_metadata(path)?;
    if data.is_symlink() {
        return Ok((2, xxh3_128(fs::read_link(path)?.as_os_str().as_encoded_bytes())));
    }
    let is_executable = data.permissions().mode() & 0o111 != 0;
    Ok((u8::from(is_executable), hash::of(&mut File::open(path)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(ignored: &str) -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            for (path, text) in
                [("Makefile", ""), ("Kconfig", ""), (".gitignore", ignored), ("kernel/sched/ext.c", "int x;")]
            {
                tree.write(path, text);
            }
            tree
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn state(&self, is_built_in: bool) -> u128 {
            of(self.0.path(), is_built_in).unwrap()
        }
    }

    #[test]
    fn content_names_and_modes_count_and_what_a_build_leaves_does_not() {
        let tree = Tree::new(".*\n*.o\n/vmlinux\n!.gitignore\n");
        let (first, all) = (tree.state(true), tree.state(false));
        for path in ["kernel/sched/ext.o", ".config", "vmlinux", ".git/HEAD"] {
            tree.write(path, "made");
        }
        // As if it were saved again without a change.
        tree.write("kernel/sched/ext.c", "int x;");
        assert_eq!(tree.state(true), first);
        assert_ne!(tree.state(false), all, "a tree that nothing is built in has no files but its source");
        tree.write("kernel/sched/ext.c", "int y;");
        let changed = tree.state(true);
        assert_ne!(changed, first);
        let folder = tree.0.path().join("kernel/sched");
        fs::rename(folder.join("ext.c"), folder.join("core.c")).unwrap();
        let renamed = tree.state(true);
        assert_ne!(renamed, changed);
        std::os::unix::fs::symlink("core.c", folder.join("ext.c")).unwrap();
        assert_ne!(tree.state(true), renamed);
    }

    /// That the tree cannot be read would not say which of 96,000 files it is.
    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let tree = Tree::new("");
        let (root, gone) = (tree.0.path(), tree.0.path().join("kernel/sched/gone.c"));
        let error = of_files(root, &[root.join("Makefile"), gone.clone()]).unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if *path == gone), "{error}");
    }

    /// As the source packages of Debian have it: a change would go unseen, and the kernel from before be run.
    #[test]
    fn a_gitignore_that_excludes_the_source_is_not_believed() {
        let tree = Tree::new("*.o\n/*\n!/debian/\n");
        let first = tree.state(true);
        tree.write("kernel/sched/ext.c", "int y;");
        assert_ne!(tree.state(true), first);
    }
}
