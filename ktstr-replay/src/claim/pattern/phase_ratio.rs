//! `phase_ratio(x, 0, 1) <= 1.5`.

use std::fmt;

use crate::claim::{Judgement, Offender, PatternInfo};
use crate::path::parse::Parser;
use crate::path::{Bound, Number, Projection, SyntaxError};
use crate::series::Column;
use crate::verdict::Outcome;

/// The last value of one phase over the last value of another is in bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseRatio {
    /// What is looked at.
    pub of: Projection,
    /// Index of the phase that is divided by.
    pub baseline: u32,
    /// Index of the phase that is held against it.
    pub phase: u32,
    /// What the quotient is held against.
    pub bound: Bound,
}

impl PhaseRatio {
    pub(in crate::claim) const INFO: PatternInfo = PatternInfo {
        name: "phase_ratio",
        example: "phase_ratio(nr_running, 0, 1) <= 1.5",
        holds: "the last value of the second phase over that of the first is in bounds",
    };

    pub(in crate::claim) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let of = Projection::parse(p)?;
        p.expect(",")?;
        let baseline = p.index("the index of a phase")?;
        p.expect(",")?;
        let phase = p.index("the index of a phase")?;
        p.named_args("phase_ratio", &[], |_, _| Ok(()))?;
        Ok(Self { of, baseline, phase, bound: p.bound()? })
    }

    pub(in crate::claim) fn projections(&self) -> Vec<&Projection> {
        vec![&self.of]
    }

    pub(in crate::claim) fn judge(&self, columns: &[&Column]) -> Judgement {
        let last = |phase| columns[0].usable().filter(|(_, p, _)| p.phase == Some(phase)).last();
        let absent = |phase| Judgement::inconclusive(format!("no usable sample is of phase {phase}"));
        let Some((_, _, before)) = last(self.baseline) else { return absent(self.baseline) };
        let Some((at, _, after)) = last(self.phase) else { return absent(self.phase) };
        if before.to_f64() == 0.0 {
            return Judgement::inconclusive(format!("the last value of phase {} is zero", self.baseline));
        }
        let quotient = after.to_f64() / before.to_f64();
        let found = format!("{after} / {before} = {quotient:.3}");
        if self.bound.holds(Number::Float(quotient)) {
            return Judgement::new(Outcome::Pass, found);
        }
        let why = format!("not {}", self.bound);
        Judgement::broken(vec![Offender::new(at, why)], found)
    }
}

impl fmt::Display for PhaseRatio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "phase_ratio({}, {}, {}) {}", self.of, self.baseline, self.phase, self.bound)
    }
}

#[cfg(test)]
mod tests {
    use crate::claim::pattern::fixture::{at, ints, judge};
    use crate::series::Column;
    use crate::verdict::Outcome::{Fail, Inconclusive, Pass};

    const CLAIM: &str = "phase_ratio(x, 0, 1) <= 1.5";

    fn phased(values: &[(u32, i64)]) -> Column {
        let mut column = ints(&values.iter().map(|(_, v)| *v).collect::<Vec<_>>());
        for (point, (phase, _)) in column.points.iter_mut().zip(values) {
            point.phase = Some(*phase);
        }
        column
    }

    #[test]
    fn the_last_value_of_each_phase_counts() {
        assert_eq!(judge(CLAIM, &[&phased(&[(0, 1), (0, 10), (1, 99), (1, 15)])]).outcome, Pass);
        let judged = judge(CLAIM, &[&phased(&[(0, 10), (1, 15), (1, 16)])]);
        assert_eq!((judged.outcome, at(&judged)), (Fail, vec![2]));
    }

    #[test]
    fn an_absent_phase_or_a_zero_baseline_is_inconclusive() {
        assert_eq!(judge(CLAIM, &[&phased(&[(0, 10)])]).outcome, Inconclusive);
        assert_eq!(judge(CLAIM, &[&phased(&[(1, 10)])]).outcome, Inconclusive);
        assert_eq!(judge(CLAIM, &[&phased(&[(0, 0), (1, 10)])]).outcome, Inconclusive);
    }
}
