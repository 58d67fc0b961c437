//! `steady(x, within=10%, after=1s)`.

use std::fmt;

use crate::claim::{Judgement, Offender, PatternInfo, samples};
use crate::path::parse::Parser;
use crate::path::{Projection, SyntaxError};
use crate::series::Column;
use crate::text::SpanNs;
use crate::verdict::Outcome;

use super::note_missing;

/// Every sample after a warm-up is within a part of their mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Steady {
    /// What is looked at.
    pub of: Projection,
    /// Half of the band's width, in percent of the mean.
    pub within_pct: f64,
    /// The warm-up, from the beginning of the body; samples at its end count.
    pub after: SpanNs,
}

impl Steady {
    pub(in crate::claim) const INFO: PatternInfo = PatternInfo {
        name: "steady",
        example: "steady(nr_running, within=10%, after=1s)",
        holds: "every sample after the warm-up is within that part of their mean",
    };

    pub(in crate::claim) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let of = Projection::parse(p)?;
        let (mut within, mut after) = (None, SpanNs(0));
        p.named_args("steady", &["within", "after"], |p, which| {
            match which {
                0 => within = Some(p.percent()?),
                _ => after = p.time()?,
            }
            Ok(())
        })?;
        let within_pct = within.ok_or_else(|| p.missing("steady", "within", Self::INFO.example))?;
        Ok(Self { of, within_pct, after })
    }

    pub(in crate::claim) fn projections(&self) -> Vec<&Projection> {
        vec![&self.of]
    }

    /// Missing samples are skipped. A single sample is its own mean: inconclusive.
    pub(in crate::claim) fn judge(&self, columns: &[&Column]) -> Judgement {
        let column = columns[0];
        let warm = |p: &_| u64::try_from(column.since_start_ns(p)).is_ok_and(|ns| ns >= self.after.0);
        let missing = column.points.iter().filter(|p| warm(p) && p.value.is_err()).count();
        let notes = note_missing(missing, "skipped");
        let later: Vec<_> =
            column.usable().filter(|(_, p, _)| warm(p)).map(|(i, _, v)| (i, v.to_f64())).collect();
        let [(_, first), _, ..] = later[..] else {
            let summary = format!("{} usable after {}, and it takes 2", samples(later.len()), self.after);
            return Judgement::inconclusive(summary).noting(notes);
        };
        let odd: Vec<_> = later.iter().filter(|(_, x)| !x.is_finite()).collect();
        if !odd.is_empty() {
            let offenders = odd.iter().map(|(i, x)| Offender::new(*i, format!("is {x}"))).collect();
            return Judgement::broken(offenders, "no mean of values that are no finite numbers")
                .noting(notes);
        }
        // Taken as distances from the first value, the mean of equal values is exactly that value.
        let mean = first + later.iter().map(|(_, x)| (x - first) / later.len() as f64).sum::<f64>();
        let width = mean.abs() * self.within_pct / 100.0;
        let mut offenders = Vec::new();
        for (i, x) in &later {
            let off = (x - mean).abs();
            // Written so that a distance that overflowed to NaN is outside.
            if off.partial_cmp(&width).is_none_or(|order| order.is_gt()) {
                offenders.push(Offender::new(*i, describe(*x, mean)));
            }
        }
        let band = format!("within {}% of the mean {mean:.3}", self.within_pct);
        if offenders.is_empty() {
            return Judgement::new(Outcome::Pass, format!("{} {band}", samples(later.len()))).noting(notes);
        }
        let found = format!("{} of {} not {band}", offenders.len(), samples(later.len()));
        Judgement::broken(offenders, found).noting(notes)
    }
}

fn describe(x: f64, mean: f64) -> String {
    let side = if x > mean { "above" } else { "below" };
    let off = (x - mean).abs();
    if mean == 0.0 {
        return format!("{off:.3} {side} a mean of 0");
    }
    format!("{:.1}% {side} the mean", off / mean.abs() * 100.0)
}

impl fmt::Display for Steady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "steady({}, within={}%", self.of, self.within_pct)?;
        if self.after.0 > 0 {
            write!(f, ", after={}", self.after)?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use crate::claim::pattern::fixture::{at, column, floats, ints, judge, missed};
    use crate::verdict::Outcome::{Fail, Inconclusive, Pass};

    #[test]
    fn samples_of_the_warm_up_do_not_count() {
        // At 1, 2, 3, 4 s.
        let column = ints(&[0, 100, 104, 96]);
        assert_eq!(judge("steady(x, within=5%, after=2s)", &[&column]).outcome, Pass);
        assert_eq!(judge("steady(x, within=5%)", &[&column]).outcome, Fail);
    }

    #[test]
    fn the_sample_outside_of_the_band_is_named() {
        let judged = judge("steady(x, within=30%)", &[&ints(&[10, 10, 10, 30, 10])]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![3]));
        assert_eq!(judged.offenders[0].why, "114.3% above the mean");
    }

    #[test]
    fn equal_values_are_steady_within_nothing() {
        assert_eq!(judge("steady(x, within=0%)", &[&floats(&[0.1, 0.1, 0.1])]).outcome, Pass);
        assert_eq!(judge("steady(x, within=0%)", &[&ints(&[0, 0, 0])]).outcome, Pass);
    }

    #[test]
    fn the_band_of_a_negative_mean_is_not_inside_out() {
        assert_eq!(judge("steady(x, within=10%)", &[&ints(&[-100, -105, -95])]).outcome, Pass);
    }

    #[test]
    fn missing_samples_are_skipped_and_noted() {
        let judged = judge("steady(x, within=10%)", &[&column([Ok(5.into()), missed(), Ok(5.into())])]);
        assert_eq!(
            (judged.outcome, judged.notes.as_slice()),
            (Pass, &["1 sample without a value: skipped".to_owned()][..])
        );
    }

    #[test]
    fn nothing_after_the_warm_up_is_inconclusive() {
        assert_eq!(judge("steady(x, within=10%, after=60s)", &[&ints(&[1, 2, 3])]).outcome, Inconclusive);
        assert_eq!(judge("steady(x, within=10%, after=3s)", &[&ints(&[1, 2, 3])]).outcome, Inconclusive);
    }

    #[test]
    fn nan_fails_by_name() {
        let judged = judge("steady(x, within=10%)", &[&floats(&[1.0, f64::NAN, 1.0])]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![1]));
        assert_eq!(judged.offenders[0].why, "is NaN");
    }
}
