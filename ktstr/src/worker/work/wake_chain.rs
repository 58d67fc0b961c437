//! Workers that wake each other in a ring.

use super::super::member::burn;
use super::post::{post, take};
use super::{Ended, Gang, Never, RangeError, Work, Worker, range, turn};

/// The group is a ring in which each worker wakes the next one and then sleeps: one of them runs at any time. Stresses work
/// that wanders: every wake-up is by another waker than the last.
///
/// A unit is a wake-up. The wake latency is from before the wake until the next one runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeChain {
    /// Rounds of arithmetic before each wake, 1 to 10000000. Default: 1024.
    pub rounds: u32,
}

impl Default for WakeChain {
    fn default() -> Self {
        Self { rounds: 1024 }
    }
}

impl Work for WakeChain {
    const GANG: Gang = Gang::Group { min: 2 };

    fn check(&self) -> Result<(), RangeError> {
        range::rounds("WakeChain.rounds", self.rounds)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        let (own, next) = (worker.mailbox(worker.member)?, worker.mailbox(worker.member + 1)?);
        let mut taken = 0;
        if worker.member == 0 {
            post(worker, next);
        }
        loop {
            take(worker, own, &mut taken)?;
            burn(self.rounds);
            post(worker, next);
            turn(worker, 1)?;
        }
    }
}
