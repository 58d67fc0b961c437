//! A column: one projection of each sample of a series.

use std::fmt;

use crate::path::Projection;

use crate::units::GuestNs;
use crate::value::Scalar;

/// One projection of each sample of a series, in the order in which they were taken.
#[derive(Clone, Debug)]
pub struct Column {
    /// What was read.
    pub projection: Projection,
    /// Guest time at which the test's body began, in ns: what `after` and `by` of a claim count from.
    pub origin_ns: GuestNs,
    /// The values.
    pub points: Vec<Point>,
}

/// One sample's value.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Position of the sample in the trace.
    pub sample: u32,
    /// The sample's tag.
    pub tag: String,
    /// Guest time, in ns.
    pub at_ns: GuestNs,
    /// Index of the scenario's phase, if one was on.
    pub phase: Option<u32>,
    /// The value, or why there is none.
    pub value: Result<Scalar, Absent>,
}

/// Why a sample has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The capture was due and could not be taken.
    Missed(String),
    /// The capture is there, but what was asked for is not in it.
    Unreadable(String),
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missed(why) => write!(f, "missed: {why}"),
            Self::Unreadable(why) => f.write_str(why),
        }
    }
}

impl Column {
    /// Guest time of a point since the test's body began, in ns; negative before it.
    pub fn since_start_ns(&self, point: &Point) -> i64 {
        point.at_ns.since(self.origin_ns)
    }

    /// The points that have a value, with their positions.
    pub fn usable(&self) -> impl Iterator<Item = (usize, &Point, Scalar)> {
        self.points.iter().enumerate().filter_map(|(i, p)| p.value.as_ref().ok().map(|v| (i, p, *v)))
    }

    /// How many points have no value.
    pub fn missing(&self) -> usize {
        self.points.iter().filter(|p| p.value.is_err()).count()
    }
}
