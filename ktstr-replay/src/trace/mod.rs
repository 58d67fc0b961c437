//! The trace file: writing it, reading it, and telling what is wrong with one.
//!
//! A trace is a sequence of records. A record is a zstd *skippable* frame that holds its header, and one standard
//! zstd frame that holds its body; so `zstd -t` tests a trace, and `zstd -d` gives the bodies, one after the other.
//!
//! ```text
//! trace  = record* [ index tail ]              index and tail are there when the recorder finished
//! record = header                              128 bytes, see `header`
//!          zstd frame                          content size and checksum on; the body
//! index  = a record: place and header of all   body: see `record::index`
//! tail   = 56 bytes, see `header`              says where the index is
//!
//! manifest commit (blob | events | sample | page-chunk* checkpoint | claim | loss | clock | verdict | commit)*
//! ```
//!
//! A trace is append-only, and open to readers at every moment: what was appended before the last commit mark is
//! there. `docs/trace-format.md` says enough to write a reader in another language.

mod append;
mod body;
mod checkpoint;
mod error;
mod file;
mod format;
mod host_gap;
pub(crate) mod header;
mod input;
mod kind;
mod locate;
mod memory;
mod reader;
pub mod record;
mod repair;
pub(crate) mod table;
mod unfinished;
mod verify;
pub(crate) mod writer;

pub use append::{AppendError, append_segment};
pub use body::{Body, BodyError};
pub use checkpoint::{CaptureBase, CapturedCheckpoint, PageBatch};
pub use error::{Fault, FaultKind, TraceError, WriteError};
pub use format::{FormatStamp, FormatVersion, Release, TooNew};
pub use host_gap::HostGap;
pub use kind::Kind;
pub use memory::{CheckpointMemory, LeftOutPages};
pub use reader::{AfterEnd, CheckpointInfo, Completeness, Trace};
pub use repair::{RepairError, Repaired, repair};
pub use unfinished::{folder_of, unfinished_folder, unfinished_suffix};
pub(crate) use unfinished::{part_name, place};
pub use verify::Verification;
pub use writer::{Durability, TraceWriter, WriterOptions};
