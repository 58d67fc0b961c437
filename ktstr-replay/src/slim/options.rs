//! What a slimmer trace keeps, and the errors that prevent it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use crate::kernel::KernelError;
use crate::memory::LeftOut;
use crate::trace::record::EventBody;
use crate::trace::{TraceError, WriteError};

/// How a trace is made smaller. By default all that a reader of traces can miss is kept, and compressed well.
#[derive(Clone, Debug)]
pub struct SlimOptions {
    /// zstd level, 1 to 22.
    pub level: i32,
    /// What is not carried over.
    pub drop: Vec<Dropped>,
    /// Which checkpoints are.
    pub keep: KeepCheckpoints,
    /// Which pages are kept.
    pub pages: KeepPages,
    /// Leave out whatever may tell of the host, its user or arguments: user memory, with the page cache and free pages, which
    /// may hold the same, and all text that is not a name. [`CHANNELS`](super::CHANNELS) says what becomes of what.
    pub redact: bool,
}

impl Default for SlimOptions {
    fn default() -> Self {
        Self {
            level: 19,
            drop: Vec::new(),
            keep: KeepCheckpoints::All,
            pages: KeepPages::Lean,
            redact: false,
        }
    }
}

impl SlimOptions {
    /// Whether pages with this class are left out.
    pub(super) fn leaves_out(&self, why: LeftOut) -> bool {
        match why {
            LeftOut::Free | LeftOut::PageCache | LeftOut::User => {
                self.pages == KeepPages::Kernel || self.redact
            }
            LeftOut::KernelText => self.pages == KeepPages::Kernel,
            LeftOut::KernelTypes | LeftOut::KernelSymbols => self.pages != KeepPages::All,
            LeftOut::Channel
            | LeftOut::Unreadable
            | LeftOut::NotInCore
            | LeftOut::NotRead
            | LeftOut::History => false,
        }
    }

    /// Whether it has to be found out what each page is; the parts of the kernel's image are found by symbols alone.
    pub(super) fn needs_classes(&self) -> bool {
        self.leaves_out(LeftOut::User)
    }

    /// What makes an event one that is not carried over.
    pub(super) fn drops(&self, event: &EventBody) -> Option<Dropped> {
        let sort = match event {
            EventBody::Console(_) => Dropped::Console,
            EventBody::Kmsg { .. } => Dropped::Kmsg,
            EventBody::Output { .. } => Dropped::Output,
            _ => return None,
        };
        (self.redact || self.drop.contains(&sort)).then_some(sort)
    }
}

/// Which of the pages that a trace has are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepPages {
    /// All but the kernel's tables of types and symbols, where the trace has those as blobs. drgn and crash find symbols
    /// in an exported core only by those tables, or by debug information.
    Lean,
    /// What decoders read: what a recording with `pages = "kernel"` keeps, without the tables.
    Kernel,
    /// What the judgement, the report, `why` and the views of this release read of the kept checkpoints. Other questions, such as
    /// a path into the kernel that no claim of the test has, may find their page left out; so may drgn and crash.
    Read,
    /// All.
    All,
}

impl KeepPages {
    /// All choices.
    pub const ALL: [Self; 4] = [Self::Lean, Self::Kernel, Self::Read, Self::All];
}

impl fmt::Display for KeepPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lean => "lean",
            Self::Kernel => "kernel",
            Self::Read => "read",
            Self::All => "all",
        })
    }
}

impl FromStr for KeepPages {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = || Self::ALL.map(|one| one.to_string()).join(", ");
        Self::ALL
            .into_iter()
            .find(|one| one.to_string() == text)
            .ok_or_else(|| format!("it is one of {}, not `{text}`", words()))
    }
}

/// Something that a trace may do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// What the guest wrote to its serial console.
    Console,
    /// The kernel log. That the kernel reported a fault, and when, is kept, for it decides the verdict.
    Kmsg,
    /// What programs wrote to their outputs.
    Output,
    /// Guest memory.
    Checkpoints,
    /// The machines of a run beyond the first: those on which a failure was to happen again.
    Segments,
}

impl Dropped {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Console, Self::Kmsg, Self::Output, Self::Checkpoints, Self::Segments];
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Console => "console",
            Self::Kmsg => "kmsg",
            Self::Output => "output",
            Self::Checkpoints => "checkpoints",
            Self::Segments => "segments",
        })
    }
}

impl FromStr for Dropped {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|one| one.to_string() == text).ok_or_else(|| {
            let words = Self::ALL.map(|one| one.to_string()).join(", ");
            format!("it is one of {words}, not `{text}`")
        })
    }
}

/// Which checkpoints are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepCheckpoints {
    /// Each one.
    All,
    /// The last so many.
    Last(usize),
    /// That of the capture with this tag.
    Tag(String),
}

impl FromStr for KeepCheckpoints {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.parse() {
            Ok(count) => Self::Last(count),
            Err(_) => Self::Tag(text.to_owned()),
        })
    }
}

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
    #[error("checkpoint {checkpoint} says that the guest had {bytes} bytes of RAM; the limit is {most}")]
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
    #[error("the pages of checkpoint {checkpoint} cannot be classified")]
    Pages {
        /// The checkpoint.
        checkpoint: u32,
        /// Why not.
        source: KernelError,
    },
    /// A trace for a forge is longer than forges take.
    #[error("it would have {} bytes as it is, and forges take {max_bytes}: {parts}", .bytes)]
    TooLarge {
        /// The length of the file.
        bytes: u64,
        /// What is taken.
        max_bytes: u64,
        /// What it consists of, in words.
        parts: String,
    },
    /// The new trace does not read back as it was written.
    #[error("the new trace is damaged ({0}); was the disk changed meanwhile?")]
    Damaged(String),
}
