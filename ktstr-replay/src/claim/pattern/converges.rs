//! `converges(x, to=1.0, tol=0.5, by=5s)`.

use std::fmt;

use crate::claim::{Judgement, Offender, PatternInfo, samples};
use crate::path::parse::Parser;
use crate::path::{Number, Projection, SyntaxError};
use crate::series::Column;
use crate::text::SpanNs;
use crate::verdict::Outcome;

use super::{in_time, note_missing};

/// How many samples in a row have to be near the target.
const RUN: usize = 3;

/// Three samples in a row are near a target before a deadline.
#[derive(Clone, Debug, PartialEq)]
pub struct Converges {
    /// What is looked at.
    pub of: Projection,
    /// The target.
    pub to: Number,
    /// Largest distance from it that is near.
    pub tol: Number,
    /// The deadline, from the beginning of the body; a sample at the deadline counts.
    pub by: SpanNs,
}

impl Converges {
    pub(in crate::claim) const INFO: PatternInfo = PatternInfo {
        name: "converges",
        example: "converges(imbalance, to=1.0, tol=0.5, by=5s)",
        holds: "3 samples in a row are within `tol` of `to` by the deadline",
    };

    pub(in crate::claim) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let of = Projection::parse(p)?;
        let (mut to, mut tol, mut by) = (None, None, None);
        p.named_args("converges", &["to", "tol", "by"], |p, which| {
            match which {
                0 => to = Some(p.number()?),
                1 => tol = Some(p.number()?),
                _ => by = Some(p.time()?),
            }
            Ok(())
        })?;
        let missing = |name| p.missing("converges", name, Self::INFO.example);
        Ok(Self {
            of,
            to: to.ok_or_else(|| missing("to"))?,
            tol: tol.ok_or_else(|| missing("tol"))?,
            by: by.ok_or_else(|| missing("by"))?,
        })
    }

    pub(in crate::claim) fn projections(&self) -> Vec<&Projection> {
        vec![&self.of]
    }

    /// A missing sample ends a run of near ones.
    pub(in crate::claim) fn judge(&self, columns: &[&Column]) -> Judgement {
        let column = columns[0];
        let due: Vec<_> =
            column.points.iter().enumerate().filter(|(_, p)| in_time(column, p, self.by)).collect();
        let missing = due.iter().filter(|(_, p)| p.value.is_err()).count();
        let notes = note_missing(missing, "each ends a run of near ones");
        let usable = due.len() - missing;
        if usable < RUN {
            let summary = format!("{} usable by {}, and it takes {RUN}", samples(usable), self.by);
            return Judgement::inconclusive(summary).noting(notes);
        }
        let (mut run, mut longest) = (0, 0);
        let mut offenders = Vec::new();
        for (at, point) in &due {
            let off = point.value.as_ref().map(|v| (v.to_f64() - self.to.as_f64()).abs());
            match off {
                Ok(off) if off <= self.tol.as_f64() => run += 1,
                Ok(off) => {
                    run = 0;
                    offenders.push(Offender::new(*at, format!("{off:.3} from {}", self.to)));
                }
                Err(_) => run = 0,
            }
            longest = longest.max(run);
            if run == RUN {
                let tag = &point.tag;
                let summary = format!("{RUN} samples in a row within {} of {} at {tag}", self.tol, self.to);
                return Judgement::new(Outcome::Pass, summary).noting(notes);
            }
        }
        let found = format!(
            "no {RUN} samples in a row within {} of {} by {}; the longest run has {longest}",
            self.tol, self.to, self.by
        );
        Judgement::broken(offenders, found).noting(notes)
    }
}

impl fmt::Display for Converges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "converges({}, to={}, tol={}, by={})", self.of, self.to, self.tol, self.by)
    }
}

#[cfg(test)]
mod tests {
    use crate::claim::pattern::fixture::{column, floats, ints, judge, missed};
    use crate::verdict::Outcome::{Fail, Inconclusive, Pass};

    const CLAIM: &str = "converges(x, to=10, tol=1, by=5s)";

    #[test]
    fn three_in_a_row_by_the_deadline_converge() {
        // At 1 to 5 s: the deadline's own sample counts.
        assert_eq!(judge(CLAIM, &[&ints(&[0, 5, 9, 10, 11])]).outcome, Pass);
        assert_eq!(judge(CLAIM, &[&ints(&[0, 5, 7, 10, 11, 10])]).outcome, Fail, "the third comes at 6 s");
    }

    #[test]
    fn what_happens_after_three_in_a_row_does_not_matter() {
        assert_eq!(judge(CLAIM, &[&ints(&[10, 10, 10, 99, 99])]).outcome, Pass);
    }

    #[test]
    fn a_missing_sample_resets_the_run_and_is_noted() {
        let near = || Ok(10.into());
        let judged = judge(CLAIM, &[&column([near(), near(), missed(), near(), near()])]);
        assert_eq!((judged.outcome, judged.notes.len()), (Fail, 1));
        assert!(judged.summary.contains("longest run has 2"), "{}", judged.summary);
    }

    #[test]
    fn fewer_than_three_usable_samples_in_time_are_inconclusive() {
        assert_eq!(judge(CLAIM, &[&ints(&[10, 10])]).outcome, Inconclusive);
        let late = "converges(x, to=10, tol=1, by=2s)";
        assert_eq!(judge(late, &[&ints(&[10, 10, 10, 10])]).outcome, Inconclusive);
    }

    #[test]
    fn nan_is_never_near() {
        assert_eq!(judge(CLAIM, &[&floats(&[10.0, 10.0, f64::NAN, 10.0, 10.0])]).outcome, Fail);
    }
}
