//! What can go wrong while a scheduler is built.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use crate::provision;

/// Why a scheduler could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The name cannot be that of a C scheduler, for the skeleton's functions are called after it.
    #[error("a C scheduler's name is made of letters, digits and underscores, not {name:?}")]
    Name {
        /// The name that was given.
        name: String,
    },
    /// One of the two source files is not there.
    #[error(
        "no {missing} in {dir}: a C scheduler is a folder with NAME.bpf.c (the BPF side) and NAME.c (its loader)",
        dir = dir.display()
    )]
    NoSource {
        /// The folder that was searched.
        dir: PathBuf,
        /// The file that it lacks.
        missing: String,
    },
    /// The folder holds more source than a scheduler can be.
    #[error(
        "more than {limit} files of C source below {dir}: is it a scheduler's own folder?",
        dir = dir.display()
    )]
    TooManySources {
        /// The folder that was searched.
        dir: PathBuf,
        /// The most that are looked at.
        limit: usize,
    },
    /// The kernel file cannot be read as an ELF file.
    #[error("cannot read the sections of the kernel {path}", path = path.display())]
    KernelElf {
        /// The kernel.
        path: PathBuf,
        /// What its parser says.
        source: object::Error,
    },
    /// The kernel was built without BTF.
    #[error(
        "the kernel {path} has no .BTF section: schedulers need a kernel built with CONFIG_DEBUG_INFO_BTF",
        path = path.display()
    )]
    NoBtf {
        /// The kernel.
        path: PathBuf,
    },
    /// A program of the BPF toolchain could not be started.
    #[error("cannot start {program} of the BPF toolchain in {root}", root = root.display())]
    Spawn {
        /// Its name.
        program: &'static str,
        /// The toolchain's root.
        root: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A step ended with an error; what its program said is part of the message.
    #[error("cannot {step}: {program} ended with {status}\n{stderr}", stderr = stderr.trim_end())]
    Step {
        /// What was to be done.
        step: String,
        /// The program's name.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it printed.
        stderr: String,
    },
    /// The cache could not be locked or written.
    #[error(transparent)]
    Cache(#[from] provision::Error),
    /// A file could not be read or written.
    #[error("cannot {doing} {path}", path = path.display())]
    Io {
        /// What was to be done.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl BuildError {
    /// For `map_err`: an I/O error at `path` while `doing`.
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}
