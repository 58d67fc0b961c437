//! `rate(x) in 0.5..2.0 per ms`.

use std::fmt;

use crate::claim::{Judgement, Offender, PatternInfo};
use crate::path::parse::{Parser, names};
use crate::path::{Bound, Number, Projection, SyntaxError};
use crate::series::Column;
use crate::text::counted;
use crate::value::Scalar;
use crate::verdict::Outcome;

use super::note_missing;

/// The slope between each two neighbours is in bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    /// What is looked at.
    pub of: Projection,
    /// What the slope is held against.
    pub bound: Bound,
    /// The unit of time that it is for.
    pub per: TimeUnit,
}

names! {
    /// A unit of time that a rate is for.
    TimeUnit {
        /// Nanosecond.
        Ns = "ns",
        /// Microsecond.
        Us = "us",
        /// Millisecond.
        Ms = "ms",
        /// Second.
        S = "s",
        /// Minute.
        Min = "min",
    }
}

impl TimeUnit {
    /// Its length in ns.
    pub fn ns(self) -> u64 {
        match self {
            Self::Ns => 1,
            Self::Us => 1_000,
            Self::Ms => 1_000_000,
            Self::S => 1_000_000_000,
            Self::Min => 60_000_000_000,
        }
    }
}

impl Rate {
    pub(in crate::claim) const INFO: PatternInfo = PatternInfo {
        name: "rate",
        example: "rate(nr_dispatched) in 0.5..2.0 per ms",
        holds: "every slope between neighbouring samples is in bounds",
    };

    pub(in crate::claim) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let of = Projection::parse(p)?;
        p.named_args("rate", &[], |_, _| Ok(()))?;
        let bound = p.bound()?;
        if !p.eat_word("per") {
            return Err(p.expected("`per ms` or another unit of time"));
        }
        Ok(Self { of, bound, per: p.name_of("unit of time", TimeUnit::ALL)? })
    }

    pub(in crate::claim) fn projections(&self) -> Vec<&Projection> {
        vec![&self.of]
    }

    /// A missing sample is a gap: there is no slope to it or from it.
    pub(in crate::claim) fn judge(&self, columns: &[&Column]) -> Judgement {
        let column = columns[0];
        let mut notes = note_missing(column.missing(), "there is no slope beside them");
        let (mut slopes, mut timeless) = (0, 0);
        let mut offenders = Vec::new();
        for (at, pair) in column.points.windows(2).enumerate() {
            let (Ok(before), Ok(after)) = (&pair[0].value, &pair[1].value) else { continue };
            let elapsed_ns = pair[1].at_ns.saturating_since(pair[0].at_ns);
            if elapsed_ns == 0 {
                timeless += 1;
                continue;
            }
            slopes += 1;
            let slope = difference(*after, *before) / elapsed_ns as f64 * self.per.ns() as f64;
            if !self.bound.holds(Number::Float(slope)) {
                offenders.push(Offender::new(at + 1, format!("slope {slope:.3} per {}", self.per.name())));
            }
        }
        if timeless > 0 {
            notes.push(format!("no time passed within {}", counted(timeless, "pair")));
        }
        let found = format!("{} of {} not {}", offenders.len(), counted(slopes, "slope"), self.bound);
        match (slopes, timeless) {
            _ if !offenders.is_empty() => Judgement::broken(offenders, found),
            (_, 1..) => Judgement::inconclusive("there is no slope where no time passes"),
            (0, 0) => Judgement::inconclusive("no two neighbouring samples are usable"),
            _ => Judgement::new(Outcome::Pass, format!("{} {}", counted(slopes, "slope"), self.bound)),
        }
        .noting(notes)
    }
}

/// `a - b`, exact for whole numbers before it is rounded.
fn difference(a: Scalar, b: Scalar) -> f64 {
    match (Number::from(a), Number::from(b)) {
        (Number::Int(a), Number::Int(b)) => a.saturating_sub(b) as f64,
        (a, b) => a.as_f64() - b.as_f64(),
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rate({}) {} per {}", self.of, self.bound, self.per.name())
    }
}

#[cfg(test)]
mod tests {
    use crate::claim::pattern::fixture::{at, column, floats, ints, judge, missed};
    use crate::units::GuestNs;
    use crate::verdict::Outcome::{Fail, Inconclusive, Pass};

    #[test]
    fn slopes_are_per_the_unit_that_is_named() {
        // The fixture takes a sample a second.
        let column = ints(&[0, 1000, 2000]);
        assert_eq!(judge("rate(x) in 0.5..2.0 per ms", &[&column]).outcome, Pass);
        assert_eq!(judge("rate(x) == 1000 per s", &[&column]).outcome, Pass);
        assert_eq!(judge("rate(x) == 1000 per ms", &[&column]).outcome, Fail);
    }

    #[test]
    fn the_end_of_a_slope_out_of_bounds_is_named() {
        let judged = judge("rate(x) in 5..=15 per s", &[&ints(&[0, 10, 20, 90, 100])]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![3]));
        assert_eq!(judged.offenders[0].why, "slope 70.000 per s");
    }

    #[test]
    fn a_missing_sample_is_a_gap_and_noted() {
        let column = column([Ok(0.into()), Ok(10.into()), missed(), Ok(900.into()), Ok(910.into())]);
        let judged = judge("rate(x) in 5..15 per s", &[&column]);
        assert_eq!((judged.outcome, judged.notes.len()), (Pass, 1));
    }

    #[test]
    fn no_time_between_is_inconclusive_unless_another_slope_fails() {
        let mut column = ints(&[0, 10, 20]);
        column.points[2].at_ns = column.points[1].at_ns;
        assert_eq!(judge("rate(x) in 5..15 per s", &[&column]).outcome, Inconclusive);
        assert_eq!(judge("rate(x) in 50..60 per s", &[&column]).outcome, Fail);
    }

    #[test]
    fn time_that_runs_backwards_is_no_time() {
        let mut column = ints(&[0, 10]);
        column.points[1].at_ns = GuestNs(0);
        assert_eq!(judge("rate(x) in 5..15 per s", &[&column]).outcome, Inconclusive);
    }

    #[test]
    fn one_sample_is_inconclusive_and_nan_fails() {
        assert_eq!(judge("rate(x) >= 0 per s", &[&ints(&[3])]).outcome, Inconclusive);
        let judged = judge("rate(x) >= 0 per s", &[&floats(&[1.0, f64::NAN])]);
        assert_eq!(judged.outcome, Fail);
        assert_eq!(judged.offenders[0].why, "slope NaN per s");
    }
}
