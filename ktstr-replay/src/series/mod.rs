//! Values over a run: columns of what each sample had, and the series of samples that they come from.

mod builder;
mod column;
mod scalar;

pub use column::{Absent, Column, Point};
