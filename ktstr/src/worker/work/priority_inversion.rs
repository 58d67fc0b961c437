//! Three workers of which the most important waits for the least important one.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::setpriority_process;
use rustix::thread::{futex, gettid};

use super::super::settings::SchedPolicy;
use super::super::slot::Mailbox;
use super::super::sys::set_policy;
use super::lock::{lock, unlock};
use super::{Ended, Gang, Never, RangeError, Work, Worker, range, turn};

/// By threes: the first worker, of low priority, holds a mutex while it computes; the second, of middle priority, only
/// computes; the third, of high priority, wants the mutex now and then. On one CPU the second keeps the first from giving
/// the mutex to the third. Stresses what a scheduler does about that.
///
/// A unit of the first and third is a time that they had the mutex, of the second 1024 rounds of arithmetic. The third's wake latency is
/// from when the mutex was given back until it ran; how long it waited shows in its `max_gap_ns`. Needs root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriorityInversion {
    /// How long the first holds the mutex, of wall time, 1 µs to 1 s. Default: 2 ms.
    pub hold: Duration,
    /// Time between two wishes of the third, and between two computations of the second, 1 µs to 10 s. Default: 5 ms.
    pub rest: Duration,
    /// Priorities are `SCHED_FIFO` 1, 2 and 3, in place of nice values 19, 0 and -20. Default: false.
    pub realtime: bool,
    /// The mutex lends the priority of who waits to who has it (`FUTEX_LOCK_PI`). Default: false.
    pub inherit: bool,
}

impl Default for PriorityInversion {
    fn default() -> Self {
        let (hold, rest) = (Duration::from_millis(2), Duration::from_millis(5));
        Self { hold, rest, realtime: false, inherit: false }
    }
}

impl Work for PriorityInversion {
    const GANG: Gang = Gang::Of(3);

    fn check(&self) -> Result<(), RangeError> {
        let is_good = (Duration::from_micros(1)..=Duration::from_secs(1)).contains(&self.hold);
        range::good(is_good, "PriorityInversion.hold", || format!("{:?}", self.hold), "from 1 µs to 1 s")?;
        range::time("PriorityInversion.rest", self.rest)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        let (nice, priority) = match worker.member {
            0 => (19, 1),
            1 => (0, 2),
            _ => (-20, 3),
        };
        match self.realtime {
            true => set_policy(SchedPolicy::Fifo(priority))?,
            false => setpriority_process(None, nice)?,
        }
        let mutex = worker.board()?;
        loop {
            let units = match worker.member {
                0 => {
                    self.lock(worker, mutex)?;
                    worker.compute(self.hold);
                    self.unlock(worker, mutex)?;
                    1
                }
                1 => {
                    // Four times as long as it rests, so that it is mostly in the way.
                    let units = worker.compute(self.rest.saturating_mul(4));
                    worker.rest(self.rest);
                    units
                }
                _ => {
                    worker.rest(self.rest);
                    self.lock(worker, mutex)?;
                    self.unlock(worker, mutex)?;
                    1
                }
            };
            turn(worker, units)?;
        }
    }
}

impl PriorityInversion {
    fn lock(&self, worker: &mut Worker<'_>, mutex: &Mailbox) -> Result<(), Ended> {
        if !self.inherit {
            return lock(worker, mutex);
        }
        let free = mutex.word.compare_exchange(0, own_id(), Acquire, Relaxed);
        if free.is_ok() {
            return Ok(());
        }
        while let Err(errno) = futex::lock_pi(&mutex.word, futex::Flags::empty(), None) {
            if !matches!(errno, Errno::INTR | Errno::AGAIN) {
                return Err(errno.into());
            }
        }
        worker.note_wake(mutex.stamp_ns.load(Acquire));
        Ok(())
    }

    fn unlock(&self, worker: &Worker<'_>, mutex: &Mailbox) -> Result<(), Ended> {
        if !self.inherit {
            unlock(worker, mutex);
            return Ok(());
        }
        mutex.stamp_ns.store(worker.now_ns(), Release);
        release(&mutex.word)
    }
}

fn release(word: &AtomicU32) -> Result<(), Ended> {
    // The kernel has set a bit of the word if others wait.
    if word.compare_exchange(own_id(), 0, AcqRel, Relaxed).is_err() {
        futex::unlock_pi(word, futex::Flags::empty())?;
    }
    Ok(())
}

fn own_id() -> u32 {
    gettid().as_raw_pid().cast_unsigned()
}
