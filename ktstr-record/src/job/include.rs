//! Files and folders of the host that a test reads in its guest.

use std::fs;
use std::path::{Path, PathBuf};

use super::builder::{JobBuilder, read, utf8};
use super::packed::{JobError, JobFile};
use crate::elf::{is_elf, is_for_guest};

/// Most files and links of one folder: more is a mistake, such as the root of a source tree.
const MOST_ENTRIES: usize = 20_000;

impl JobBuilder {
    /// A file, or a folder with all that is in it, at a path of the guest. An ELF of the guest's CPUs brings its libraries.
    ///
    /// A link to something inside of the folder stays a link; what other links lead to is packed in their place. Empty folders are left
    /// out.
    ///
    /// # Errors
    /// What is not there, or is neither a file nor a folder; a link that leads nowhere, or to a folder outside; too many files.
    pub fn include(&mut self, host: &Path, guest: &str) -> Result<(), JobError> {
        let meta = fs::metadata(host).map_err(|source| {
            refused(host, if is_link(host) { dangling(host) } else { source.to_string() })
        })?;
        if meta.is_file() {
            return self.include_file(host, guest);
        }
        if !meta.is_dir() {
            return Err(refused(host, SPECIAL.to_owned()));
        }
        let root = fs::canonicalize(host).map_err(|source| refused(host, source.to_string()))?;
        let mut left = MOST_ENTRIES;
        self.include_folder(host, guest, &root, &mut left)
    }

    fn include_folder(
        &mut self,
        folder: &Path,
        guest: &str,
        root: &Path,
        left: &mut usize,
    ) -> Result<(), JobError> {
        let unread = |source: std::io::Error| refused(folder, source.to_string());
        let mut entries =
            fs::read_dir(folder).map_err(unread)?.collect::<Result<Vec<_>, _>>().map_err(unread)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let inside = format!("{}/{}", guest.trim_end_matches('/'), utf8(Path::new(&entry.file_name()))?);
            *left = left.checked_sub(1).ok_or_else(|| {
                refused(
                    root,
                    format!("it has more than {MOST_ENTRIES} files: name those that the test reads"),
                )
            })?;
            let kind = entry.file_type().map_err(|source| refused(&path, source.to_string()))?;
            if kind.is_dir() {
                self.include_folder(&path, &inside, root, left)?;
            } else if kind.is_symlink() {
                self.include_link(&path, &inside, root)?;
            } else if kind.is_file() {
                self.include_file(&path, &inside)?;
            } else {
                return Err(refused(&path, SPECIAL.to_owned()));
            }
        }
        Ok(())
    }

    fn include_link(&mut self, link: &Path, guest: &str, root: &Path) -> Result<(), JobError> {
        let real = fs::canonicalize(link).map_err(|_| refused(link, dangling(link)))?;
        let target = fs::read_link(link).map_err(|source| refused(link, source.to_string()))?;
        if real.starts_with(root) && target.is_relative() {
            self.insert_with_binary(guest, JobFile::Link(utf8(&target)?));
            return Ok(());
        }
        if real.is_dir() {
            return Err(refused(
                link,
                format!("it leads to the folder {}, outside: include that, too", real.display()),
            ));
        }
        self.include_file(&real, guest)
    }

    fn include_file(&mut self, host: &Path, guest: &str) -> Result<(), JobError> {
        let (mode, bytes) = read(host)?;
        if is_elf(&bytes) && is_for_guest(&bytes) {
            let closure = self.loader.closure(host, &bytes)?;
            for library in &closure.files {
                self.pack_with_binary(library)?;
            }
            let new = |folder: &PathBuf| !self.included_folders.contains(folder);
            let folders: Vec<PathBuf> = closure.folders.into_iter().filter(new).collect();
            self.test_folders.extend(folders.iter().cloned());
            self.included_folders.extend(folders);
        }
        self.insert_with_binary(guest, JobFile::File { mode, bytes });
        Ok(())
    }
}

const SPECIAL: &str = "it is neither a file nor a folder";

fn refused(path: &Path, why: String) -> JobError {
    JobError::Include { path: path.to_owned(), why }
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_symlink())
}

fn dangling(link: &Path) -> String {
    let target = fs::read_link(link).unwrap_or_default();
    format!("it is a link to {}, which is not there", target.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::job::{JobLimits, PackedJob};

    fn built(mut builder: JobBuilder) -> PackedJob {
        builder.test("/bin/true".as_ref(), &[], &[]).expect("packed");
        builder.build(JobLimits { enable_ms: 1, restart_ms: 4, test_ms: 2, exit_ms: 3 }).expect("complete")
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("made");
        fs::create_dir_all(dir.path().join("data/inner")).expect("made");
        fs::write(dir.path().join("data/a"), "a").expect("written");
        fs::write(dir.path().join("data/inner/b"), "b").expect("written");
        fs::write(dir.path().join("outside"), "o").expect("written");
        dir
    }

    fn error(dir: &Path) -> String {
        JobBuilder::new().include(dir, "/x").expect_err("refused").to_string()
    }

    #[test]
    fn a_folder_is_included_with_all_that_is_in_it() {
        let dir = tree();
        symlink("inner/b", dir.path().join("data/link")).expect("linked");
        symlink("../outside", dir.path().join("data/out")).expect("linked");
        let mut builder = JobBuilder::new();
        builder.include(&dir.path().join("data"), "/files/data").expect("included");
        let job = built(builder);
        let entry = |path: &str| &job.binary.iter().find(|(at, _)| at == path).expect(path).1;
        let text = |path: &str| match entry(path) {
            JobFile::File { bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
            JobFile::Link(target) => format!("-> {target}"),
        };
        let found = ["a", "inner/b", "link", "out"].map(|name| text(&format!("/files/data/{name}")));
        assert_eq!(found, ["a", "b", "-> inner/b", "o"]);
    }

    #[test]
    fn an_included_library_brings_what_it_needs() {
        let mut builder = JobBuilder::new();
        builder.include("/bin/bash".as_ref(), "/files/mine").expect("included");
        let job = built(builder);
        assert!(job.entries().any(|(path, _)| path == "/files/mine"));
        assert!(job.entries().any(|(path, _)| path.ends_with("/libtinfo.so.6")));
    }

    #[test]
    fn what_cannot_be_included_is_named_with_the_reason() {
        let dir = tree();
        let data = dir.path().join("data");
        assert!(error(&dir.path().join("none")).contains("/none cannot be included"));
        let link = data.join("link");
        for (target, words) in [
            ("nowhere", "a link to nowhere, which is not there"),
            ("/usr/share", "leads to the folder /usr/share"),
        ] {
            symlink(target, &link).expect("linked");
            assert!(error(&data).contains(words), "{}", error(&data));
            fs::remove_file(&link).expect("removed");
        }
        symlink("nowhere", &link).expect("linked");
        assert!(error(&link).contains("a link to nowhere"), "{}", error(&link));
        fs::remove_file(&link).expect("removed");
        // A link to the folder that it is in stays one, and is not followed without end.
        symlink(".", &link).expect("linked");
        JobBuilder::new().include(&data, "/x").expect("included");
        let _socket = UnixListener::bind(data.join("socket")).expect("bound");
        assert!(
            error(&data).contains("socket cannot be included in the guest: it is neither"),
            "{}",
            error(&data)
        );
    }
}
