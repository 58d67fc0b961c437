//! Work that asks the scheduler for a decision all the time.

use rustix::thread::sched_yield;

use super::super::member::burn;
use super::{Ended, Never, RangeError, Work, Worker, range, turn};

/// Gives up its CPU after every unit (`sched_yield(2)`). Stresses the yield and dispatch paths.
///
/// A unit is `rounds` rounds of arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct YieldHeavy {
    /// Rounds of arithmetic between two yields, 1 to 10000000. Default: 64.
    pub rounds: u32,
}

impl Default for YieldHeavy {
    fn default() -> Self {
        Self { rounds: 64 }
    }
}

impl Work for YieldHeavy {
    fn check(&self) -> Result<(), RangeError> {
        range::rounds("YieldHeavy.rounds", self.rounds)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        loop {
            burn(self.rounds);
            sched_yield();
            turn(worker, 1)?;
        }
    }
}
