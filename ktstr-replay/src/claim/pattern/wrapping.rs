//! `wrapping(nondecreasing(x))`, for counters that begin again at zero when they are full.

use std::fmt;

use crate::claim::{Claim, Judgement, PatternInfo};
use crate::path::parse::{Parser, TokenKind};
use crate::path::{Projection, SyntaxError};
use crate::series::Column;
use crate::value::Scalar;

/// Another claim, of a counter that wraps at the width of its type: a step to a lower number is a step forward through zero, if
/// that is the shorter way.
#[derive(Clone, Debug, PartialEq)]
pub struct Wrapping {
    /// The claim: one about how a counter moves.
    pub inner: Box<Claim>,
}

impl Wrapping {
    pub(in crate::claim) const INFO: PatternInfo = PatternInfo {
        name: "wrapping",
        example: "wrapping(nondecreasing(jiffies))",
        holds: "the claim within holds of the counter as if it had not wrapped",
    };

    pub(in crate::claim) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let what = "`nondecreasing(..)`, `strictly_increasing(..)` or `rate(..)`";
        let begin = p.expected(what);
        // One within the other without end would take room on the stack for each.
        if matches!(p.peek(), TokenKind::Ident(name) if name == Self::INFO.name) {
            return Err(begin);
        }
        let inner = match Claim::parse_pattern(p)? {
            inner @ (Claim::Nondecreasing(_) | Claim::StrictlyIncreasing(_) | Claim::Rate(_)) => {
                Box::new(inner)
            }
            _ => return Err(begin),
        };
        p.expect(")")?;
        Ok(Self { inner })
    }

    pub(in crate::claim) fn projections(&self) -> Vec<&Projection> {
        self.inner.projections()
    }

    pub(in crate::claim) fn judge(&self, columns: &[&Column]) -> Judgement {
        let unwrapped: Vec<Column> = columns.iter().map(|column| unwrapped(column)).collect();
        self.inner.judge(&unwrapped.iter().collect::<Vec<_>>())
    }
}

impl fmt::Display for Wrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wrapping({})", self.inner)
    }
}

/// The same numbers, without the falls that are steps forward through zero. Floats do not wrap.
fn unwrapped(column: &Column) -> Column {
    let mut column = column.clone();
    let span = 1i128 << column.bits.clamp(1, 64);
    let mut before: Option<i128> = None;
    for point in &mut column.points {
        let Ok(Scalar::Int(value)) = &mut point.value else { continue };
        if let Some(before) = before {
            let step = (*value - before).rem_euclid(span);
            *value = before.saturating_add(if step < span / 2 { step } else { step - span });
        }
        before = Some(*value);
    }
    column
}

#[cfg(test)]
mod tests {
    use crate::claim::pattern::fixture::{at, floats, ints, judge};
    use crate::verdict::Outcome::{Fail, Pass};

    #[test]
    fn a_counter_that_wraps_at_its_width_has_not_fallen() {
        let mut column = ints(&[0xffff_fff0, 0xffff_ffff, 5, 5, 9]);
        let plain = judge("nondecreasing(x)", &[&column]);
        assert_eq!((plain.outcome, at(&plain)), (Fail, vec![2]));
        column.bits = 32;
        assert_eq!(judge("wrapping(nondecreasing(x))", &[&column]).outcome, Pass);
        let strict = judge("wrapping(strictly_increasing(x))", &[&column]);
        assert_eq!((strict.outcome, at(&strict)), (Fail, vec![3]));
        assert_eq!(judge("wrapping(rate(x) in 0..=15 per s)", &[&column]).outcome, Pass);
    }

    #[test]
    fn a_fall_by_less_than_half_of_the_width_is_one() {
        let mut column = ints(&[10, 50, 20, 30]);
        for bits in [8, 16, 32, 64] {
            column.bits = bits;
            let judged = judge("wrapping(nondecreasing(x))", &[&column]);
            assert_eq!((judged.outcome, at(&judged)), (Fail, vec![2]), "{bits}");
            assert_eq!(judged.offenders[0].why, "fell by 30");
        }
        column.bits = 32;
        let wide = ints(&[0xffff_ffff, 5]);
        assert_eq!(judge("wrapping(nondecreasing(x))", &[&wide]).outcome, Fail, "a u64 does not wrap there");
        assert_eq!(judge("wrapping(nondecreasing(x))", &[&floats(&[2.0, 1.0])]).outcome, Fail);
    }

    #[test]
    fn only_what_is_about_movement_can_wrap() {
        let error = "wrapping(each(x >= 1))".parse::<crate::claim::Claim>().unwrap_err();
        assert_eq!(error.span, 9..13, "{}", error.render());
        assert!("wrapping(wrapping(nondecreasing(x)))".parse::<crate::claim::Claim>().is_err());
        let error = "wrapping(nondecresing(x))".parse::<crate::claim::Claim>().unwrap_err();
        assert!(error.to_string().contains("did you mean `nondecreasing`?"), "{error}");
    }
}
