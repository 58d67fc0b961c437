//! What must hold of a payload's metrics and exit code.

use ktstr_replay::trace::record::MetricCheck as Recorded;

/// What must hold of a payload's metric, or of its exit code. A metric that is not there, or is not a finite number, fails its check.
///
/// ```
/// use ktstr::prelude::*;
///
/// const FAST: MetricCheck = MetricCheck::max("jobs.0.read.clat_ns.mean", 5e6);
/// assert_eq!(FAST, MetricCheck::max("jobs.0.read.clat_ns.mean", 5_000_000.0));
///
/// #[derive(Payload)]
/// #[payload(binary = "fio", package = "fio", output = Json)]
/// struct Fio;
///
/// let run = PayloadSpec::of(&Fio)
///     .check(MetricCheck::min("jobs.0.read.iops", 100.0))
///     .check(MetricCheck::range("jobs.0.usr_cpu", 0.0, 50.0))
///     .check(MetricCheck::exists("jobs.0.write.iops"))
///     // That it fails is what is looked for.
///     .check(MetricCheck::exit_code_eq(1));
/// # let _ = run;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricCheck(Kind);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Min(&'static str, f64),
    Max(&'static str, f64),
    Range(&'static str, f64, f64),
    Exists(&'static str),
    ExitCode(i32),
}

impl MetricCheck {
    /// The metric is at least `limit`.
    ///
    /// # Panics
    /// When the limit is not finite; in a constant, and so in `#[default_check]`, that is a compile error.
    #[must_use]
    pub const fn min(path: &'static str, limit: f64) -> Self {
        assert!(limit.is_finite(), "the limit of a check is a finite number");
        Self(Kind::Min(path, limit))
    }

    /// The metric is at most `limit`.
    ///
    /// # Panics
    /// As [`MetricCheck::min`].
    #[must_use]
    pub const fn max(path: &'static str, limit: f64) -> Self {
        assert!(limit.is_finite(), "the limit of a check is a finite number");
        Self(Kind::Max(path, limit))
    }

    /// The metric is from `low` to `high`, both included.
    ///
    /// # Panics
    /// As [`MetricCheck::min`], and when `low` is above `high`.
    #[must_use]
    pub const fn range(path: &'static str, low: f64, high: f64) -> Self {
        assert!(low.is_finite() && high.is_finite(), "the limits of a check are finite numbers");
        assert!(low <= high, "the lower limit of a check is above the upper one");
        Self(Kind::Range(path, low, high))
    }

    /// The metric is there.
    #[must_use]
    pub const fn exists(path: &'static str) -> Self {
        Self(Kind::Exists(path))
    }

    /// The exit code is `code`. Without such a check it must be 0.
    #[must_use]
    pub const fn exit_code_eq(code: i32) -> Self {
        Self(Kind::ExitCode(code))
    }

    /// As the trace keeps it.
    pub(super) fn recorded(self) -> Recorded {
        let path = |path: &str| path.to_owned();
        match self.0 {
            Kind::Min(metric, limit) => Recorded::Min { path: path(metric), limit },
            Kind::Max(metric, limit) => Recorded::Max { path: path(metric), limit },
            Kind::Range(metric, low, high) => Recorded::Range { path: path(metric), low, high },
            Kind::Exists(metric) => Recorded::Exists { path: path(metric) },
            Kind::ExitCode(code) => Recorded::ExitCode { code },
        }
    }
}

/// Whether a check is about the metric of this path.
pub(super) fn is_about(check: &Recorded, metric: &str) -> bool {
    match check {
        Recorded::Min { path, .. }
        | Recorded::Max { path, .. }
        | Recorded::Range { path, .. }
        | Recorded::Exists { path } => path == metric,
        Recorded::ExitCode { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn checks_are_recorded_as_they_are_written() {
        for (check, recorded) in [
            (MetricCheck::min("a", 1.0), Recorded::Min { path: "a".into(), limit: 1.0 }),
            (MetricCheck::max("a", 1.0), Recorded::Max { path: "a".into(), limit: 1.0 }),
            (MetricCheck::range("a", 1.0, 1.0), Recorded::Range { path: "a".into(), low: 1.0, high: 1.0 }),
            (MetricCheck::exists("a"), Recorded::Exists { path: "a".into() }),
        ] {
            assert!(is_about(&recorded, "a") && !is_about(&recorded, "b"));
            assert_eq!(check.recorded(), recorded);
        }
        let exit = MetricCheck::exit_code_eq(3).recorded();
        assert_eq!(exit, Recorded::ExitCode { code: 3 });
        assert!(!is_about(&exit, "a"));
    }

    #[test]
    fn limits_that_nothing_could_keep_are_refused() {
        assert!(catch_unwind(|| MetricCheck::min("a", f64::NAN)).is_err());
        assert!(catch_unwind(|| MetricCheck::max("a", f64::INFINITY)).is_err());
        assert!(catch_unwind(|| MetricCheck::range("a", 2.0, 1.0)).is_err());
    }
}
