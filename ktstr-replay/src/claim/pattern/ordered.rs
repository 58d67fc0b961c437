//! `nondecreasing(x)` and `strictly_increasing(x)`.

use crate::claim::{Judgement, Offender};
use crate::path::{Number, Projection};
use crate::series::Column;
use crate::text::counted;
use crate::verdict::Outcome;

use super::note_missing;

one_operand! {
    /// Each sample's value is at least that of the sample before it.
    Nondecreasing, "nondecreasing", "nondecreasing(nr_dispatched)", "no sample is below the one before it";
    /// What is looked at.
    of: Projection = Projection::parse, reads of;
    |_, column| judge(column, false)
}

one_operand! {
    /// Each sample's value is above that of the sample before it.
    StrictlyIncreasing, "strictly_increasing", "strictly_increasing(nr_dispatched)", "every sample is above the one before it";
    /// What is looked at.
    of: Projection = Projection::parse, reads of;
    |_, column| judge(column, true)
}

/// Neighbours are samples that follow each other in the series; a pair with a missing one is dropped.
fn judge(column: &Column, strict: bool) -> Judgement {
    let missing = column.missing();
    let notes = note_missing(missing, "the pairs with them were dropped");
    let usable = column.points.len() - missing;
    if usable < 2 {
        let summary =
            format!("{} of {} usable, and it takes 2", usable, counted(column.points.len(), "sample"));
        return Judgement::inconclusive(summary).noting(notes);
    }
    let mut pairs = 0;
    let mut offenders = Vec::new();
    for (at, pair) in column.points.windows(2).enumerate() {
        let (Ok(before), Ok(after)) = (&pair[0].value, &pair[1].value) else { continue };
        pairs += 1;
        let order = Number::from(*after).compare(Number::from(*before));
        if !order.is_some_and(|o| if strict { o.is_gt() } else { o.is_ge() }) {
            offenders.push(Offender::new(at + 1, describe(Number::from(*before), Number::from(*after))));
        }
    }
    let found = format!("{} of {} out of order", offenders.len(), counted(pairs, "pair"));
    match (pairs, offenders.is_empty()) {
        (0, _) => Judgement::inconclusive("no two neighbouring samples are usable"),
        (_, true) => Judgement::new(Outcome::Pass, format!("{} in order", counted(pairs, "pair"))),
        (_, false) => Judgement::broken(offenders, found),
    }
    .noting(notes)
}

fn describe(before: Number, after: Number) -> String {
    if [before, after].iter().any(|n| n.as_f64().is_nan()) {
        return "is NaN, or the one before it is".to_owned();
    }
    match (before, after) {
        (Number::Int(a), Number::Int(b)) if b < a => format!("fell by {}", a.saturating_sub(b)),
        (a, b) if a == b => "did not rise".to_owned(),
        (a, b) => format!("fell by {:?}", a.as_f64() - b.as_f64()),
    }
}

#[cfg(test)]
mod tests {
    use crate::claim::pattern::fixture::{at, column, floats, ints, judge, missed};
    use crate::value::Scalar;
    use crate::verdict::Outcome::{Fail, Inconclusive, Pass};

    #[test]
    fn equal_neighbours_are_nondecreasing_and_not_strictly_increasing() {
        let column = ints(&[1, 2, 2, 5]);
        assert_eq!(judge("nondecreasing(x)", &[&column]).outcome, Pass);
        let strict = judge("strictly_increasing(x)", &[&column]);
        assert_eq!((strict.outcome, at(&strict)), (Fail, vec![2]));
    }

    #[test]
    fn a_fall_names_the_sample_that_fell_and_by_how_much() {
        let judged = judge("nondecreasing(x)", &[&ints(&[10, 50, 20, 30])]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![2]));
        assert_eq!(judged.offenders[0].why, "fell by 30");
    }

    #[test]
    fn a_fall_by_one_beyond_float_precision_is_seen() {
        let big = u64::MAX;
        let column = column([Ok(Scalar::from(big)), Ok(Scalar::from(big - 1))]);
        assert_eq!(judge("nondecreasing(x)", &[&column]).outcome, Fail);
    }

    #[test]
    fn a_pair_with_a_missing_sample_is_dropped_and_noted() {
        let column = column([Ok(9.into()), missed(), Ok(3.into()), Ok(4.into())]);
        let judged = judge("nondecreasing(x)", &[&column]);
        assert_eq!(judged.outcome, Pass);
        assert_eq!(judged.notes, ["1 sample without a value: the pairs with them were dropped"]);
    }

    #[test]
    fn fewer_than_two_usable_samples_are_inconclusive() {
        assert_eq!(judge("nondecreasing(x)", &[&ints(&[1])]).outcome, Inconclusive);
        let column = column([missed(), Ok(3.into()), missed()]);
        assert_eq!(judge("strictly_increasing(x)", &[&column]).outcome, Inconclusive);
    }

    #[test]
    fn two_usable_samples_that_are_no_neighbours_are_inconclusive() {
        let column = column([Ok(1.into()), missed(), Ok(3.into())]);
        assert_eq!(judge("nondecreasing(x)", &[&column]).outcome, Inconclusive);
    }

    #[test]
    fn nan_is_out_of_order_and_named() {
        let judged = judge("nondecreasing(x)", &[&floats(&[1.0, f64::NAN, 2.0])]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![1, 2]));
        assert!(judged.offenders[0].why.contains("NaN"));
    }
}
