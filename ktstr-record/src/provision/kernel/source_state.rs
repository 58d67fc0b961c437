//! The state of a source tree as one number: its files by name and content, without what a build leaves there.
//!
//! What a build in place leaves there is told by the tree's own `.gitignore` files, which the kernel's sources have in their tar files
//! too. The root's is believed but for the rules that would hide the tree itself: Debian's source packages have `/*` behind the kernel's own.

use std::fs::{self, File};
use std::io;
use std::num::NonZero;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::super::error::{Error, Result};
use super::hash;

/// Files that are looked at, at most. Linux has 95,000.
const MAX_FILES: usize = 1_000_000;
/// Threads that read files.
const MAX_THREADS: usize = 8;

/// The rules of a folder and of those below it.
const RULES: &str = ".gitignore";
/// What a tree is not without: a rule that excludes one of these excludes the source.
const SURELY_SOURCE: [&str; 2] = ["Makefile", "Kconfig"];

/// The state of the source tree at `root`. With `is_built_in`, what a build leaves there is no part of it.
///
/// # Errors
/// [`Error::Io`] of what cannot be read: the tree, or one of its files.
pub(super) fn of(root: &Path, is_built_in: bool) -> Result<u128> {
    let mut paths = Vec::new();
    let mut rules = is_built_in.then(Vec::new);
    files(root, root, &mut rules, &mut paths).map_err(Error::io("list the files of", root))?;
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

/// Adds the files below `folder` to `paths`: those of git aside, and, where there are `rules` of the folders above it, those that they
/// and the folder's own exclude.
fn files(
    root: &Path,
    folder: &Path,
    rules: &mut Option<Vec<Gitignore>>,
    paths: &mut Vec<PathBuf>,
) -> io::Result<()> {
    let above = rules.as_ref().map_or(0, Vec::len);
    if let Some(rules) = rules {
        rules.extend(rules_of(folder, folder == root)?);
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        // As git has it: the rule of the innermost folder counts, and below a folder that is excluded nothing is looked at.
        let rule = rules.iter().flatten().rev().map(|rules| rules.matched(&path, kind.is_dir()));
        let is_left_out = rule.into_iter().find(|rule| !rule.is_none()).is_some_and(|rule| rule.is_ignore());
        if is_left_out || entry.file_name() == ".git" {
            continue;
        }
        if kind.is_dir() {
            files(root, &path, rules, paths)?;
        } else if kind.is_file() || kind.is_symlink() {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            return Err(io::Error::other(format!("it has more than {MAX_FILES} files")));
        }
    }
    if let Some(rules) = rules {
        rules.truncate(above);
    }
    Ok(())
}

/// The rules in `folder`, if there are any; at the root without those that exclude the source.
fn rules_of(folder: &Path, is_root: bool) -> io::Result<Option<Gitignore>> {
    let text = match fs::read(folder.join(RULES)) {
        Ok(text) => text,
        // A folder of this name has no rules either.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&text);
    let hides_the_source = |line: &str| {
        let alone = rules_from(folder, [line]);
        SURELY_SOURCE.iter().any(|name| matches!(alone.matched(name, false), Match::Ignore(_)))
    };
    Ok(Some(rules_from(folder, text.lines().filter(|line| !(is_root && hides_the_source(line))))))
}

/// These lines as rules of `folder`. Lines that are none exclude nothing.
fn rules_from<'a>(folder: &Path, lines: impl IntoIterator<Item = &'a str>) -> Gitignore {
    let mut rules = GitignoreBuilder::new(folder);
    for line in lines {
        let _no_rule = rules.add_line(None, line);
    }
    rules.build().unwrap_or_else(|_no_rules| Gitignore::empty())
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

    /// As the source packages of Debian have it: if it were believed, a change would go unseen and the kernel from before be run; if none
    /// of its rules were, a build in place would be a change of the source.
    #[test]
    fn of_a_gitignore_that_excludes_the_source_the_other_rules_are_believed() {
        let tree = Tree::new("*.o\n/*\n!/debian/\n");
        let first = tree.state(true);
        tree.write("kernel/sched/ext.o", "made");
        assert_eq!(tree.state(true), first);
        tree.write("kernel/sched/ext.c", "int y;");
        assert_ne!(tree.state(true), first);
    }

    #[test]
    fn the_rules_of_a_folder_are_of_what_is_below_it_and_come_before_those_above() {
        let tree = Tree::new("*.bc\n/vmlinux\n");
        tree.write("kernel/.gitignore/rules", "*\n");
        tree.write("kernel/time/.gitignore", "!timeconst.bc\n/timeconst.h\n\\\n");
        let first = tree.state(true);
        for made in ["kernel/other.bc", "kernel/time/other.bc", "kernel/time/timeconst.h", "vmlinux"] {
            tree.write(made, "made");
            assert_eq!(tree.state(true), first, "{made}");
        }
        let mut states = vec![first];
        for source in ["kernel/time/timeconst.bc", "kernel/timeconst.h", "kernel/time/vmlinux"] {
            tree.write(source, "source");
            let state = tree.state(true);
            assert!(!states.contains(&state), "{source}");
            states.push(state);
        }
    }
}
