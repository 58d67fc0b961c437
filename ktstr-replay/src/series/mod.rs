//! Values over a run: the samples of a trace, series of samples, and columns with one value of each sample.
//!
//! [`Trace::periodic`](crate::trace::Trace::periodic) and its siblings give a [`Series`]; [`Series::var`] and the
//! others give a [`Column`], which claims are about.

mod at_capture;
mod column;
mod memory;
mod monitor;
mod payloads;
mod read;
mod samples;
mod selection;
mod watches;
mod workers;

pub use at_capture::SeriesCpu;
pub use column::{Absent, Column, Point};
pub use samples::Samples;
pub use selection::{Series, SeriesEntry, SeriesMap};
pub use workers::TracedWorker;
pub(crate) use workers::{ReportedWorker, reported};

pub(crate) use monitor::{
    Counters, FALLBACK, KEEP_LAST, Measure, Measured, imbalance, local_dsq, of_sample, rate,
};
