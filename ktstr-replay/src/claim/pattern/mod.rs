//! The patterns, one file each.
//!
//! A file has the pattern's data, its text (parse and print), its judgement and its tests. Shared rules: a
//! missing sample is one without a value; NaN satisfies nothing and is named; times of a claim count from the
//! beginning of the test's body.

mod always;
mod converges;
mod each;
mod eventually;
mod last;
mod never;
mod ordered;
mod phase_ratio;
mod rate;
mod ratio;
mod steady;

pub use always::Always;
pub use converges::Converges;
pub use each::Each;
pub use eventually::Eventually;
pub use last::Final;
pub use never::Never;
pub use ordered::{Nondecreasing, StrictlyIncreasing};
pub use phase_ratio::PhaseRatio;
pub use rate::{Rate, TimeUnit};
pub use ratio::Ratio;
pub use steady::Steady;

use super::{Offender, Predicate, samples};
use crate::series::Column;

/// The points of `column` where `predicate` is false or that have no value, and how many there were.
fn violations(predicate: &Predicate, column: &Column) -> Vec<Offender> {
    let mut offenders = Vec::new();
    for (at, point) in column.points.iter().enumerate() {
        match &point.value {
            Ok(value) if predicate.holds(*value) => {}
            Ok(value) => offenders.push(Offender::new(at, predicate.why_not(*value))),
            Err(_) => offenders.push(Offender::new(at, "no value")),
        }
    }
    offenders
}

/// A note about samples that were left out, if there were any.
fn note_missing(missing: usize, what_became: &str) -> Vec<String> {
    if missing == 0 {
        Vec::new()
    } else {
        vec![format!("{} without a value: {what_became}", samples(missing))]
    }
}

#[cfg(test)]
pub(crate) mod fixture {
    //! Columns for the patterns' tests.

    use crate::claim::{Claim, Judgement};
    use crate::path::{FieldPath, Projection};
    use crate::series::{Absent, Column, Point};
    use crate::value::Scalar;

    /// When the body of the tests' runs began.
    pub const ORIGIN_NS: u64 = 2_000_000_000;

    /// A missed capture.
    pub fn missed() -> Result<Scalar, Absent> {
        Err(Absent::Missed("the machine did not stop in time".to_owned()))
    }

    /// A capture that has no such thing.
    pub fn unreadable() -> Result<Scalar, Absent> {
        Err(Absent::Unreadable("no variable is called `x`; did you mean `y`?".to_owned()))
    }

    /// A column of one sample a second, the first one second after the body began.
    pub fn column(values: impl IntoIterator<Item = Result<Scalar, Absent>>) -> Column {
        let points = values.into_iter().enumerate().map(|(i, value)| Point {
            sample: i as u32,
            tag: format!("periodic_{i:03}"),
            at_ns: ORIGIN_NS + (i as u64 + 1) * 1_000_000_000,
            phase: None,
            value,
        });
        let projection = Projection::Var(FieldPath::of_name("x"));
        Column { projection, origin_ns: ORIGIN_NS, points: points.collect() }
    }

    /// Whole numbers, none missing.
    pub fn ints(values: &[i64]) -> Column {
        column(values.iter().map(|v| Ok(Scalar::from(*v))))
    }

    /// Floats, none missing.
    pub fn floats(values: &[f64]) -> Column {
        column(values.iter().map(|v| Ok(Scalar::from(*v))))
    }

    /// Judge a claim, by text, over one column for each of its projections.
    pub fn judge(text: &str, columns: &[&Column]) -> Judgement {
        let claim: Claim = text.parse().expect("the test's claim parses");
        assert_eq!(claim.to_string(), text, "the text form is the one that prints");
        claim.judge(columns)
    }

    /// Positions of the offenders.
    pub fn at(judgement: &Judgement) -> Vec<usize> {
        judgement.offenders.iter().map(|o| o.at).collect()
    }
}
