//! Many workers that are woken for what only one can have.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::time::Duration;

use super::super::member::{burn, wake};
use super::{Ended, Gang, Never, RangeError, Work, Worker, range, turn};

/// The group's first worker posts one job at a time and wakes all others, of which one gets it and the rest sleep again.
/// Stresses a burst of wake-ups that are mostly for nothing.
///
/// A unit of the first worker is a job, of the others a wake-up. The wake latency is from before the wake until the worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThunderingHerd {
    /// Time between two jobs, 1 µs to 10 s. Default: 1 ms.
    pub interval: Duration,
    /// Rounds of arithmetic of a job, 1 to 10000000. Default: 4096.
    pub rounds: u32,
}

impl Default for ThunderingHerd {
    fn default() -> Self {
        Self { interval: Duration::from_millis(1), rounds: 4096 }
    }
}

impl Work for ThunderingHerd {
    const GANG: Gang = Gang::Group { min: 2 };

    fn check(&self) -> Result<(), RangeError> {
        range::time("ThunderingHerd.interval", self.interval)?;
        range::rounds("ThunderingHerd.rounds", self.rounds)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        let board = worker.board()?;
        if worker.member == 0 {
            loop {
                // A job that nobody took yet stays the only one.
                board.other.store(1, Release);
                board.stamp_ns.store(worker.now_ns(), Release);
                board.word.fetch_add(1, Release);
                wake(&board.word, i32::MAX.cast_unsigned());
                turn(worker, 1)?;
                worker.rest(self.interval);
            }
        }
        let mut seen = 0;
        loop {
            worker.sleep_on(&board.word, seen)?;
            seen = board.word.load(Acquire);
            worker.note_wake(board.stamp_ns.load(Acquire));
            if board.other.compare_exchange(1, 0, AcqRel, Acquire).is_ok() {
                burn(self.rounds);
            }
            turn(worker, 1)?;
        }
    }
}
