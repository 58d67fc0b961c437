//! Calls of one function at a known rate: the guest makes them and prints a line; the host reads the line and compares it with what
//! was recorded.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ktstr_replay::trace::Trace;
use ktstr_replay::units::GuestNs;
use rustix::fs::Mode;
use rustix::process::umask;
use rustix::time::{ClockId, clock_gettime};

use crate::written::written;

/// What a line of calls begins with.
const HEAD: &str = "CALLED ";

/// Calls that were made in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallsAt {
    /// As many a second were wanted, of the guest's time.
    pub rate: u32,
    /// As many were made.
    pub calls: u32,
    /// From here, by the guest's clock.
    pub from: GuestNs,
    /// To here.
    pub until: GuestNs,
}

impl CallsAt {
    /// What is called, by its name in the kernel. Programs call it when they begin, and not later.
    pub const FUNCTION: &str = "__x64_sys_umask";

    /// In the guest: call it `rate` times a second, for so long, in equal steps.
    #[must_use]
    pub fn make(rate: u32, window: Duration) -> Self {
        let (begun, from) = (Instant::now(), now());
        let mut calls = 0;
        while begun.elapsed() < window {
            umask(Mode::RWXU);
            calls += 1;
            let due = begun + Duration::from_secs(1) * calls / rate;
            sleep(due.saturating_duration_since(Instant::now()));
        }
        Self { rate, calls, from, until: now() }
    }

    /// In the guest: write its line. Not by a macro, whose output libtest keeps to itself.
    ///
    /// # Errors
    /// A standard output that takes nothing.
    pub fn say(&self) -> io::Result<()> {
        writeln!(io::stdout(), "\n{HEAD}{self}")
    }

    /// On the host: what a run's body has said, in the order in which it did.
    #[must_use]
    pub fn said_in(trace: &Trace) -> Vec<Self> {
        written(trace).lines().filter_map(|line| line.strip_prefix(HEAD)?.parse().ok()).collect()
    }

    /// Calls made in a second of the guest's time: a guest that is stopped for each may not come to as many as were wanted.
    #[must_use]
    pub fn per_s(&self) -> f64 {
        f64::from(self.calls) * 1e9 / self.until.saturating_since(self.from).max(1) as f64
    }
}

fn now() -> GuestNs {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither is negative: the clock begins with the boot.
    GuestNs(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
}

impl fmt::Display for CallsAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.rate, self.calls, self.from.0, self.until.0)
    }
}

/// A line that is none of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCalls;

impl FromStr for CallsAt {
    type Err = NoCalls;

    fn from_str(line: &str) -> Result<Self, NoCalls> {
        let numbers: Result<Vec<u64>, _> = line.split(' ').map(str::parse).collect();
        let [rate, calls, from, until] = numbers.map_err(|_| NoCalls)?[..] else { return Err(NoCalls) };
        let small = |number: u64| u32::try_from(number).map_err(|_| NoCalls);
        Ok(Self { rate: small(rate)?, calls: small(calls)?, from: GuestNs(from), until: GuestNs(until) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_is_read() {
        let made = CallsAt { rate: 10, calls: 20, from: GuestNs(5), until: GuestNs(2_000_000_005) };
        assert_eq!(made.to_string().parse(), Ok(made));
        assert_eq!(made.per_s(), 10.0);
        for none in ["", "1 2 3", "1 2 3 x", "1 2 3 4 5", "5000000000 1 1 1"] {
            assert_eq!(none.parse::<CallsAt>(), Err(NoCalls), "{none}");
        }
    }
}
