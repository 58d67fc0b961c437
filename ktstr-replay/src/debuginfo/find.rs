//! Where debug information lies.

use std::fmt;
use std::path::{Path, PathBuf};

use super::DebugInfoError;
use crate::kernel::KernelProfile;

/// The build-id of a kernel: what the linker noted to tell one build from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildId(Vec<u8>);

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl BuildId {
    /// Of a recorded kernel, by its vmcoreinfo (`BUILD-ID`, `kernel/vmcore_info.c`).
    ///
    /// # Errors
    /// [`DebugInfoError::NoBuildId`].
    pub fn of(profile: &KernelProfile) -> Result<Self, DebugInfoError> {
        let hex = profile.vmcoreinfo().get("BUILD-ID").unwrap_or_default();
        let bytes = hex.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16).ok()
        });
        let id: Option<Vec<u8>> = bytes.collect();
        id.filter(|id| id.len() >= 2)
            .map(Self)
            .ok_or_else(|| DebugInfoError::NoBuildId { release: profile.release().to_owned() })
    }

    /// From the bytes of a note.
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// Where distributions and debuginfod's client put the debug information of this build, below `root`.
    fn places(&self, root: &Path, release: &str) -> Vec<PathBuf> {
        let id = self.to_string();
        let debug = root.join("usr/lib/debug");
        vec![
            debug.join(".build-id").join(&id[..2]).join(format!("{}.debug", &id[2..])),
            debug.join("lib/modules").join(release).join("vmlinux"),
            debug.join("boot").join(format!("vmlinux-{release}")),
            root.join("lib/modules").join(release).join("build/vmlinux"),
        ]
    }

    /// The file that `given` means: a file itself; a folder: what a debug package has below it, or its `vmlinux`; nothing:
    /// where this system keeps debug information, and debuginfod's cache.
    pub(super) fn locate(&self, given: Option<&Path>, release: &str) -> Result<PathBuf, DebugInfoError> {
        let places = match given {
            Some(path) if !path.is_dir() => return Ok(path.to_owned()),
            Some(folder) => {
                let mut places = self.places(folder, release);
                places.push(folder.join("vmlinux"));
                places
            }
            None => {
                let mut places = self.places(Path::new("/"), release);
                let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
                let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
                let fetched =
                    |cache: PathBuf| cache.join("debuginfod_client").join(self.to_string()).join("debuginfo");
                places.extend(cache.or_else(home).map(fetched));
                places
            }
        };
        // One that was unpacked without its package's links may be of any build: the caller looks.
        places.iter().find(|place| place.is_file()).cloned().ok_or_else(|| DebugInfoError::NotFound {
            release: release.to_owned(),
            wanted: self.clone(),
            looked: places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", "),
        })
    }
}
