//! A column: one projection of each sample of a series.

use std::collections::HashMap;
use std::fmt;

use crate::path::Projection;
use crate::units::GuestNs;
use crate::value::Scalar;

/// One projection of each sample of a series, in the order in which they were taken.
///
/// Each pattern of claims is a method of it, and what no pattern says is computed of its points.
///
/// ```
/// use ktstr_replay::claim::pattern::TimeUnit;
/// use ktstr_replay::trace::Trace;
/// use ktstr_replay::verdict::Verdict;
/// use std::time::Duration;
///
/// let trace = Trace::open("../traces/steady.trace.zst".as_ref())?;
/// let periodic = trace.periodic();
/// let (enqueued, dispatched) = (periodic.var("nr_enqueued"), periodic.var("nr_dispatched"));
/// let mut v = Verdict::new();
/// dispatched.strictly_increasing(&mut v);
/// dispatched.wrapping_nondecreasing(&mut v);
/// dispatched.rate(1.0.., TimeUnit::S, &mut v);
/// dispatched.eventually(1.., Some(Duration::from_secs(60)), &mut v);
/// dispatched.final_(1.., &mut v).because("somebody ran");
/// enqueued.ratio(&dispatched, 0.0..=2.0, &mut v);
/// periodic.alive().converges(1, 0, Duration::from_secs(60), &mut v);
/// // Of a trace with two phases, and of one with a history of events:
/// dispatched.phase_ratio(0, 1, ..=1.5, &mut v);
/// dispatched.within(1.., Duration::from_millis(50), "event(sched_switch)", &trace.timeline(), &mut v);
///
/// let values: Vec<_> = dispatched.usable().map(|(_, point, value)| (dispatched.since_start_ns(point), value)).collect();
/// assert!(values.is_sorted_by_key(|(at_ns, _)| *at_ns) && dispatched.missing() == 0);
///
/// // A misspelt name is an error at each capture.
/// let misspelt = periodic.var("nr_dispached");
/// assert_eq!(misspelt.missing(), misspelt.points.len());
/// assert!(misspelt.why_never().is_some_and(|why| why.reason().contains("nr_dispatched")));
/// # Ok::<(), ktstr_replay::trace::TraceError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Column {
    /// What was read.
    pub projection: Projection,
    /// Guest time at which the test's body began, in ns: what `after` and `by` of a claim count from.
    pub origin_ns: GuestNs,
    /// The values.
    pub points: Vec<Point>,
    /// How wide the numbers are where they were read, in bits; at most 64. A counter of that width wraps.
    pub bits: u32,
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Absent {
    /// The capture was due and could not be taken.
    Missed(String),
    /// The capture is there, and the kernel's memory, where it would have been read, was not kept with it.
    NoMemory(String),
    /// The capture is there, but what was asked for is not in it.
    Unreadable(String),
    /// What was asked for is there, and is no number.
    NotANumber(String),
    /// The capture is there, and what the scheduler should have told after it did not come.
    Unanswered(String),
}

impl Absent {
    /// The reason alone.
    pub fn reason(&self) -> &str {
        match self {
            Self::Missed(why)
            | Self::NoMemory(why)
            | Self::Unreadable(why)
            | Self::NotANumber(why)
            | Self::Unanswered(why) => why,
        }
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missed(why) => write!(f, "missed: {why}"),
            Self::NoMemory(why) | Self::Unanswered(why) => write!(f, "missing: {why}"),
            Self::Unreadable(why) | Self::NotANumber(why) => f.write_str(why),
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

    /// Why there is no value, of a column that has none at all: the reason that most captures have, of several the last one's, as
    /// by then the most has happened. What could not be read says more than memory that was not kept or an answer that did not come, and both
    /// more than what was missed. `None` for captures that were all missed.
    pub fn why_never(&self) -> Option<&Absent> {
        let errors = || self.points.iter().filter_map(|p| p.value.as_ref().err());
        let mut counts: HashMap<&Absent, usize> = HashMap::new();
        errors().for_each(|why| *counts.entry(why).or_default() += 1);
        let rank = |why: &Absent| match why {
            Absent::Unreadable(_) | Absent::NotANumber(_) => 2,
            Absent::NoMemory(_) | Absent::Unanswered(_) => 1,
            Absent::Missed(_) => 0,
        };
        let best = errors().max_by_key(|why| (rank(why), counts.get(why)))?;
        Some(best).filter(|why| rank(why) > 0)
    }

    /// How many points have no value.
    pub fn missing(&self) -> usize {
        self.points.iter().filter(|p| p.value.is_err()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::pattern::fixture::{column, missed};

    #[test]
    fn a_column_without_a_value_says_the_reason_of_most_captures() {
        let unreadable = |why: &str| Err(Absent::Unreadable(why.to_owned()));
        let lost = || Err(Absent::NoMemory("no checkpoint".to_owned()));
        let why = |values: Vec<Result<Scalar, Absent>>| {
            column(values).why_never().map(|why| why.reason().to_owned())
        };
        let (no, gone) = ("it is not a number", "there is no such variable");
        // The last capture may be of a scheduler that is gone, or have no memory, or be missed.
        assert_eq!(why(vec![unreadable(no), unreadable(no), unreadable(gone)]).as_deref(), Some(no));
        assert_eq!(why(vec![unreadable(no), lost(), lost(), missed()]).as_deref(), Some(no));
        assert_eq!(why(vec![unreadable(gone), unreadable(no)]).as_deref(), Some(no));
        assert_eq!(why(vec![lost(), missed()]).as_deref(), Some("no checkpoint"));
        assert_eq!(why(vec![missed()]), None);
    }
}
