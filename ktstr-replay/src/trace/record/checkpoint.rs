//! A checkpoint: which pages guest memory was made of at one moment.

use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::trace::body::{Body, BodyError, archive, archived_body, unarchive};
use crate::trace::kind::Kind;

/// A checkpoint: a table of pages over its parent's, or a full one.
///
/// In a full table a page of RAM that no run names is zero; in the table of a child it is as in the parent.
/// Runs are ascending by gfn and disjoint.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct CheckpointV1 {
    /// Position among the trace's checkpoints, from 0.
    pub index: u32,
    /// The earlier checkpoint that this table lies over; `None`: a full table.
    pub parent: Option<u32>,
    /// The sample that was taken with it.
    pub sample: Option<u32>,
    /// Guest `CLOCK_MONOTONIC` in ns, estimated from the last clock record.
    pub guest_ns: u64,
    /// Host time since the recording began, in ns.
    pub host_ns: u64,
    /// Where the guest has RAM, ascending and disjoint.
    pub ram: Vec<RamRangeV1>,
    /// What became of the pages.
    pub runs: Vec<PageRunV1>,
}

/// A range of guest-physical addresses, in bytes.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamRangeV1 {
    /// First byte.
    pub start: u64,
    /// Just past the last byte.
    pub end: u64,
}

/// Consecutive pages in one state.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRunV1 {
    /// Frame number of the first page: its address divided by 4096.
    pub gfn: u64,
    /// How many pages.
    pub count: u32,
    /// Their state.
    pub state: PageStateV1,
}

/// Where a page's bytes are.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageStateV1 {
    /// All its bytes are zero.
    Zero,
    /// The first page of the run is the stored page of this number, the next one the next, and so on.
    Stored(u32),
    /// Not kept.
    LeftOut(LeftOutV1),
}

/// Why a page was not kept.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeftOutV1 {
    /// It is the guest channel's.
    Channel,
    /// The kernel has it on a free list.
    Free,
    /// It caches a file.
    PageCache,
    /// It is mapped into user space only.
    User,
    /// It could not be read.
    Unreadable,
}

archived_body!(CheckpointV1, Checkpoint, 1);

/// A checkpoint, as [`CheckpointV1`], with more reasons to leave a page out.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct CheckpointV2 {
    /// Position among the trace's checkpoints, from 0.
    pub index: u32,
    /// The earlier checkpoint that this table lies over; `None`: a full table.
    pub parent: Option<u32>,
    /// The sample that was taken with it.
    pub sample: Option<u32>,
    /// Guest `CLOCK_MONOTONIC` in ns, estimated from the last clock record.
    pub guest_ns: u64,
    /// Host time since the recording began, in ns.
    pub host_ns: u64,
    /// Where the guest has RAM, ascending and disjoint.
    pub ram: Vec<RamRangeV1>,
    /// What became of the pages.
    pub runs: Vec<PageRunV2>,
}

/// Consecutive pages in one state.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRunV2 {
    /// Frame number of the first page: its address divided by 4096.
    pub gfn: u64,
    /// How many pages.
    pub count: u32,
    /// Their state.
    pub state: PageStateV2,
}

/// Where a page's bytes are.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageStateV2 {
    /// All its bytes are zero.
    Zero,
    /// The first page of the run is the stored page of this number, the next one the next, and so on.
    Stored(u32),
    /// Not kept.
    LeftOut(LeftOutV2),
}

/// Why a page was not kept.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeftOutV2 {
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
}

impl LeftOutV2 {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::Free,
        Self::PageCache,
        Self::User,
        Self::KernelText,
        Self::KernelTypes,
        Self::KernelSymbols,
        Self::Channel,
        Self::Unreadable,
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
        }
    }
}

impl From<LeftOutV1> for LeftOutV2 {
    fn from(why: LeftOutV1) -> Self {
        match why {
            LeftOutV1::Channel => Self::Channel,
            LeftOutV1::Free => Self::Free,
            LeftOutV1::PageCache => Self::PageCache,
            LeftOutV1::User => Self::User,
            LeftOutV1::Unreadable => Self::Unreadable,
        }
    }
}

impl From<PageRunV1> for PageRunV2 {
    fn from(run: PageRunV1) -> Self {
        let state = match run.state {
            PageStateV1::Zero => PageStateV2::Zero,
            PageStateV1::Stored(number) => PageStateV2::Stored(number),
            PageStateV1::LeftOut(why) => PageStateV2::LeftOut(why.into()),
        };
        Self { gfn: run.gfn, count: run.count, state }
    }
}

impl From<CheckpointV1> for CheckpointV2 {
    fn from(old: CheckpointV1) -> Self {
        let CheckpointV1 { index, parent, sample, guest_ns, host_ns, ram, runs } = old;
        Self {
            index,
            parent,
            sample,
            guest_ns,
            host_ns,
            ram,
            runs: runs.into_iter().map(PageRunV2::from).collect(),
        }
    }
}

impl Body for CheckpointV2 {
    const KIND: Kind = Kind::Checkpoint;
    const VERSION: u16 = 2;

    fn encode(&self) -> Result<AlignedVec, BodyError> {
        archive(self)
    }

    fn decode(version: u16, bytes: &[u8]) -> Result<Self, BodyError> {
        match version {
            1 => CheckpointV1::decode(version, bytes).map(Self::from),
            2 => unarchive(bytes),
            found => Err(BodyError::Version { found, known: Self::VERSION }),
        }
    }
}

/// The current checkpoint.
pub type Checkpoint = CheckpointV2;
/// The current RAM range.
pub type RamRange = RamRangeV1;
/// The current run of pages.
pub type PageRun = PageRunV2;
/// The current state of pages.
pub type PageState = PageStateV2;
/// The current reason for leaving a page out.
pub type LeftOut = LeftOutV2;
