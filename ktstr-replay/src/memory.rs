//! Guest-physical memory, wherever it is.

use std::ops::Range;

use rkyv::{Archive, Deserialize, Serialize};

use crate::units::GuestPhys;

/// The bytes of a guest's physical memory.
///
/// A live VM, a checkpoint in a trace and a test's byte array implement it, so that every decoder serves all
/// three. Reads may be torn when the guest is running.
pub trait Memory {
    /// Fill `out` with the bytes at `at`.
    ///
    /// # Errors
    /// [`MemoryError`] when any of the bytes is not there; `out` is then unspecified.
    fn read(&self, at: GuestPhys, out: &mut [u8]) -> Result<(), MemoryError>;

    /// The ranges of physical addresses that hold data (not holes), ascending and disjoint.
    ///
    /// What a scan has to look at. Bytes of RAM outside of them read as zero.
    fn populated(&self) -> Vec<Range<u64>>;
}

/// Why bytes of guest memory could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// No RAM is mapped there.
    #[error("{len} bytes at {at} are outside of the guest's RAM")]
    OutOfRange {
        /// Where the read began.
        at: GuestPhys,
        /// Its length in bytes.
        len: usize,
    },
    /// The RAM exists, but this checkpoint did not keep that page.
    #[error("the page of {at} was left out of this checkpoint: {}{}", .why.as_str(), remedy(*.why))]
    LeftOut {
        /// An address in the missing page.
        at: GuestPhys,
        /// What the page was.
        why: LeftOut,
    },
    /// The page is in the trace, but could not be decoded.
    #[error("the page of {at} is damaged: {why}")]
    Damaged {
        /// An address in the damaged page.
        at: GuestPhys,
        /// What was wrong with it.
        why: String,
    },
}

/// Why a page was not kept in a checkpoint. It is stored in traces as it is: its variants keep their order for ever.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeftOut {
    /// It is the guest channel's.
    Channel,
    /// The kernel has it on a free list.
    Free,
    /// It caches a file.
    PageCache,
    /// It is user space's: anonymous memory.
    User,
    /// It could not be read.
    Unreadable,
    /// It is the kernel's own code.
    KernelText,
    /// It is the kernel's BTF, which the trace has as a blob.
    KernelTypes,
    /// It is the kernel's symbol table, which the trace has as a blob.
    KernelSymbols,
    /// The core file that the trace was made of does not have it. Reserved: this release reads no core files.
    NotInCore,
    /// No reading of ours reads it.
    NotRead,
    /// It is of the kernel's trace buffers, whose steps the trace has as events.
    History,
}

impl LeftOut {
    /// All reasons.
    pub const ALL: [Self; 11] = [
        Self::Free,
        Self::PageCache,
        Self::User,
        Self::KernelText,
        Self::KernelTypes,
        Self::KernelSymbols,
        Self::Channel,
        Self::Unreadable,
        Self::NotInCore,
        Self::NotRead,
        Self::History,
    ];

    /// In words: `free`, `page cache`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Channel => "guest channel",
            Self::Free => "free",
            Self::PageCache => "page cache",
            Self::User => "user memory",
            Self::Unreadable => "unreadable",
            Self::KernelText => "kernel code",
            Self::KernelTypes => "kernel types",
            Self::KernelSymbols => "kernel symbols",
            Self::NotInCore => "not in the core file",
            Self::NotRead => "not read by views",
            Self::History => "trace buffers",
        }
    }
}

/// What to do about a page that was left out.
fn remedy(why: LeftOut) -> &'static str {
    match why {
        LeftOut::Free
        | LeftOut::PageCache
        | LeftOut::User
        | LeftOut::KernelText
        | LeftOut::KernelTypes
        | LeftOut::History => " (record the test with `--pages all` to keep it)",
        LeftOut::KernelSymbols => " (`ktstr trace slim --pages all` does not leave it out)",
        LeftOut::NotRead => " (`ktstr trace slim --pages read` left it out of a larger trace)",
        LeftOut::Channel | LeftOut::Unreadable | LeftOut::NotInCore => "",
    }
}
