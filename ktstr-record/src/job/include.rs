//! Files and folders of the host that a test reads in its guest.

use std::fs;
use std::path::{Path, PathBuf};

use super::builder::JobBuilder;
use super::packed::{JobError, JobFile};
use super::read::{read, utf8};
use crate::elf::{is_elf, is_for_guest};

/// Most files and links of one folder: more is a mistake, such as the root of a source tree.
const MOST_ENTRIES: usize = 20_000;

impl JobBuilder {
    /// A file, or a folder with all that is in it, at a path of the guest. An ELF of the guest's CPUs brings its libraries.
    ///
    /// A link to something inside of the folder, by a way that stays inside, stays a link; what other links lead to is packed in their
    /// place. Empty folders are left out. That something else is to be at the same path is told when the job is built.
    ///
    /// # Errors
    /// What is not there, or is neither a file nor a folder; a link that leads nowhere, or to a folder by a way outside; too many files.
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
        if stays_below(link, &target, root) {
            self.insert_with_binary(guest, JobFile::Link(utf8(&target)?), &utf8(link)?);
            return Ok(());
        }
        if real.is_dir() {
            let real_path = real.display();
            let why = match real.starts_with(root) {
                true => format!(
                    "it leads to the folder {real_path} by a way that is not in the guest: make it a relative link that stays inside"
                ),
                false => format!("it leads to the folder {real_path}, outside: include that, too"),
            };
            return Err(refused(link, why));
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
        self.insert_with_binary(guest, JobFile::File { mode, bytes }, &utf8(host)?);
        Ok(())
    }
}

/// Whether a link leads to its end without leaving `root`, whose real path that is, on the way.
fn stays_below(link: &Path, target: &Path, root: &Path) -> bool {
    let Some(mut at) = link.parent().and_then(|folder| fs::canonicalize(folder).ok()) else { return false };
    target.components().all(|part| match fs::canonicalize(at.join(part)) {
        Ok(next) => {
            at = next;
            at.starts_with(root)
        }
        Err(_) => false,
    })
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

    const LIMITS: JobLimits = JobLimits { enable_ms: 1, restart_ms: 4, test_ms: 2, exit_ms: 3 };

    fn built(mut builder: JobBuilder) -> PackedJob {
        builder.test("/bin/true".as_ref(), &[], &[]).expect("packed");
        builder.build(LIMITS).expect("complete")
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
    fn a_link_that_leaves_the_folder_and_comes_back_is_followed() {
        let dir = tree();
        let data = dir.path().join("data");
        // In the guest the folder has another name, and nothing of its folder.
        for (name, target) in
            [("back", "../data/a"), ("inner/up", "../a"), ("inner/back", "../../data/inner/b")]
        {
            symlink(target, data.join(name)).expect("linked");
        }
        let mut builder = JobBuilder::new();
        builder.include(&data, "/files/other").expect("included");
        let job = built(builder);
        let entry = |name: &str| {
            let path = format!("/files/other/{name}");
            match &job.binary.iter().find(|(at, _)| *at == path).expect(name).1 {
                JobFile::File { bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
                JobFile::Link(target) => format!("-> {target}"),
            }
        };
        assert_eq!(["back", "inner/up", "inner/back"].map(entry), ["a", "-> ../a", "b"]);
        symlink("../data/inner", data.join("folder")).expect("linked");
        assert!(error(&data).contains("by a way that is not in the guest"), "{}", error(&data));
    }

    #[test]
    fn two_files_of_one_path_are_named_and_the_same_one_twice_is_none() {
        let folder = tempfile::tempdir().expect("made");
        for (name, text) in [("one", "1"), ("same", "1"), ("other", "2")] {
            fs::write(folder.path().join(name), text).expect("written");
        }
        let included = |names: &[&str], guest: &str| {
            let mut builder = JobBuilder::new();
            for name in names {
                builder.include(&folder.path().join(name), guest).expect("read");
            }
            builder.test("/bin/bash".as_ref(), &[], &[]).expect("packed");
            builder.build(LIMITS).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(included(&["one", "same", "one"], "/x"), Ok(()));
        let error = included(&["one", "same", "other"], "/x").expect_err("taken");
        assert!(error.contains("/one and ") && error.contains("/other are both to be /x"), "{error}");
        // A program that is packed without its debug sections, and by its real path, is the same one.
        let mut builder = JobBuilder::new();
        builder.test("/bin/bash".as_ref(), &[], &[]).expect("packed");
        builder.include("/bin/bash".as_ref(), "/bin/bash").expect("read");
        assert!(builder.build(LIMITS).is_ok());
        let mut builder = JobBuilder::new();
        builder.test("/bin/bash".as_ref(), &[], &[]).expect("packed");
        builder.include(&folder.path().join("one"), "/bin/bash").expect("read");
        let error = builder.build(LIMITS).expect_err("taken").to_string();
        assert!(
            error.contains("a file that the job needs and ") && error.contains("/one are both"),
            "{error}"
        );
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
