//! One worker that wakes all others at once.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use super::super::member::{burn, wake};
use super::post::{post, take};
use super::{Ended, Gang, Never, RangeError, Work, Worker, range, turn};

/// The group's first worker wakes all others by one call; each works a little, and the last to finish wakes the first. Stresses
/// the placement of many tasks that become runnable at once.
///
/// A unit is a round. The wake latency is from before the wake until the worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutexFanOut {
    /// Rounds of arithmetic of each woken worker, 1 to 10000000. Default: 1024.
    pub rounds: u32,
}

impl Default for FutexFanOut {
    fn default() -> Self {
        Self { rounds: 1024 }
    }
}

impl Work for FutexFanOut {
    const GANG: Gang = Gang::Group { min: 2 };

    fn check(&self) -> Result<(), RangeError> {
        range::rounds("FutexFanOut.rounds", self.rounds)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        if worker.member == 0 { send(worker) } else { self.receive(worker) }
    }
}

fn send(worker: &mut Worker<'_>) -> Result<Never, Ended> {
    let (board, own) = (worker.board()?, worker.mailbox(0)?);
    let others = u32::try_from(worker.gang_size() - 1).unwrap_or(u32::MAX);
    let mut taken = 0;
    loop {
        board.waiters.store(others, Release);
        board.stamp_ns.store(worker.now_ns(), Release);
        board.word.fetch_add(1, Release);
        wake(&board.word, others);
        take(worker, own, &mut taken)?;
        turn(worker, 1)?;
    }
}

impl FutexFanOut {
    fn receive(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        let (board, first) = (worker.board()?, worker.mailbox(0)?);
        let mut round = 0_u32;
        loop {
            worker.sleep_on(&board.word, round)?;
            round = round.wrapping_add(1);
            worker.note_wake(board.stamp_ns.load(Acquire));
            burn(self.rounds);
            if board.waiters.fetch_sub(1, AcqRel) == 1 {
                post(worker, first);
            }
            turn(worker, 1)?;
        }
    }
}
