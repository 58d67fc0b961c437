//! The bodies of a trace's records.
//!
//! A body is a frozen type: once a release has written `FooV1`, it never changes; a change is a `FooV2` and a
//! conversion from `V1`. The alias without a number is the version that the rest of the code works with.
//!
//! A reader skips a record whole when its version is newer, so what is new is better a record of its own kind than a new
//! version of a record that older readers need.

pub mod asked;
pub mod blob;
pub mod event;
pub mod history;
pub mod manifest;
pub mod memory;
pub mod payload;
pub mod probe;
pub mod sample;
pub mod scheduler_maps;
pub mod small;
pub mod thresholds;
pub mod wait;
pub mod watch;

pub use asked::Away;
pub use blob::{Blob, BlobId, BlobRole, blob_id};
pub use event::{
    Event, EventBody, EventChunk, GuestEnd, Latencies, NodePages, OutputSource, Stage, StatsAnswer,
    WorkerDetail, WorkerReport,
};
pub use history::{History, HistoryStep, HistoryTask, HistoryWhat};
pub use manifest::Manifest;
pub(crate) use memory::StoredPages;
pub use memory::{Checkpoint, PAGE_BYTES, PageChunk, PageId, PageRun, PageState, RamRange};
pub use payload::{DeclaredMetric, Metric, MetricCheck, PayloadEnd, PayloadOutput, PayloadRun, Polarity};
pub use probe::{ProbeEvent, ProbeHit, ProbeNews, ProbeReturn, ProbeTotals, ProbeValue};
pub use sample::{CaptureKind, CpuState, MapContents, MapState, Sample, ScxState, VcpuRegs};
pub use scheduler_maps::SchedulerMaps;
pub use small::{ClaimOrigin, ClaimRecord, Clock, Commit, Index, IndexEntry, Loss, LossKind, VerdictText};
pub use thresholds::Thresholds;
pub use wait::{LongWait, WaitLimit};
pub use watch::{WatchEvent, WatchFire, WatchNews, WatchTotals};
