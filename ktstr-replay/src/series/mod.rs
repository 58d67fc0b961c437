//! Values over a run: the samples of a trace, series of them, and columns of what each sample had.
//!
//! [`Trace::periodic`](crate::trace::Trace::periodic) and its siblings give a [`Series`]; [`Series::var`] and the
//! others give a [`Column`], which claims are about.

mod column;
mod kernel;
mod map;
mod of_trace;
mod read;
mod samples;
mod selection;

pub use column::{Absent, Column, Point};
pub use map::{SeriesEntry, SeriesMap};
pub use samples::Samples;
pub(crate) use samples::origin_ns;
pub use selection::Series;
