//! Work that comes in bursts.

use std::time::Duration;

use super::{Ended, Never, RangeError, Work, Worker, range, turn};

/// Computes for a while, sleeps for a while. Stresses wake-ups into a busy or idle machine.
///
/// A unit is 1024 rounds of arithmetic. How much longer than asked it slept is its timer latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bursty {
    /// How long it computes, of wall time, 1 µs to 10 s. Default: 5 ms.
    pub burst: Duration,
    /// How long it sleeps, 1 µs to 10 s. Default: 10 ms.
    pub rest: Duration,
}

impl Default for Bursty {
    fn default() -> Self {
        Self { burst: Duration::from_millis(5), rest: Duration::from_millis(10) }
    }
}

impl Work for Bursty {
    fn check(&self) -> Result<(), RangeError> {
        range::time("Bursty.burst", self.burst)?;
        range::time("Bursty.rest", self.rest)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        loop {
            let units = worker.compute(self.burst);
            turn(worker, units)?;
            worker.rest(self.rest);
        }
    }
}
