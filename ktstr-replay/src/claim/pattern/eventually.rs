//! `eventually(x >= 10, by=3s)`.

use std::fmt;

use crate::claim::{Judgement, Offender, PatternInfo, Predicate, samples};
use crate::path::parse::Parser;
use crate::path::{Projection, SyntaxError};
use crate::series::Column;
use crate::text::SpanNs;
use crate::verdict::Outcome;

use super::deadline::{in_words, parse_deadline, write_eventually};
use super::{in_time, note_missing};

/// Something is true at some sample, before a deadline if there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Eventually {
    /// What is true.
    pub predicate: Predicate,
    /// The deadline, from the beginning of the body; a sample at the deadline counts.
    pub by: Option<SpanNs>,
}

impl Eventually {
    pub(in crate::claim) const INFO: PatternInfo = PatternInfo {
        name: "eventually",
        example: "eventually(nr_dispatched >= 10, by=3s)",
        holds: "it is true at some sample by the deadline",
    };

    pub(in crate::claim) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let predicate = Predicate::parse(p)?;
        Ok(Self { predicate, by: parse_deadline(p)? })
    }

    pub(in crate::claim) fn projections(&self) -> Vec<&Projection> {
        vec![&self.predicate.of]
    }

    /// Missing samples are skipped.
    pub(in crate::claim) fn judge(&self, columns: &[&Column]) -> Judgement {
        let column = columns[0];
        let in_time = |p: &_| self.by.is_none_or(|by| in_time(column, p, by));
        let missing = column.points.iter().filter(|p| in_time(p) && p.value.is_err()).count();
        let notes = note_missing(missing, "skipped");
        let deadline = in_words(self.by);
        let due: Vec<_> = column.usable().filter(|(_, p, _)| in_time(p)).collect();
        let Some((last, _, value)) = due.last() else {
            return Judgement::inconclusive(format!("no usable sample{deadline}")).noting(notes);
        };
        if let Some((_, point, _)) = due.iter().find(|(_, _, v)| self.predicate.holds(*v)) {
            return Judgement::new(Outcome::Pass, format!("true at {}", point.tag)).noting(notes);
        }
        let found = format!("not so at any of {}{deadline}; this is the last", samples(due.len()));
        Judgement::broken(vec![Offender::new(*last, self.predicate.why_not(*value))], found).noting(notes)
    }
}

impl fmt::Display for Eventually {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_eventually(f, &self.predicate, self.by)
    }
}

#[cfg(test)]
mod tests {
    use crate::claim::pattern::fixture::{at, column, floats, ints, judge, missed};
    use crate::verdict::Outcome::{Fail, Inconclusive, Pass};

    #[test]
    fn one_sample_in_time_is_enough() {
        // At 1, 2, 3, 4 s: the deadline's own sample counts.
        assert_eq!(judge("eventually(x >= 10, by=3s)", &[&ints(&[0, 5, 10, 0])]).outcome, Pass);
        let judged = judge("eventually(x >= 10, by=2s)", &[&ints(&[0, 5, 10, 0])]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![1]));
        assert_eq!(judge("eventually(x >= 10)", &[&ints(&[0, 5, 10])]).outcome, Pass);
    }

    #[test]
    fn missing_samples_are_skipped() {
        let judged = judge("eventually(x >= 10)", &[&column([missed(), Ok(10.into())])]);
        assert_eq!((judged.outcome, judged.notes.len()), (Pass, 1));
        assert_eq!(judge("eventually(x >= 10)", &[&column([missed(), Ok(9.into())])]).outcome, Fail);
    }

    #[test]
    fn nothing_to_look_at_is_inconclusive() {
        assert_eq!(judge("eventually(x >= 10)", &[&ints(&[])]).outcome, Inconclusive);
        assert_eq!(judge("eventually(x >= 10)", &[&column([missed()])]).outcome, Inconclusive);
        assert_eq!(judge("eventually(x >= 10, by=500ms)", &[&ints(&[10])]).outcome, Inconclusive);
    }

    #[test]
    fn nan_is_never_true() {
        assert_eq!(judge("eventually(x)", &[&floats(&[f64::NAN])]).outcome, Fail);
    }
}
