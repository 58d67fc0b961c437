//! Why a job cannot be packed or delivered.

use std::io;
use std::path::PathBuf;

use crate::channel::SendError;

/// Why a job cannot be packed or delivered.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A file that the job names cannot be read.
    #[error("reading {path}, which the test needs in its guest")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program or library is a damaged ELF.
    #[error("reading {path} as an ELF")]
    Elf {
        /// Which.
        path: PathBuf,
        /// Why.
        source: object::Error,
    },
    /// A program is for another kind of machine than the guest is.
    #[error("{path} is not a 64-bit x86 program, and the guest runs no others")]
    Machine {
        /// Which.
        path: PathBuf,
    },
    /// A program names a shared library that this host does not have.
    #[error(
        "the shared library {name}, needed by {needed_by}, was not found in {}; \
         install it, or name its folder in LD_LIBRARY_PATH",
        list(searched)
    )]
    MissingLibrary {
        /// The library's name.
        name: String,
        /// The program or library that names it.
        needed_by: PathBuf,
        /// Folders (and the loader's cache) that were searched.
        searched: Vec<PathBuf>,
    },
    /// A path cannot be told to the guest.
    #[error("the path {path:?} is not UTF-8; move the file")]
    NotUtf8 {
        /// Which.
        path: PathBuf,
    },
    /// No test program was named.
    #[error("the job has no test program")]
    NoTest,
    /// The guest did not take it.
    #[error("sending the job to the guest ({what})")]
    Send {
        /// What was being sent.
        what: String,
        /// Why.
        source: SendError,
    },
}

fn list(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "no folder at all".into();
    }
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
