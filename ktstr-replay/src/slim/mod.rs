//! Making a smaller trace of a trace. The old file is only read.
//!
//! Records are compressed anew at a high level; pages that only dropped checkpoints had, and pages that are to be left
//! out, are not carried over. What is dropped leaves a loss record, so that the report says it. Redaction has a folder of its own.

mod options;
mod read_pages;
mod redact;
mod rewrite;
mod upload;

pub use options::{Dropped, KeepCheckpoints, KeepPages, SlimError, SlimOptions};
pub use redact::{CHANNELS, Channel};
pub use rewrite::{Slimmed, slim, slim_trace};
pub use upload::{MAX_UPLOAD_BYTES, Upload, slim_for_upload};
