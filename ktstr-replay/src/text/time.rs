//! Times as people write and read them.

use crate::units::nanos;
use std::fmt;

/// A length of time in ns, written as `3s` or `500ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanNs(pub u64);

impl SpanNs {
    /// Units, the longest first, in ns.
    pub(crate) const UNITS: [(&'static str, u64); 5] =
        [("min", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
}

impl fmt::Display for SpanNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Minutes are understood but not written: nobody reads a watchdog's timeout in minutes.
        let unit = Self::UNITS[1..].iter().find(|(_, ns)| self.0.is_multiple_of(*ns) && self.0 >= *ns);
        match unit {
            Some((name, ns)) => write!(f, "{}{name}", self.0 / ns),
            None => f.write_str("0s"),
        }
    }
}

impl From<std::time::Duration> for SpanNs {
    fn from(d: std::time::Duration) -> Self {
        Self(nanos(d))
    }
}

/// A time in s with three digits, as everything in a report has it.
pub(crate) fn seconds(ns: i64) -> String {
    format!("{:.3}s", ns as f64 / 1e9)
}

/// `2.5s`, `2.5` or `-300ms` in ns.
#[must_use]
pub fn time_ns(text: &str) -> Option<i64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1_000_000_000,
        unit => SpanNs::UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    let number: f64 = digits.parse().ok().filter(|number: &f64| number.is_finite())?;
    // Beyond 292 years it is the first or last there is.
    Some((number * unit as f64) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_in_the_largest_unit_that_is_exact() {
        let shown = |ns| SpanNs(ns).to_string();
        assert_eq!(shown(3_000_000_000), "3s");
        assert_eq!(shown(1_500_000_000), "1500ms");
        assert_eq!(shown(120_000_000_000), "120s");
        assert_eq!(shown(0), "0s");
        assert_eq!(shown(1_001), "1001ns");
    }

    #[test]
    fn times_have_units_and_signs() {
        assert_eq!(time_ns("2.5s"), Some(2_500_000_000));
        assert_eq!(time_ns("2"), Some(2_000_000_000));
        assert_eq!(time_ns("-300ms"), Some(-300_000_000));
        assert_eq!(time_ns("1e300"), Some(i64::MAX));
        for bad in ["", "end", "3 parsecs", "nans", "periodic_001"] {
            assert_eq!(time_ns(bad), None, "{bad}");
        }
    }
}
