//! Values over a run: the samples of a trace, series of samples, and columns with one value of each sample.
//!
//! [`Trace::periodic`](crate::trace::Trace::periodic) and its siblings give a [`Series`]; [`Series::var`] and the
//! others give a [`Column`], which claims are about.

mod column;
mod memory;
mod payloads;
mod read;
mod samples;
mod selection;
mod watches;

pub use column::{Absent, Column, Point};
pub use samples::Samples;
pub use selection::{Series, SeriesEntry, SeriesMap};
