//! `always(alive)`.

use std::fmt;

use crate::claim::{Judgement, PatternInfo, Predicate, samples};
use crate::path::parse::Parser;
use crate::path::{Projection, SyntaxError};
use crate::series::Column;
use crate::verdict::Outcome;

use super::violations;

/// Something is true at every sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Always {
    /// What is true.
    pub predicate: Predicate,
}

impl Always {
    pub(in crate::claim) const INFO: PatternInfo =
        PatternInfo { name: "always", example: "always(alive)", holds: "it is true at every sample" };

    pub(in crate::claim) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let predicate = Predicate::parse(p)?;
        p.named_args("always", &[], |_, _| Ok(()))?;
        Ok(Self { predicate })
    }

    pub(in crate::claim) fn projections(&self) -> Vec<&Projection> {
        vec![&self.predicate.of]
    }

    /// A missing sample fails: nobody knows whether it was true then.
    pub(in crate::claim) fn judge(&self, columns: &[&Column]) -> Judgement {
        let offenders = violations(&self.predicate, columns[0]);
        let all = samples(columns[0].points.len());
        if offenders.is_empty() {
            return Judgement::new(Outcome::Pass, format!("true at {all}"));
        }
        let found = format!("not so at {} of {all}", offenders.len());
        Judgement::broken(offenders, found)
    }
}

impl fmt::Display for Always {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "always({})", self.predicate)
    }
}

#[cfg(test)]
mod tests {
    use crate::claim::pattern::fixture::{at, column, floats, ints, judge, missed};
    use crate::verdict::Outcome::{Fail, Inconclusive, Pass};

    #[test]
    fn a_bare_projection_is_true_when_it_is_not_zero() {
        let alive = column([Ok(true.into()), Ok(true.into())]);
        assert_eq!(judge("always(alive)", &[&alive]).outcome, Pass);
        let dies = column([Ok(true.into()), Ok(false.into())]);
        let judged = judge("always(alive)", &[&dies]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![1]));
        assert_eq!(judge("always(x)", &[&ints(&[3, -1])]).outcome, Pass);
        assert_eq!(judge("always(x)", &[&floats(&[f64::NAN])]).outcome, Fail);
    }

    #[test]
    fn a_missing_sample_fails() {
        let judged = judge("always(x >= 1)", &[&column([Ok(1.into()), missed(), Ok(1.into())])]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![1]));
    }

    #[test]
    fn no_samples_are_inconclusive() {
        assert_eq!(judge("always(alive)", &[&ints(&[])]).outcome, Inconclusive);
    }
}
