//! Workers that want the same mutex.

use super::super::member::burn;
use super::lock::{lock, unlock};
use super::{Ended, Gang, Never, RangeError, Work, Worker, range, turn};

/// All workers of the group take one mutex, over and over. Stresses a scheduler that preempts the owner: then everybody waits.
///
/// A unit is a time that it had the mutex. The wake latency is of workers that had to sleep for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MutexContention {
    /// Rounds of arithmetic with the mutex, 1 to 10000000. Default: 4096.
    pub inside: u32,
    /// Rounds of arithmetic without it, 1 to 10000000. Default: 1024.
    pub outside: u32,
}

impl Default for MutexContention {
    fn default() -> Self {
        Self { inside: 4096, outside: 1024 }
    }
}

impl Work for MutexContention {
    const GANG: Gang = Gang::Group { min: 2 };

    fn check(&self) -> Result<(), RangeError> {
        range::rounds("MutexContention.inside", self.inside)?;
        range::rounds("MutexContention.outside", self.outside)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        let mutex = worker.board()?;
        loop {
            lock(worker, mutex)?;
            burn(self.inside);
            unlock(worker, mutex);
            burn(self.outside);
            turn(worker, 1)?;
        }
    }
}
