//! The bodies of a trace's records.
//!
//! A body is a frozen type: once a release has written `FooV1`, it never changes; a change is a `FooV2` and a
//! conversion from `V1`. The alias without a number is the version that the rest of the code works with.

pub mod blob;
pub mod event;
pub mod manifest;
pub mod sample;
pub mod small;

pub use blob::{Blob, BlobId, BlobRole};
pub use event::{Event, EventBody, GuestEnd, OutputSource, Stage, WorkerReport};
pub use manifest::Manifest;
pub use sample::{CaptureKind, CpuState, MapContents, MapState, Sample, ScxState, VcpuRegs};
pub use small::{Claim, ClaimOrigin, Clock, Loss, LossKind};
