//! Pairs of workers that wake each other through futexes.

use super::super::member::burn;
use super::post::{post, take};
use super::{Ended, Gang, Never, RangeError, Work, Worker, range, turn};

/// Pairs of which each wakes the other and then sleeps. Stresses wake-ups at their highest rate, with nothing else in the way.
///
/// A unit is a round trip. The wake latency is from before the wake until the other runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutexPingPong {
    /// Rounds of arithmetic before each wake, 1 to 10000000. Default: 64.
    pub rounds: u32,
}

impl Default for FutexPingPong {
    fn default() -> Self {
        Self { rounds: 64 }
    }
}

impl Work for FutexPingPong {
    const GANG: Gang = Gang::Of(2);

    fn check(&self) -> Result<(), RangeError> {
        range::rounds("FutexPingPong.rounds", self.rounds)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        let (own, other) = (worker.mailbox(worker.member)?, worker.mailbox(worker.member + 1)?);
        let mut taken = 0;
        if worker.member == 0 {
            post(worker, other);
        }
        loop {
            take(worker, own, &mut taken)?;
            burn(self.rounds);
            post(worker, other);
            turn(worker, 1)?;
        }
    }
}
