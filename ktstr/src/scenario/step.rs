//! A step of a scenario, and how long it holds.

use std::time::Duration;

use crate::cgroup::CgroupDef;

/// Set-up, hold, teardown of what was set up: one phase.
#[derive(Clone, Debug)]
#[must_use = "a step does nothing until it is executed"]
pub struct Step {
    pub(crate) name: Option<String>,
    pub(crate) setup: Vec<CgroupDef>,
    pub(crate) hold: HoldSpec,
}

/// How long a step holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HoldSpec {
    /// This fraction of the workload window, above 0 and up to 1.
    Frac(f64),
    /// So long.
    Fixed(Duration),
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
}

impl Step {
    /// A step that makes these cgroups, lets their workers run for `hold`, and removes them.
    pub fn new(setup: Vec<CgroupDef>, hold: HoldSpec) -> Self {
        Self { name: None, setup, hold }
    }

    /// Name its phase, which otherwise is `step_0`, `step_1` and so on.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl HoldSpec {
    /// The whole workload window.
    pub const FULL: Self = Self::Frac(1.0);

    /// The time, given the window.
    ///
    /// # Errors
    /// `HoldError`.
    pub fn wanted(self, window: Duration) -> Result<Duration, HoldError> {
        match self {
            Self::Frac(part) if part > 0.0 && part <= 1.0 => Ok(window.mul_f64(part)),
            Self::Frac(part) => Err(HoldError::Fraction(part)),
            Self::Fixed(Duration::ZERO) => Err(HoldError::Nothing),
            Self::Fixed(time) => Ok(time),
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
    }

    #[test]
    fn what_is_no_fraction_is_refused() {
        for part in [0.0, -0.5, 1.5, f64::INFINITY] {
            assert_eq!(HoldSpec::Frac(part).wanted(Duration::from_secs(1)), Err(HoldError::Fraction(part)));
        }
        assert!(HoldSpec::Frac(f64::NAN).wanted(Duration::from_secs(1)).is_err());
        assert_eq!(HoldSpec::Fixed(Duration::ZERO).wanted(Duration::from_secs(1)), Err(HoldError::Nothing));
    }
}
