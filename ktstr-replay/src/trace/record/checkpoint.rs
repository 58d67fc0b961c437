//! A checkpoint: which pages guest memory was made of at one moment.

use rkyv::{Archive, Deserialize, Serialize};

use crate::memory::LeftOut;
use crate::trace::body::archived_body;

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
    LeftOut(LeftOut),
}

archived_body!(CheckpointV1, Checkpoint, 1);

/// The current checkpoint.
pub type Checkpoint = CheckpointV1;
/// The current RAM range.
pub type RamRange = RamRangeV1;
/// The current run of pages.
pub type PageRun = PageRunV1;
/// The current state of pages.
pub type PageState = PageStateV1;
