//! Where debug information lies, and why there is none.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::kernel::KernelProfile;

/// Why a kernel's debug information cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DebugInfoError {
    /// No file that was looked at is of the recorded kernel.
    #[error(
        "found no debug information of kernel {release} (build-id {wanted}); looked for {looked}; give its vmlinux, or \
         the folder that its debug package was unpacked to: --debuginfo PATH"
    )]
    NotFound {
        /// `uname -r`.
        release: String,
        /// The kernel's.
        wanted: BuildId,
        /// Files that are not there.
        looked: String,
    },
    /// The file is of another kernel.
    #[error("{path} has build-id {found}, and kernel {release} of the trace has {wanted}: its lines would be wrong", path = path.display())]
    OtherKernel {
        /// The file.
        path: PathBuf,
        /// `uname -r` of the trace's kernel.
        release: String,
        /// Its build-id; `none` where it has none.
        found: String,
        /// The kernel's.
        wanted: BuildId,
    },
    /// The kernel does not say its build-id (before Linux 5.9 it did not).
    #[error("kernel {release} of the trace has no build-id, so its debug information cannot be identified")]
    NoBuildId {
        /// `uname -r`.
        release: String,
    },
    /// A file without DWARF, as kernels are shipped.
    #[error("{path} has no debug information (no .debug_info section); it is in the distribution's debug package", path = path.display())]
    Stripped {
        /// The file.
        path: PathBuf,
    },
    /// A file that cannot be read, or not understood.
    #[error("could not read {path}: {why}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Of the system, or of the parser.
        why: String,
    },
}

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
