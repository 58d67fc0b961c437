//! The patterns, one file each.
//!
//! A file has the pattern's data, its text (parse and print), its judgement and its tests. Shared rules: a
//! missing sample is one without a value; NaN satisfies nothing and is named; times of a claim count from the
//! beginning of the test's body.

/// A pattern of one operand and no arguments, `name(operand)`: its data, its text and its dispatch.
macro_rules! one_operand {
    (
        $(#[$doc:meta])* $name:ident, $text:literal, $example:literal, $holds:literal;
        $(#[$field_doc:meta])* $field:ident: $of:ty = $parse:path, reads $($reads:ident).+;
        $judge:expr
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(#[$field_doc])*
            pub $field: $of,
        }

        impl $name {
            pub(in crate::claim) const INFO: $crate::claim::PatternInfo =
                $crate::claim::PatternInfo { name: $text, example: $example, holds: $holds };

            pub(in crate::claim) fn parse(
                p: &mut $crate::path::parse::Parser<'_>,
            ) -> Result<Self, $crate::path::SyntaxError> {
                let $field = $parse(p)?;
                p.named_args($text, &[], |_, _| Ok(()))?;
                Ok(Self { $field })
            }

            pub(in crate::claim) fn projections(&self) -> Vec<&$crate::path::Projection> {
                vec![&self.$($reads).+]
            }

            pub(in crate::claim) fn judge(&self, columns: &[&Column]) -> Judgement {
                let judge: fn(&Self, &Column) -> Judgement = $judge;
                judge(self, columns[0])
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($text, "({})"), self.$field)
            }
        }
    };
}

mod always;
mod converges;
mod count_of;
mod deadline;
mod eventually;
mod events;
mod happens;
mod last;
mod never;
mod never_happens;
mod ordered;
mod percentile;
mod phase_ratio;
mod rate;
mod ratio;
mod steady;
mod within;
mod wrapping;

pub use always::{Always, Each};
pub use converges::Converges;
pub use count_of::CountOf;
pub use eventually::Eventually;
pub use happens::Happens;
pub use last::Final;
pub use never::Never;
pub use never_happens::NeverHappens;
pub use ordered::{Nondecreasing, StrictlyIncreasing};
pub use percentile::Percentile;
pub use phase_ratio::PhaseRatio;
pub use rate::{Rate, TimeUnit};
pub use ratio::Ratio;
pub use steady::Steady;
pub use within::{Operand, Within};
pub use wrapping::Wrapping;

#[cfg(test)]
pub(crate) use events::fixture as events_fixture;

use super::samples;
use crate::series::{Column, Point};
use crate::text::SpanNs;

/// Whether a point is of a time up to `by` since the body began. A sample at the very time counts.
fn in_time(column: &Column, point: &Point, by: SpanNs) -> bool {
    let ns = column.since_start_ns(point);
    u64::try_from(ns).map_or(ns < 0, |ns| ns <= by.0)
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
    use crate::units::GuestNs;
    use crate::value::Scalar;

    /// When the body of the tests' runs began.
    pub const ORIGIN_NS: GuestNs = GuestNs(2_000_000_000);

    /// A missed capture.
    pub fn missed() -> Result<Scalar, Absent> {
        Err(Absent::Missed("the machine did not stop in time".to_owned()))
    }

    /// A capture without the variable.
    pub fn unreadable() -> Result<Scalar, Absent> {
        Err(Absent::Unreadable("no variable is called `x`; did you mean `y`?".to_owned()))
    }

    /// A column of one sample a second, the first one second after the body began.
    pub fn column(values: impl IntoIterator<Item = Result<Scalar, Absent>>) -> Column {
        let points = values.into_iter().enumerate().map(|(i, value)| Point {
            sample: i as u32,
            tag: format!("periodic_{i:03}"),
            at_ns: ORIGIN_NS.saturating_add((i as u64 + 1) * 1_000_000_000),
            phase: None,
            value,
        });
        let projection = Projection::Var(FieldPath::of_name("x"));
        Column { projection, origin_ns: ORIGIN_NS, points: points.collect(), bits: 64 }
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
