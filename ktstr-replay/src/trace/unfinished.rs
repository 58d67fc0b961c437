//! Files that are being made: where they are before they have their names, so that whoever ends this process can remove them.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where a new file is written before it has its name: beside it, so that it is on the same disk.
pub(crate) fn part_name(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(unfinished_suffix());
    to.with_file_name(name)
}

/// Give a file that is finished its name, unless there is a file of that name by now. What it was called before may stay beside it.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where there is one; those of the file system.
pub(crate) fn place(part: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(part, to).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Err(error),
        // A file system without links.
        _ => fs::rename(part, to),
    })
}

/// Ends the name of a file that this process has not finished.
#[must_use]
pub fn unfinished_suffix() -> String {
    format!(".part-{}", std::process::id())
}

/// Begins the name of the folder in which this process makes a file for a forge.
#[must_use]
pub fn unfinished_folder() -> String {
    format!(".ktstr-slim-{}-", std::process::id())
}

/// The folder that a file of this path is in.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_in_the_working_folder() {
        for (path, folder) in [("x", "."), ("./x", "."), ("a/x", "a"), ("/x", "/"), ("/a/b/x", "/a/b")] {
            assert_eq!(folder_of(Path::new(path)), Path::new(folder));
        }
    }
}
