//! Claims as methods of a column.
//!
//! Each makes the same [`Claim`] that its text would, and has the one evaluator judge it.

use std::time::Duration;

use super::pattern::{
    Always, Converges, Each, Eventually, Final, Nondecreasing, PhaseRatio, Rate, Ratio, Steady,
    StrictlyIncreasing, TimeUnit, Wrapping,
};
use super::{Claim, Predicate};
use crate::path::{Bound, Number};
use crate::series::Column;
use crate::verdict::{Because, Finding, Verdict};

impl Column {
    fn claim<'v>(&self, claim: impl Into<Claim>, others: &[&Self], v: &'v mut Verdict) -> Because<'v> {
        let claim = claim.into();
        let mut columns = vec![self];
        columns.extend(others);
        let judgement = claim.judge(&columns);
        v.add(Finding::of_claim(&claim, &judgement, &columns))
    }

    fn predicate(&self, bound: Option<Bound>) -> Predicate {
        Predicate { of: self.projection.clone(), bound }
    }

    /// No sample is below the one before it.
    pub fn nondecreasing<'v>(&self, v: &'v mut Verdict) -> Because<'v> {
        self.claim(Nondecreasing { of: self.projection.clone() }, &[], v)
    }

    /// Every sample is above the one before it.
    pub fn strictly_increasing<'v>(&self, v: &'v mut Verdict) -> Because<'v> {
        self.claim(StrictlyIncreasing { of: self.projection.clone() }, &[], v)
    }

    /// No sample is below the one before it, but where the counter wrapped at the width of its type.
    pub fn wrapping_nondecreasing<'v>(&self, v: &'v mut Verdict) -> Because<'v> {
        let inner = Box::new(Nondecreasing { of: self.projection.clone() }.into());
        self.claim(Wrapping { inner }, &[], v)
    }

    /// Every slope between neighbours is in bounds: `rate(0.5..2.0, TimeUnit::Ms, v)`.
    pub fn rate<'v>(&self, bound: impl Into<Bound>, per: TimeUnit, v: &'v mut Verdict) -> Because<'v> {
        self.claim(Rate { of: self.projection.clone(), bound: bound.into(), per }, &[], v)
    }

    /// Every sample after the warm-up is within `within_pct` percent of their mean.
    pub fn steady<'v>(&self, within_pct: f64, after: Duration, v: &'v mut Verdict) -> Because<'v> {
        self.claim(Steady { of: self.projection.clone(), within_pct, after: after.into() }, &[], v)
    }

    /// Three samples in a row are within `tol` of `to` by the deadline.
    pub fn converges<'v>(
        &self,
        to: impl Into<Number>,
        tol: impl Into<Number>,
        by: Duration,
        v: &'v mut Verdict,
    ) -> Because<'v> {
        let of = self.projection.clone();
        self.claim(Converges { of, to: to.into(), tol: tol.into(), by: by.into() }, &[], v)
    }

    /// Not zero (or true) at every sample.
    pub fn always<'v>(&self, v: &'v mut Verdict) -> Because<'v> {
        self.claim(Always { predicate: self.predicate(None) }, &[], v)
    }

    /// In bounds at some sample, by the deadline if there is one.
    pub fn eventually<'v>(
        &self,
        bound: impl Into<Bound>,
        by: Option<Duration>,
        v: &'v mut Verdict,
    ) -> Because<'v> {
        let predicate = self.predicate(Some(bound.into()));
        self.claim(Eventually { predicate, by: by.map(Into::into) }, &[], v)
    }

    /// In bounds at every sample: `each(1.., v)`.
    pub fn each<'v>(&self, bound: impl Into<Bound>, v: &'v mut Verdict) -> Because<'v> {
        self.claim(Each { predicate: self.predicate(Some(bound.into())) }, &[], v)
    }

    /// In bounds at the last sample. (`final` is a reserved word.)
    pub fn final_<'v>(&self, bound: impl Into<Bound>, v: &'v mut Verdict) -> Because<'v> {
        self.claim(Final { predicate: self.predicate(Some(bound.into())) }, &[], v)
    }

    /// This column over another of the same samples is in bounds.
    pub fn ratio<'v>(&self, over: &Self, bound: impl Into<Bound>, v: &'v mut Verdict) -> Because<'v> {
        let (of, over_of) = (self.projection.clone(), over.projection.clone());
        self.claim(Ratio { of, over: over_of, bound: bound.into() }, &[over], v)
    }

    /// The last value of `phase` over the last value of `baseline` is in bounds.
    pub fn phase_ratio<'v>(
        &self,
        baseline: u32,
        phase: u32,
        bound: impl Into<Bound>,
        v: &'v mut Verdict,
    ) -> Because<'v> {
        let of = self.projection.clone();
        self.claim(PhaseRatio { of, baseline, phase, bound: bound.into() }, &[], v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::pattern::fixture::ints;
    use crate::verdict::Outcome;

    #[test]
    fn a_method_and_its_text_make_the_same_finding() {
        let x = ints(&[1, 20, 3, 40, 50]);
        type Method = fn(&Column, &mut Verdict) -> Outcome;
        let methods: [(Method, &str); 12] = [
            (|x, v| x.nondecreasing(v).outcome(), "nondecreasing(x)"),
            (|x, v| x.strictly_increasing(v).outcome(), "strictly_increasing(x)"),
            (|x, v| x.wrapping_nondecreasing(v).outcome(), "wrapping(nondecreasing(x))"),
            (|x, v| x.rate(0.5..2.0, TimeUnit::Ms, v).outcome(), "rate(x) in 0.5..2.0 per ms"),
            (|x, v| x.steady(10.0, Duration::from_secs(1), v).outcome(), "steady(x, within=10%, after=1s)"),
            (
                |x, v| x.converges(45, 5, Duration::from_secs(5), v).outcome(),
                "converges(x, to=45, tol=5, by=5s)",
            ),
            (|x, v| x.always(v).outcome(), "always(x)"),
            (
                |x, v| x.eventually(60.., Some(Duration::from_millis(1500)), v).outcome(),
                "eventually(x in 60.., by=1500ms)",
            ),
            (|x, v| x.each(2..=50, v).outcome(), "each(x in 2..=50)"),
            (|x, v| x.final_(..50, v).outcome(), "final(x in ..50)"),
            (|x, v| x.ratio(x, 0.5..1.0, v).outcome(), "ratio(x, x) in 0.5..1.0"),
            (|x, v| x.phase_ratio(0, 1, ..=1.5, v).outcome(), "phase_ratio(x, 0, 1) in ..=1.5"),
        ];
        for (method, text) in methods {
            let mut v = Verdict::new();
            let outcome = method(&x, &mut v);
            let claim: Claim = text.parse().unwrap();
            let columns = vec![&x; claim.projections().len()];
            let expected = Finding::of_claim(&claim, &claim.judge(&columns), &columns);
            assert_eq!(v.findings, [expected], "{text}");
            assert_eq!((v.findings[0].what.as_str(), outcome), (text, v.outcome()));
        }
    }
}
