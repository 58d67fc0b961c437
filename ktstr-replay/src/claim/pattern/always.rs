//! `always(alive)`, `each(x >= 1)`, `each(x in 0..100)`: two words for one judgement.

use crate::claim::{Judgement, Offender, Predicate, samples};
use crate::series::Column;
use crate::verdict::Outcome;

one_operand! {
    /// Something is true at every sample.
    Always, "always", "always(alive)", "it is true at every sample";
    /// What is true.
    predicate: Predicate = Predicate::parse, reads predicate.of;
    |this, column| at_every_sample(&this.predicate, column, "true", "not so")
}

one_operand! {
    /// A bound holds at every sample.
    Each, "each", "each(nr_running in 0..100)", "the bound holds at every sample";
    /// What is bounded, and by what.
    predicate: Predicate = Predicate::parse_bounded, reads predicate.of;
    |this, column| at_every_sample(&this.predicate, column, "the bound holds", "the bound does not hold")
}

/// A missing sample fails, since whether it was true then is not known; so does NaN, by name. `so` and `not_so` say in the
/// pattern's words what was found.
fn at_every_sample(predicate: &Predicate, column: &Column, so: &str, not_so: &str) -> Judgement {
    let mut offenders = Vec::new();
    for (at, point) in column.points.iter().enumerate() {
        match &point.value {
            Ok(value) if predicate.holds(*value) => {}
            Ok(value) => offenders.push(Offender::new(at, predicate.why_not(*value))),
            Err(_) => offenders.push(Offender::new(at, "no value")),
        }
    }
    let all = samples(column.points.len());
    if offenders.is_empty() {
        return Judgement::new(Outcome::Pass, format!("{so} at {all}"));
    }
    let found = format!("{not_so} at {} of {all}", offenders.len());
    Judgement::broken(offenders, found)
}

#[cfg(test)]
mod tests {
    use crate::claim::pattern::fixture::{at, column, floats, ints, judge, missed, unreadable};
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

    #[test]
    fn samples_out_of_bounds_are_named() {
        let judged = judge("each(x in 0..100)", &[&ints(&[0, 99, 100, -1])]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![2, 3]));
        assert_eq!(judged.offenders[0].why, "not in 0..100");
        assert_eq!(judge("each(x in 0..=100)", &[&ints(&[0, 100])]).outcome, Pass);
    }

    #[test]
    fn a_missing_sample_of_each_fails() {
        let judged = judge("each(x >= 1)", &[&column([Ok(1.into()), missed(), unreadable()])]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![1, 2]));
    }

    #[test]
    fn nan_fails_by_name() {
        let judged = judge("each(x != 1)", &[&floats(&[f64::NAN])]);
        assert_eq!((judged.outcome, judged.offenders[0].why.as_str()), (Fail, "is NaN"));
    }

    #[test]
    fn each_of_no_samples_is_inconclusive() {
        assert_eq!(judge("each(x >= 1)", &[&ints(&[])]).outcome, Inconclusive);
    }
}
