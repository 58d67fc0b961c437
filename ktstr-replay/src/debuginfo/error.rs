//! Why there are no source lines.

use std::path::PathBuf;

use super::BuildId;

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
    #[error(
        "kernel {release} of the trace does not say its build-id, by which debug information is recognised"
    )]
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
