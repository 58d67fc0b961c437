//! `never(x > 0 while y == 0)`.

use std::fmt;

use crate::claim::{Judgement, Offender, PatternInfo, Predicate, samples};
use crate::path::parse::Parser;
use crate::path::{Number, Projection, SyntaxError};
use crate::series::Column;
use crate::verdict::Outcome;

/// Two conditions are true at no sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Never {
    /// One condition.
    pub what: Predicate,
    /// The other condition.
    pub during: Predicate,
}

impl Never {
    pub(in crate::claim) const INFO: PatternInfo = PatternInfo {
        name: "never",
        example: "never(nr_queued > 0 while nr_running == 0)",
        holds: "no sample has both",
    };

    pub(in crate::claim) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let what = Predicate::parse(p)?;
        if !p.eat_word("while") {
            return Err(p.expected("`while` and what must not be true at the same time"));
        }
        let during = Predicate::parse(p)?;
        p.named_args("never", &[], |_, _| Ok(()))?;
        Ok(Self { what, during })
    }

    pub(in crate::claim) fn projections(&self) -> Vec<&Projection> {
        vec![&self.what.of, &self.during.of]
    }

    /// A sample without either value, or with NaN in place of one, fails: what was true then is not known.
    pub(in crate::claim) fn judge(&self, columns: &[&Column]) -> Judgement {
        let mut offenders = Vec::new();
        for (at, (x, y)) in columns[0].points.iter().zip(&columns[1].points).enumerate() {
            match (&x.value, &y.value) {
                (Ok(x), Ok(y)) if Number::from(*x).is_nan() || Number::from(*y).is_nan() => {
                    offenders.push(Offender::new(at, "is NaN"))
                }
                (Ok(x), Ok(y)) if self.what.holds(*x) && self.during.holds(*y) => {
                    offenders.push(Offender::new(at, format!("while `{}` is {y}", self.during.of)));
                }
                (Ok(_), Ok(_)) => {}
                _ => offenders.push(Offender::new(at, "no value")),
            }
        }
        let all = samples(columns[0].points.len());
        if offenders.is_empty() {
            return Judgement::new(Outcome::Pass, format!("at none of {all}"));
        }
        let found = format!("broken at {} of {all}", offenders.len());
        Judgement::broken(offenders, found)
    }
}

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "never({} while {})", self.what, self.during)
    }
}

#[cfg(test)]
mod tests {
    use crate::claim::pattern::fixture::{at, column, floats, ints, judge, missed};
    use crate::verdict::Outcome::{Fail, Inconclusive, Pass};

    const CLAIM: &str = "never(x > 0 while y == 0)";

    #[test]
    fn both_at_once_fail_and_either_alone_does_not() {
        assert_eq!(judge(CLAIM, &[&ints(&[1, 0]), &ints(&[1, 0])]).outcome, Pass);
        let judged = judge(CLAIM, &[&ints(&[1, 1]), &ints(&[1, 0])]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![1]));
    }

    #[test]
    fn a_missing_sample_or_nan_fails() {
        let judged = judge(CLAIM, &[&column([Ok(0.into()), missed()]), &ints(&[1, 1])]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![1]));
        assert_eq!(judge(CLAIM, &[&floats(&[f64::NAN]), &ints(&[1])]).outcome, Fail);
    }

    #[test]
    fn no_samples_are_inconclusive() {
        assert_eq!(judge(CLAIM, &[&ints(&[]), &ints(&[])]).outcome, Inconclusive);
    }
}
