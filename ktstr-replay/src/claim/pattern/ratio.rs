//! `ratio(x, y) in 0.4..0.6`.

use std::fmt;

use crate::claim::{Judgement, Offender, PatternInfo, samples};
use crate::path::parse::Parser;
use crate::path::{Bound, Number, Projection, SyntaxError};
use crate::series::Column;
use crate::verdict::Outcome;

use super::note_missing;

/// One column over another is in bounds at every sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// The numerator.
    pub of: Projection,
    /// The denominator.
    pub over: Projection,
    /// What the quotient is held against.
    pub bound: Bound,
}

impl Ratio {
    pub(in crate::claim) const INFO: PatternInfo = PatternInfo {
        name: "ratio",
        example: "ratio(nr_local, nr_dispatched) in 0.4..0.6",
        holds: "the quotient is in bounds at every sample",
    };

    pub(in crate::claim) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let of = Projection::parse(p)?;
        p.expect(",")?;
        let over = Projection::parse(p)?;
        p.named_args("ratio", &[], |_, _| Ok(()))?;
        Ok(Self { of, over, bound: p.bound()? })
    }

    pub(in crate::claim) fn projections(&self) -> Vec<&Projection> {
        vec![&self.of, &self.over]
    }

    /// A sample without either value is skipped; one whose denominator is zero has no quotient: inconclusive.
    pub(in crate::claim) fn judge(&self, columns: &[&Column]) -> Judgement {
        let (mut missing, mut zero, mut judged) = (0, 0, 0);
        let mut offenders = Vec::new();
        for (at, (x, y)) in columns[0].points.iter().zip(&columns[1].points).enumerate() {
            let (Ok(x), Ok(y)) = (&x.value, &y.value) else {
                missing += 1;
                continue;
            };
            if y.to_f64() == 0.0 {
                zero += 1;
                continue;
            }
            judged += 1;
            let quotient = x.to_f64() / y.to_f64();
            if !self.bound.holds(Number::Float(quotient)) {
                offenders.push(Offender::new(at, format!("{x} / {y} = {quotient:.3}")));
            }
        }
        let mut notes = note_missing(missing, "skipped");
        if zero > 0 {
            notes.push(format!("`{}` is zero in {}", self.over, samples(zero)));
        }
        let found = format!("{} of {} not {}", offenders.len(), samples(judged), self.bound);
        match (judged, zero) {
            _ if !offenders.is_empty() => Judgement::broken(offenders, found),
            (_, 1..) => Judgement::inconclusive("there is no quotient by zero"),
            (0, _) => Judgement::inconclusive("no sample has both values"),
            _ => Judgement::new(Outcome::Pass, format!("{} {}", samples(judged), self.bound)),
        }
        .noting(notes)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ratio({}, {}) {}", self.of, self.over, self.bound)
    }
}

#[cfg(test)]
mod tests {
    use crate::claim::pattern::fixture::{at, column, floats, ints, judge, missed};
    use crate::verdict::Outcome::{Fail, Inconclusive, Pass};

    const CLAIM: &str = "ratio(x, y) in 0.4..0.6";

    #[test]
    fn the_sample_whose_quotient_is_off_is_named() {
        assert_eq!(judge(CLAIM, &[&ints(&[5, 50]), &ints(&[10, 100])]).outcome, Pass);
        let judged = judge(CLAIM, &[&ints(&[5, 90]), &ints(&[10, 100])]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![1]));
        assert_eq!(judged.offenders[0].why, "90 / 100 = 0.900");
    }

    #[test]
    fn samples_without_either_value_are_skipped_and_noted() {
        let x = column([missed(), Ok(5.into()), Ok(5.into())]);
        let y = column([Ok(1.into()), missed(), Ok(10.into())]);
        let judged = judge(CLAIM, &[&x, &y]);
        assert_eq!(judged.outcome, Pass);
        assert_eq!(judged.notes, ["2 samples without a value: skipped"]);
        let none = column([missed(), Ok(5.into()), missed()]);
        assert_eq!(judge(CLAIM, &[&none, &y]).outcome, Inconclusive);
    }

    #[test]
    fn a_zero_denominator_is_inconclusive_unless_another_sample_fails() {
        assert_eq!(judge(CLAIM, &[&ints(&[5, 5]), &ints(&[10, 0])]).outcome, Inconclusive);
        assert_eq!(judge(CLAIM, &[&ints(&[9, 5]), &ints(&[10, 0])]).outcome, Fail);
    }

    #[test]
    fn nan_fails() {
        assert_eq!(judge(CLAIM, &[&floats(&[f64::NAN]), &ints(&[10])]).outcome, Fail);
    }

    #[test]
    fn columns_of_different_samples_are_not_divided() {
        assert_eq!(judge(CLAIM, &[&ints(&[5, 5]), &ints(&[10])]).outcome, Fail);
    }
}
