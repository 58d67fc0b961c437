//! Which members of a package are taken: the kernel's image and its configuration.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::{About, Extracted, Format, PackageError};

/// Members that are looked at. A kernel with all modules has 6000.
const MAX_MEMBERS: u64 = 200_000;
/// The largest image. Debian's has 14 MB.
const MAX_IMAGE_BYTES: u64 = 512 << 20;
/// The largest configuration. Debian's has 0.3 MB.
const MAX_CONFIG_BYTES: u64 = 16 << 20;
/// Images and configurations that are copied out of one package.
const MAX_TAKEN: usize = 16;
/// Members that an error shows.
const SHOWN: usize = 5;
/// Characters of a member's name that an error shows.
const SHOWN_CHARS: usize = 80;

/// Looks at the members of a package one after the other, and copies those that are wanted.
#[derive(Debug)]
pub(super) struct Collector<'a> {
    into: &'a Path,
    members: u64,
    first: Vec<String>,
    images: Vec<Copied>,
    configs: Vec<Copied>,
}

/// A member that was copied.
#[derive(Debug)]
struct Copied {
    member: String,
    release: String,
    copy: PathBuf,
}

/// What a member is, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Image,
    Config,
}

impl<'a> Collector<'a> {
    /// Copies go into the folder `into`.
    pub(super) fn new(into: &'a Path) -> Self {
        Self { into, members: 0, first: Vec::new(), images: Vec::new(), configs: Vec::new() }
    }

    /// The next member: its path in the package, whether it is a regular file, and its content of `bytes`.
    ///
    /// # Errors
    /// A wanted member that is too large, cut off, or cannot be copied; too many members.
    pub(super) fn member(
        &mut self,
        path: &[u8],
        is_file: bool,
        bytes: u64,
        content: &mut impl Read,
    ) -> Result<(), PackageError> {
        self.members += 1;
        if self.members > MAX_MEMBERS {
            return Err(PackageError::TooMany { limit: MAX_MEMBERS });
        }
        let path = String::from_utf8_lossy(path);
        let path = path.trim_start_matches("./").trim_start_matches('/');
        if self.first.len() < SHOWN && is_file {
            self.first.push(path.chars().take(SHOWN_CHARS).collect());
        }
        let Some((role, release)) = role(path).filter(|_| is_file) else { return Ok(()) };
        let (taken, part, limit, name) = match role {
            Role::Image => (&mut self.images, "image of the kernel", MAX_IMAGE_BYTES, "image"),
            Role::Config => (&mut self.configs, "configuration", MAX_CONFIG_BYTES, "config"),
        };
        // The same kernel at a second place.
        if taken.iter().any(|other| other.release == release) || taken.len() >= MAX_TAKEN {
            return Ok(());
        }
        if bytes > limit {
            return Err(PackageError::TooLarge { part, limit });
        }
        let copy = self.into.join(format!("{name}-{}", taken.len()));
        copied(content, bytes, &copy).map_err(|source| PackageError::Broken { part, source })?;
        taken.push(Copied { member: path.to_owned(), release: release.to_owned(), copy });
        Ok(())
    }

    /// What was taken of the one kernel in the package.
    ///
    /// # Errors
    /// None, or several.
    pub(super) fn finish(self, format: Format, about: About) -> Result<Extracted, PackageError> {
        let [image] = self.images.as_slice() else {
            if self.images.is_empty() {
                let needs =
                    about.needs.into_iter().filter(|need| need.contains("linux") || need.contains("kernel"));
                return Err(PackageError::NoImage {
                    format: format.name(),
                    name: about.name,
                    members: self.members,
                    found: self.first,
                    needs: needs.take(SHOWN).collect(),
                });
            }
            let found = self.images.into_iter().map(|taken| taken.member).collect();
            return Err(PackageError::Several { found });
        };
        let of_release = self.configs.iter().find(|config| config.release == image.release);
        Ok(Extracted { image: image.copy.clone(), config: of_release.map(|config| config.copy.clone()) })
    }
}

/// What the member at `path` is, and the release of the kernel that it is of.
fn role(path: &str) -> Option<(Role, &str)> {
    let path = path.strip_prefix("usr/").unwrap_or(path);
    if let Some(name) = path.strip_prefix("boot/").filter(|name| !name.contains('/')) {
        let image = name.strip_prefix("vmlinuz-").or_else(|| name.strip_prefix("bzImage-"));
        let config = || Some((Role::Config, name.strip_prefix("config-")?));
        return image.map(|release| (Role::Image, release)).or_else(config);
    }
    let (release, name) = path.strip_prefix("lib/modules/")?.split_once('/')?;
    match name {
        "vmlinuz" | "bzImage" => Some((Role::Image, release)),
        "config" => Some((Role::Config, release)),
        _ => None,
    }
}

/// Copies `bytes` of `content` into the new file `copy`.
fn copied(content: &mut impl Read, bytes: u64, copy: &Path) -> io::Result<()> {
    let mut out = File::create_new(copy)?;
    let found = io::copy(&mut content.take(bytes), &mut out)?;
    if found != bytes {
        let why = format!("it has {bytes} bytes, of which {found} are there");
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_of_four_distributions_are_known_and_no_others() {
        for (path, expected) in [
            ("usr/lib/modules/7.3.4+deb13-amd64/vmlinuz", Some((Role::Image, "7.3.4+deb13-amd64"))),
            ("usr/lib/modules/7.3.4+deb13-amd64/config", Some((Role::Config, "7.3.4+deb13-amd64"))),
            ("boot/vmlinuz-6.12.94+deb13-amd64", Some((Role::Image, "6.12.94+deb13-amd64"))),
            ("boot/config-6.12.94+deb13-amd64", Some((Role::Config, "6.12.94+deb13-amd64"))),
            ("lib/modules/7.2.1-200.fc44.x86_64/vmlinuz", Some((Role::Image, "7.2.1-200.fc44.x86_64"))),
            ("lib/modules/7.2.1-200.fc44.x86_64/kernel/vmlinuz", None),
            ("boot/grub/vmlinuz-7", None),
            ("usr/share/doc/boot/vmlinuz-7", None),
            ("boot/System.map-7.3.4", None),
        ] {
            assert_eq!(role(path), expected, "{path}");
        }
    }

    #[test]
    fn a_member_that_ends_early_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut collector = Collector::new(dir.path());
        let error = collector.member(b"boot/vmlinuz-7", true, 5, &mut &b"four"[..]).unwrap_err();
        assert!(matches!(error, PackageError::Broken { part: "image of the kernel", .. }), "{error}");
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut collector = Collector::new(dir.path());
        let mut endless = io::repeat(0);
        let error = collector.member(b"boot/vmlinuz-7", true, u64::MAX, &mut endless).unwrap_err();
        assert!(error.to_string().contains("limit of 512 MiB"), "{error}");
        collector.members = MAX_MEMBERS;
        let error = collector.member(b"x", false, 0, &mut endless).unwrap_err();
        assert!(matches!(error, PackageError::TooMany { .. }), "{error}");
    }
}
