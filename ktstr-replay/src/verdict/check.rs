//! Checks of single values.

use super::{Because, Finding, Origin, Outcome, Verdict};
use crate::path::{Band, Bound, Cmp, Number};

/// A value that is about to be compared; see [`Verdict::check`]. NaN satisfies no comparison.
#[must_use = "a value that is not compared checks nothing"]
#[derive(Debug)]
pub struct ValueCheck<'v> {
    verdict: &'v mut Verdict,
    label: String,
    value: Number,
}

impl<'v> ValueCheck<'v> {
    pub(super) fn new(verdict: &'v mut Verdict, label: String, value: Number) -> Self {
        Self { verdict, label, value }
    }

    fn bound(self, bound: Bound) -> Because<'v> {
        let holds = bound.holds(self.value);
        self.found(holds, "", bound.to_string())
    }

    /// `is`: the verb that `bound` needs where it holds.
    fn found(self, holds: bool, is: &str, bound: String) -> Because<'v> {
        let Self { verdict, label, value } = self;
        let (outcome, is) = if holds { (Outcome::Pass, is) } else { (Outcome::Fail, " is not") };
        let summary = format!("{value}{is} {bound}");
        verdict.add(Finding::new(Origin::Claim, label, outcome, summary))
    }

    /// It is `x` or above.
    pub fn at_least(self, x: impl Into<Number>) -> Because<'v> {
        self.bound(Bound::Cmp(Cmp::AtLeast, x.into()))
    }

    /// It is `x` or below.
    pub fn at_most(self, x: impl Into<Number>) -> Because<'v> {
        self.bound(Bound::Cmp(Cmp::AtMost, x.into()))
    }

    /// It is above `x`.
    pub fn gt(self, x: impl Into<Number>) -> Because<'v> {
        self.bound(Bound::Cmp(Cmp::Above, x.into()))
    }

    /// It is below `x`.
    pub fn lt(self, x: impl Into<Number>) -> Because<'v> {
        self.bound(Bound::Cmp(Cmp::Below, x.into()))
    }

    /// It is `x`.
    pub fn eq(self, x: impl Into<Number>) -> Because<'v> {
        self.bound(Bound::Cmp(Cmp::Equal, x.into()))
    }

    /// It is another number than `x`.
    pub fn ne(self, x: impl Into<Number>) -> Because<'v> {
        self.bound(Bound::Cmp(Cmp::NotEqual, x.into()))
    }

    /// It is from `lo` to `hi`, ends included.
    pub fn between(self, lo: impl Into<Number>, hi: impl Into<Number>) -> Because<'v> {
        self.bound(Bound::In(Band { start: Some(lo.into()), end: Some((hi.into(), true)) }))
    }

    /// It is at most `tolerance` from `x`.
    pub fn near(self, x: impl Into<Number>, tolerance: impl Into<Number>) -> Because<'v> {
        let (x, tolerance) = (x.into(), tolerance.into());
        let holds = (self.value.as_f64() - x.as_f64()).abs() <= tolerance.as_f64();
        self.found(holds, " is", format!("within {tolerance} of {x}"))
    }

    /// It is neither infinite nor NaN.
    pub fn is_finite(self) -> Because<'v> {
        let holds = self.value.as_f64().is_finite();
        self.found(holds, " is", "finite".to_owned())
    }
}
