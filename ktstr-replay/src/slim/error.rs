//! What can go wrong while a trace is made smaller.

use std::io;
use std::path::PathBuf;

use crate::kernel::KernelError;
use crate::trace::{TraceError, WriteError};

/// Why a trace could not be made smaller. Nothing of a new file is left.
#[derive(Debug, thiserror::Error)]
pub enum SlimError {
    /// The old trace cannot be opened, or a checkpoint of it not be read.
    #[error("the trace cannot be read")]
    Read(#[from] TraceError),
    /// The new one cannot be written.
    #[error("the new trace cannot be written")]
    Write(#[from] WriteError),
    /// There is a file already.
    #[error("{} exists; name a file that does not", .0.display())]
    Exists(PathBuf),
    /// The new trace is whole, and cannot be given its name.
    #[error("{} cannot be made", .path.display())]
    Place {
        /// The name.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A checkpoint says that the guest had more RAM than any that was recorded.
    #[error("checkpoint {checkpoint} says that the guest had {bytes} bytes of RAM; at most {most} are taken")]
    TooMuchRam {
        /// The checkpoint.
        checkpoint: u32,
        /// What it says.
        bytes: u64,
        /// What is taken.
        most: u64,
    },
    /// The options name a capture that has no checkpoint.
    #[error("no checkpoint was taken with a capture `{tag}`; those that have one: {have}")]
    NoSuchTag {
        /// What was asked for.
        tag: String,
        /// The tags there are.
        have: String,
    },
    /// Pages are to be left out by what they are, and the kernel in the trace cannot tell.
    #[error("what the pages of checkpoint {checkpoint} are cannot be told")]
    Pages {
        /// The checkpoint.
        checkpoint: u32,
        /// Why not.
        source: KernelError,
    },
    /// The new trace does not read back as it was written.
    #[error("the new trace is damaged ({0}); was the disk changed meanwhile?")]
    Damaged(String),
}
