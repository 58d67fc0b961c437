//! The bounds of parameters.

use std::time::Duration;

use super::super::settings::RangeError;

/// A round of arithmetic takes a few ns.
pub const ROUNDS: &str = "from 1 to 10000000";

/// Rounds of arithmetic, 1 to 10 million.
pub fn rounds(what: &'static str, rounds: u32) -> Result<(), RangeError> {
    number(what, u64::from(rounds), 1..=10_000_000, ROUNDS)
}

/// A length of time, 1 µs to 10 s: a worker that sleeps longer could not end in time.
pub fn time(what: &'static str, time: Duration) -> Result<(), RangeError> {
    let is_good = (Duration::from_micros(1)..=Duration::from_secs(10)).contains(&time);
    good(is_good, what, || format!("{time:?}"), "from 1 µs to 10 s")
}

/// Memory for each worker, one page to 1 GiB.
pub fn bytes(what: &'static str, bytes: usize) -> Result<(), RangeError> {
    number(what, bytes as u64, 4096..=1 << 30, "from 4096 to 1073741824 bytes")
}

/// A number in a range that `text` says.
pub fn number(
    what: &'static str,
    value: u64,
    range: std::ops::RangeInclusive<u64>,
    text: &'static str,
) -> Result<(), RangeError> {
    good(range.contains(&value), what, || value.to_string(), text)
}

/// An error unless it is good.
pub fn good(
    is_good: bool,
    what: &'static str,
    value: impl FnOnce() -> String,
    range: &'static str,
) -> Result<(), RangeError> {
    if is_good { Ok(()) } else { Err(RangeError { what, value: value(), range }) }
}
