//! What can be named in a trace, as text: `a.b[2]->c`, `map(ctrs).at(0).hits`, `rq[1].curr->pid`.
//!
//! A [`Projection`] is what is read from each sample. It has one text form, which parses and prints; claims, `--var` and the
//! accessors of a series all use it. A text that cannot be understood is a [`SyntaxError`], which points at the fault.

mod error;
mod event_path;
mod field;
mod kernel_path;
mod lex;
mod map_path;
mod number;
pub(crate) mod parse;
mod payload_path;
mod projection;
mod rows;
pub(crate) mod scheduler_path;
mod stats_path;
mod watch_path;

pub use error::{SyntaxError, SyntaxFault};
pub use event_path::{EventCondition, EventKind, EventPath, EventSource, Measure, MeasurePath, SpanBound};
pub(crate) use event_path::{FieldType, PROBE_FIELDS};
pub use field::{AsPath, FieldPath, Step};
pub(crate) use field::{Dotted, after_name, path_text};
pub use kernel_path::{KernelPath, Root, TaskKey};
pub use map_path::{EntryKey, MapPath};
pub use number::{Band, Bound, Cmp, Number};
pub use payload_path::PayloadPath;
pub use projection::{Fold, Projection, RqField, ScxField};
pub use rows::{Aggregate, CellPath, Condition, RowKey, RowsPath, TableName, Test};
pub(crate) use scheduler_path::SchedulerName;
pub use stats_path::StatsPath;
pub use watch_path::{WatchField, WatchPath};
