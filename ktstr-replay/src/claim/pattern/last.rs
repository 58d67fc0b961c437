//! `final(x >= 100)`.

use crate::claim::{Judgement, Offender, Predicate};
use crate::series::Column;
use crate::verdict::Outcome;

one_operand! {
    /// A bound holds at the last sample.
    Final, "final", "final(nr_dispatched >= 100)", "it is true at the last sample";
    /// What is bounded, and by what.
    predicate: Predicate = Predicate::parse, reads predicate.of;
    |this, column| at_the_last(&this.predicate, column)
}

/// A last sample without a value fails; the one before it does not stand in for it.
fn at_the_last(predicate: &Predicate, column: &Column) -> Judgement {
    let Some((at, last)) = column.points.iter().enumerate().last() else {
        return Judgement::inconclusive("there are no samples");
    };
    let why = match &last.value {
        Ok(value) if predicate.holds(*value) => {
            return Judgement::new(Outcome::Pass, format!("{value} at {}", last.tag));
        }
        Ok(value) => predicate.why_not(*value),
        Err(_) => "no value".to_owned(),
    };
    Judgement::broken(vec![Offender::new(at, why)], "it is not so at the last sample")
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
