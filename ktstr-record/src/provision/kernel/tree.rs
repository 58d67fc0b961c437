//! A folder in which a kernel was built: a source tree, or the folder that make was given as `O=`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::error::{Error, Result};

/// Where make leaves the image, below the root.
pub(super) const IMAGES: [&str; 2] = ["arch/x86/boot/bzImage", "arch/x86_64/boot/bzImage"];
/// Images of other processors, to say what was built.
const OTHERS: [(&str, &str); 4] = [
    ("arch/arm64/boot/Image", "arm64"),
    ("arch/riscv/boot/Image", "riscv"),
    ("arch/s390/boot/bzImage", "s390"),
    ("arch/powerpc/boot/zImage", "powerpc"),
];
/// Bytes of a Makefile that are looked at.
const MAKEFILE_BYTES: usize = 64 << 10;
/// Files of a folder that an error shows.
const SHOWN: usize = 6;

/// What was built in a folder.
#[derive(Debug)]
pub(super) struct Built {
    /// The image to boot.
    pub(super) image: PathBuf,
    /// What a person should know of it.
    pub(super) note: Option<String>,
}

/// The kernel that was built in `folder`: its bzImage, else its vmlinux.
///
/// # Errors
/// [`Error::NotBuilt`] for a source tree without either, [`Error::NotATree`] for another folder.
pub(super) fn built(folder: &Path) -> Result<Built> {
    let vmlinux = folder.join("vmlinux");
    let image = IMAGES.iter().map(|image| folder.join(image)).find(|image| image.is_file());
    if let Some(image) = image {
        let changed = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
        let note = stale(changed(&image), changed(&vmlinux)).then(|| {
            let (image, vmlinux) = (image.display(), vmlinux.display());
            format!(
                "{vmlinux} is newer than {image}, which is booted; run make there to have both of one build"
            )
        });
        return Ok(Built { image, note });
    }
    if vmlinux.is_file() {
        return Ok(Built { image: vmlinux, note: None });
    }
    let Some(version) = version(folder) else { return Err(not_a_tree(folder)) };
    let other = OTHERS.iter().find(|(image, _)| folder.join(image).is_file());
    let found = other.map(|(image, processor)| format!("; it was built for {processor} ({image})"));
    Err(Error::NotBuilt { folder: folder.to_owned(), version, found: found.unwrap_or_default() })
}

/// Whether a vmlinux is of a later build than the image: in one build the image comes last.
fn stale(image: Option<SystemTime>, vmlinux: Option<SystemTime>) -> bool {
    image.zip(vmlinux).is_some_and(|(image, vmlinux)| vmlinux > image)
}

/// The version of the source tree in `folder`, by its Makefile; `None` for what is no source tree.
pub(super) fn version(folder: &Path) -> Option<String> {
    if !folder.join("Kconfig").is_file() || !folder.join("arch/x86").is_dir() {
        return None;
    }
    let text = fs::read(folder.join("Makefile")).ok()?;
    let text = String::from_utf8_lossy(&text[..text.len().min(MAKEFILE_BYTES)]).into_owned();
    let value = |name: &str| {
        let mut pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    let (major, minor) = (value("VERSION")?, value("PATCHLEVEL")?);
    let patch = value("SUBLEVEL").filter(|patch| !patch.is_empty()).unwrap_or_else(|| "0".to_owned());
    Some(format!("{major}.{minor}.{patch}{}", value("EXTRAVERSION").unwrap_or_default()))
}

/// The error for a folder that is not a source tree, with some of its contents.
pub(super) fn not_a_tree(folder: &Path) -> Error {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<String> =
        entries.take(1000).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    found.sort();
    let more = found.len().saturating_sub(SHOWN);
    found.truncate(SHOWN);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    Error::NotATree { folder: folder.to_owned(), found }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A source tree with nothing built in it.
    pub(in super::super) fn source_tree(folder: &Path) {
        fs::create_dir_all(folder.join("arch/x86/boot")).unwrap();
        fs::write(folder.join("Kconfig"), "").unwrap();
        let makefile = "# SPDX\nVERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\nEXTRAVERSION = -rc1\nNAME = x\n";
        fs::write(folder.join("Makefile"), makefile).unwrap();
    }

    #[test]
    fn a_tree_that_was_not_built_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        source_tree(dir.path());
        let text = built(dir.path()).unwrap_err().to_string();
        assert!(text.contains("source tree of Linux 7.3.4-rc1") && text.contains("--build"), "{text}");
        fs::create_dir_all(dir.path().join("arch/arm64/boot")).unwrap();
        fs::write(dir.path().join("arch/arm64/boot/Image"), "").unwrap();
        let text = built(dir.path()).unwrap_err().to_string();
        assert!(text.contains("it was built for arm64"), "{text}");
    }

    #[test]
    fn a_folder_that_is_no_tree_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let text = built(dir.path()).unwrap_err().to_string();
        assert!(text.contains("no kernel source tree") && text.contains("a, b"), "{text}");
        assert!(built(&dir.path().join("none")).unwrap_err().to_string().contains("nothing"));
    }

    #[test]
    fn the_image_comes_before_vmlinux_and_an_older_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        source_tree(dir.path());
        fs::write(dir.path().join("vmlinux"), "").unwrap();
        assert_eq!(built(dir.path()).unwrap().image, dir.path().join("vmlinux"));
        fs::write(dir.path().join(IMAGES[0]), "").unwrap();
        let now = SystemTime::now();
        let age = |path: &str, seconds: u64| {
            let file = fs::File::options().write(true).open(dir.path().join(path)).unwrap();
            file.set_modified(now - std::time::Duration::from_secs(seconds)).unwrap();
        };
        age("vmlinux", 20);
        age(IMAGES[0], 10);
        let found = built(dir.path()).unwrap();
        assert_eq!((found.image, found.note), (dir.path().join(IMAGES[0]), None));
        age("vmlinux", 5);
        assert!(built(dir.path()).unwrap().note.unwrap().contains("vmlinux is newer than"));
    }
}
