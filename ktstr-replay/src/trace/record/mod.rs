//! The bodies of a trace's records.
//!
//! A body is a frozen type: once a release has written `FooV1`, it never changes; a change is a `FooV2` and a
//! conversion from `V1`. The alias without a number is the version that the rest of the code works with.
//!
//! A reader skips a record whole when its version is newer, so what is new is better a record of its own kind than a new
//! version of a record that older readers need.

pub mod blob;
pub mod checkpoint;
pub mod event;
pub mod index;
pub mod manifest;
pub mod page;
pub mod sample;
pub mod small;
pub mod verdict;

pub use blob::{Blob, BlobId, BlobRole, blob_id};
pub use checkpoint::{Checkpoint, PageRun, PageState, RamRange};
pub use event::{Event, EventBody, EventChunk, GuestEnd, OutputSource, Stage, WorkerReport};
pub use index::{Index, IndexEntry};
pub use manifest::Manifest;
pub use page::{PAGE_BYTES, PageChunk, PageId};
pub use sample::{CaptureKind, CpuState, MapContents, MapState, Sample, ScxState, VcpuRegs};
pub use small::{Claim, ClaimOrigin, Clock, Commit, Loss, LossKind};
pub use verdict::VerdictText;
