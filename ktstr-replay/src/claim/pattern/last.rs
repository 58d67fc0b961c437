//! `final(x >= 100)`.

use std::fmt;

use crate::claim::{Judgement, Offender, PatternInfo, Predicate};
use crate::path::parse::Parser;
use crate::path::{Projection, SyntaxError};
use crate::series::Column;
use crate::verdict::Outcome;

/// A bound holds at the last sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Final {
    /// What is bounded, and by what.
    pub predicate: Predicate,
}

impl Final {
    pub(in crate::claim) const INFO: PatternInfo = PatternInfo {
        name: "final",
        example: "final(nr_dispatched >= 100)",
        holds: "it is true at the last sample",
    };

    pub(in crate::claim) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let predicate = Predicate::parse(p)?;
        p.named_args("final", &[], |_, _| Ok(()))?;
        Ok(Self { predicate })
    }

    pub(in crate::claim) fn projections(&self) -> Vec<&Projection> {
        vec![&self.predicate.of]
    }

    /// A last sample without a value fails; the one before it does not stand in for it.
    pub(in crate::claim) fn judge(&self, columns: &[&Column]) -> Judgement {
        let points = &columns[0].points;
        let Some(last) = points.last() else { return Judgement::inconclusive("there are no samples") };
        let at = points.len() - 1;
        let why = match &last.value {
            Ok(value) if self.predicate.holds(*value) => {
                return Judgement::new(Outcome::Pass, format!("{value} at {}", last.tag));
            }
            Ok(value) => self.predicate.why_not(*value),
            Err(_) => "no value".to_owned(),
        };
        Judgement::broken(vec![Offender::new(at, why)], "it is not so at the last sample")
    }
}

impl fmt::Display for Final {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "final({})", self.predicate)
    }
}

#[cfg(test)]
mod tests {
    use crate::claim::pattern::fixture::{at, column, floats, ints, judge, missed};
    use crate::verdict::Outcome::{Fail, Inconclusive, Pass};

    #[test]
    fn only_the_last_sample_counts() {
        assert_eq!(judge("final(x >= 100)", &[&ints(&[0, 0, 100])]).outcome, Pass);
        let judged = judge("final(x >= 100)", &[&ints(&[100, 100, 99])]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![2]));
    }

    #[test]
    fn a_missing_last_sample_fails() {
        let judged = judge("final(x >= 100)", &[&column([Ok(100.into()), missed()])]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![1]));
    }

    #[test]
    fn no_samples_are_inconclusive_and_nan_fails_by_name() {
        assert_eq!(judge("final(x >= 100)", &[&ints(&[])]).outcome, Inconclusive);
        let judged = judge("final(x >= 100)", &[&floats(&[f64::NAN])]);
        assert_eq!((judged.outcome, judged.offenders[0].why.as_str()), (Fail, "is NaN"));
    }
}
