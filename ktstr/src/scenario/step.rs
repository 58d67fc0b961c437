//! A step of a scenario, how long it holds, and what outlives the steps.

use std::time::Duration;

use super::op::Op;
use crate::cgroup::CgroupDef;

/// One phase: set-up, then operations, then a hold, then the teardown of all that the step made and changed.
///
/// ```
/// use ktstr::prelude::*;
///
/// let quiet = Step::new(vec![CgroupDef::named("cg_0").workers(2)], HoldSpec::Frac(0.5)).named("quiet");
/// let one_less = Step::of_ops([Op::offline(1)], HoldSpec::Frac(0.5)).named("one CPU less");
/// let steps = vec![quiet, one_less];
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a step does nothing until it is executed"]
pub struct Step {
    pub(crate) name: Option<String>,
    pub(crate) setup: Vec<CgroupDef>,
    pub(crate) ops: Vec<Op>,
    pub(crate) hold: HoldSpec,
}

/// What is made before the first step and outlives all of them. Steps may change it; what they change is as before at their end.
///
/// ```
/// use ktstr::prelude::*;
///
/// fn body(ctx: &Ctx) -> Result<AssertResult> {
///     let backdrop = Backdrop::new(vec![ctx.cgroup_def("web").cpu_weight(200)]);
///     execute_scenario(ctx, backdrop, vec![Step::of_ops([Op::freeze("web")], HoldSpec::Frac(0.2))])
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "a backdrop does nothing until it is executed"]
pub struct Backdrop {
    pub(crate) setup: Vec<CgroupDef>,
    pub(crate) ops: Vec<Op>,
}

/// How long a step holds.
///
/// ```
/// use ktstr::prelude::*;
/// use std::time::Duration;
///
/// let whole = HoldSpec::FULL;
/// let tenth = HoldSpec::Frac(0.1);
/// let again = HoldSpec::Loop { interval: Duration::from_millis(200) };
/// assert_ne!(whole, tenth);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HoldSpec {
    /// This fraction of the workload window, above 0 and up to 1.
    Frac(f64),
    /// So long.
    Fixed(Duration),
    /// For all that is left of the workload window, and the step's operations again whenever so much time has passed.
    Loop {
        /// From the begin of a round to that of the next.
        interval: Duration,
    },
}

/// A hold that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum HoldError {
    /// Not a fraction.
    #[error("HoldSpec::Frac({0}) is not above 0 and at most 1")]
    Fraction(f64),
    /// No time.
    #[error("HoldSpec::Fixed with a duration of zero")]
    Nothing,
    /// Rounds without an end.
    #[error("HoldSpec::Loop with an interval of zero")]
    NoInterval,
    /// Nothing to do again.
    #[error("HoldSpec::Loop in a step without operations: there is nothing to do again")]
    NoOps,
}

impl Step {
    /// A step that makes these cgroups, lets their workers run for `hold`, and removes them.
    pub fn new(setup: Vec<CgroupDef>, hold: HoldSpec) -> Self {
        Self { name: None, setup, ops: Vec::new(), hold }
    }

    /// A step that only does something to what there is, and holds.
    pub fn of_ops(ops: impl IntoIterator<Item = Op>, hold: HoldSpec) -> Self {
        Self::new(Vec::new(), hold).ops(ops)
    }

    /// Operations after the set-up, one after the other.
    pub fn ops(mut self, ops: impl IntoIterator<Item = Op>) -> Self {
        self.ops.extend(ops);
        self
    }

    /// Name its phase, which otherwise is `step_0`, `step_1` and so on.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The hold's time, given the window.
    pub(super) fn hold(&self, window: Duration) -> Result<Duration, HoldError> {
        match self.hold {
            HoldSpec::Loop { .. } if self.ops.is_empty() => Err(HoldError::NoOps),
            hold => hold.wanted(window),
        }
    }
}

impl Backdrop {
    /// These cgroups, with their workers.
    pub fn new(setup: Vec<CgroupDef>) -> Self {
        Self { setup, ops: Vec::new() }
    }

    /// Operations after the set-up, one after the other.
    pub fn ops(mut self, ops: impl IntoIterator<Item = Op>) -> Self {
        self.ops.extend(ops);
        self
    }
}

impl HoldSpec {
    /// The whole workload window.
    pub const FULL: Self = Self::Frac(1.0);

    /// The time, given the window; of a loop, the whole window.
    ///
    /// # Errors
    /// `HoldError`.
    pub fn wanted(self, window: Duration) -> Result<Duration, HoldError> {
        match self {
            Self::Frac(part) if part > 0.0 && part <= 1.0 => Ok(window.mul_f64(part)),
            Self::Frac(part) => Err(HoldError::Fraction(part)),
            Self::Fixed(Duration::ZERO) => Err(HoldError::Nothing),
            Self::Fixed(time) => Ok(time),
            Self::Loop { interval: Duration::ZERO } => Err(HoldError::NoInterval),
            Self::Loop { .. } => Ok(window),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_are_parts_of_the_window_or_fixed() {
        let window = Duration::from_secs(10);
        assert_eq!(HoldSpec::FULL.wanted(window), Ok(window));
        assert_eq!(HoldSpec::Frac(0.25).wanted(window), Ok(Duration::from_millis(2500)));
        assert_eq!(HoldSpec::Fixed(Duration::from_secs(30)).wanted(window), Ok(Duration::from_secs(30)));
        assert_eq!(HoldSpec::Loop { interval: Duration::from_secs(1) }.wanted(window), Ok(window));
    }

    #[test]
    fn what_is_no_hold_is_refused() {
        for part in [0.0, -0.5, 1.5, f64::INFINITY] {
            assert_eq!(HoldSpec::Frac(part).wanted(Duration::from_secs(1)), Err(HoldError::Fraction(part)));
        }
        assert!(HoldSpec::Frac(f64::NAN).wanted(Duration::from_secs(1)).is_err());
        assert_eq!(HoldSpec::Fixed(Duration::ZERO).wanted(Duration::from_secs(1)), Err(HoldError::Nothing));
        let no_interval = HoldSpec::Loop { interval: Duration::ZERO };
        assert_eq!(no_interval.wanted(Duration::from_secs(1)), Err(HoldError::NoInterval));
        let no_ops = Step::new(Vec::new(), HoldSpec::Loop { interval: Duration::from_secs(1) });
        assert_eq!(no_ops.hold(Duration::from_secs(1)), Err(HoldError::NoOps));
    }
}
