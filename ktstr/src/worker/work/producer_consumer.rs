//! Workers that fill a queue and workers that empty it.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use super::super::member::{burn, wake};
use super::{Ended, Gang, Never, RangeError, Work, Worker, range, turn};

/// The group's workers with even numbers put items into a bounded queue, those with odd numbers take them. Who finds it full or
/// empty sleeps. Stresses wake-ups between tasks of unequal speed: the scheduler decides which side waits.
///
/// A unit is an item, which is nothing but its place. The wake latency is of workers that had to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerConsumer {
    /// Items that the queue holds, 1 to 65536. Default: 16.
    pub depth: u32,
    /// Rounds of arithmetic to make an item, 1 to 10000000. Default: 1024.
    pub produce: u32,
    /// Rounds of arithmetic to use an item, 1 to 10000000. Default: 1024.
    pub consume: u32,
}

impl Default for ProducerConsumer {
    fn default() -> Self {
        Self { depth: 16, produce: 1024, consume: 1024 }
    }
}

impl Work for ProducerConsumer {
    const GANG: Gang = Gang::Group { min: 2 };

    fn check(&self) -> Result<(), RangeError> {
        range::number("ProducerConsumer.depth", self.depth.into(), 1..=65_536, "from 1 to 65536")?;
        range::rounds("ProducerConsumer.produce", self.produce)?;
        range::rounds("ProducerConsumer.consume", self.consume)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        loop {
            if worker.member.is_multiple_of(2) {
                burn(self.produce);
                self.put(worker)?;
            } else {
                take(worker)?;
                burn(self.consume);
            }
            turn(worker, 1)?;
        }
    }
}

// `board.word` counts the items that were ever put, `board.other` those that were ever taken.

impl ProducerConsumer {
    fn put(&self, worker: &mut Worker<'_>) -> Result<(), Ended> {
        let (board, taken_at) = (worker.board()?, worker.mailbox(0)?);
        let mut slept = false;
        loop {
            let taken = board.other.load(Acquire);
            let put = board.word.load(Acquire);
            if put.wrapping_sub(taken) >= self.depth {
                worker.sleep_on(&board.other, taken)?;
                slept = true;
            } else if board.word.compare_exchange(put, put.wrapping_add(1), AcqRel, Acquire).is_ok() {
                break;
            }
        }
        if slept {
            worker.note_wake(taken_at.stamp_ns.load(Acquire));
        }
        board.stamp_ns.store(worker.now_ns(), Release);
        wake(&board.word, 1);
        Ok(())
    }
}

fn take(worker: &mut Worker<'_>) -> Result<(), Ended> {
    let (board, taken_at) = (worker.board()?, worker.mailbox(0)?);
    let mut slept = false;
    loop {
        let taken = board.other.load(Acquire);
        let put = board.word.load(Acquire);
        if put == taken {
            worker.sleep_on(&board.word, put)?;
            slept = true;
        } else if board.other.compare_exchange(taken, taken.wrapping_add(1), AcqRel, Acquire).is_ok() {
            break;
        }
    }
    if slept {
        worker.note_wake(board.stamp_ns.load(Acquire));
    }
    taken_at.stamp_ns.store(worker.now_ns(), Release);
    wake(&board.other, 1);
    Ok(())
}
