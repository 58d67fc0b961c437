//! `each(x >= 1)`, `each(x in 0..100)`.

use std::fmt;

use crate::claim::{Judgement, PatternInfo, Predicate, samples};
use crate::path::parse::Parser;
use crate::path::{Projection, SyntaxError};
use crate::series::Column;
use crate::verdict::Outcome;

use super::violations;

/// A bound holds at every sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Each {
    /// What is bounded, and by what.
    pub predicate: Predicate,
}

impl Each {
    pub(in crate::claim) const INFO: PatternInfo = PatternInfo {
        name: "each",
        example: "each(nr_running in 0..100)",
        holds: "the bound holds at every sample",
    };

    pub(in crate::claim) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let predicate = Predicate::parse_bounded(p)?;
        p.named_args("each", &[], |_, _| Ok(()))?;
        Ok(Self { predicate })
    }

    pub(in crate::claim) fn projections(&self) -> Vec<&Projection> {
        vec![&self.predicate.of]
    }

    /// A missing sample fails, and so does NaN, by name.
    pub(in crate::claim) fn judge(&self, columns: &[&Column]) -> Judgement {
        let offenders = violations(&self.predicate, columns[0]);
        let all = samples(columns[0].points.len());
        if offenders.is_empty() {
            return Judgement::new(Outcome::Pass, format!("the bound holds at {all}"));
        }
        let found = format!("the bound does not hold at {} of {all}", offenders.len());
        Judgement::broken(offenders, found)
    }
}

impl fmt::Display for Each {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "each({})", self.predicate)
    }
}

#[cfg(test)]
mod tests {
    use crate::claim::pattern::fixture::{at, column, floats, ints, judge, missed, unreadable};
    use crate::verdict::Outcome::{Fail, Inconclusive, Pass};

    #[test]
    fn samples_out_of_bounds_are_named() {
        let judged = judge("each(x in 0..100)", &[&ints(&[0, 99, 100, -1])]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![2, 3]));
        assert_eq!(judged.offenders[0].why, "not in 0..100");
        assert_eq!(judge("each(x in 0..=100)", &[&ints(&[0, 100])]).outcome, Pass);
    }

    #[test]
    fn a_missing_sample_fails() {
        let judged = judge("each(x >= 1)", &[&column([Ok(1.into()), missed(), unreadable()])]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![1, 2]));
    }

    #[test]
    fn nan_fails_by_name() {
        let judged = judge("each(x != 1)", &[&floats(&[f64::NAN])]);
        assert_eq!((judged.outcome, judged.offenders[0].why.as_str()), (Fail, "is NaN"));
    }

    #[test]
    fn no_samples_are_inconclusive() {
        assert_eq!(judge("each(x >= 1)", &[&ints(&[])]).outcome, Inconclusive);
    }
}
