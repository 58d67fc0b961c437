//! Work that computes, yields and sleeps in turn.

use std::time::Duration;

use rustix::thread::sched_yield;

use super::super::member::burn;
use super::{Ended, Never, RangeError, Work, Worker, range, turn};

/// Computes, then yields some times, then sleeps. Stresses a scheduler's guess of what kind of task it has: it is none for long.
///
/// A unit is 1024 rounds of arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mixed {
    /// How long it computes, 1 µs to 10 s. Default: 2 ms.
    pub compute: Duration,
    /// How often it yields then, 1 to 100000. Default: 16.
    pub yields: u32,
    /// How long it sleeps then, 1 µs to 10 s. Default: 1 ms.
    pub rest: Duration,
}

impl Default for Mixed {
    fn default() -> Self {
        Self { compute: Duration::from_millis(2), yields: 16, rest: Duration::from_millis(1) }
    }
}

impl Work for Mixed {
    fn check(&self) -> Result<(), RangeError> {
        range::time("Mixed.compute", self.compute)?;
        range::number("Mixed.yields", self.yields.into(), 1..=100_000, "from 1 to 100000")?;
        range::time("Mixed.rest", self.rest)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        loop {
            let units = worker.compute(self.compute);
            turn(worker, units)?;
            for _ in 0..self.yields {
                burn(1024);
                sched_yield();
            }
            turn(worker, self.yields.into())?;
            worker.rest(self.rest);
        }
    }
}
