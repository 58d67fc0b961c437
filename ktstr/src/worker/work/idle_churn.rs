//! Work that lets its CPU fall idle all the time.

use std::time::Duration;

use super::super::member::burn;
use super::{Ended, Never, RangeError, Work, Worker, range, turn};

/// Sleeps for so short a time, again and again, that its CPU goes idle and comes back thousands of times in a second. Stresses
/// the choice of an idle CPU, and whoever believes that an idle CPU stays so.
///
/// A unit is a sleep. How much longer than asked it slept is its timer latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleChurn {
    /// Rounds of arithmetic between two sleeps, 1 to 10000000. Default: 1024.
    pub rounds: u32,
    /// How long it sleeps, 1 µs to 10 s. Default: 200 µs.
    pub idle: Duration,
}

impl Default for IdleChurn {
    fn default() -> Self {
        Self { rounds: 1024, idle: Duration::from_micros(200) }
    }
}

impl Work for IdleChurn {
    fn check(&self) -> Result<(), RangeError> {
        range::rounds("IdleChurn.rounds", self.rounds)?;
        range::time("IdleChurn.idle", self.idle)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        loop {
            burn(self.rounds);
            worker.rest(self.idle);
            turn(worker, 1)?;
        }
    }
}
