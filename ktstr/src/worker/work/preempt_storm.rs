//! One worker that preempts the others.

use std::time::Duration;

use super::super::member::burn;
use super::super::settings::SchedPolicy;
use super::super::sys::set_policy;
use super::{Ended, Gang, Never, RangeError, Work, Worker, range, turn};

/// The group's first worker is `SCHED_FIFO` and wakes up for a moment, again and again; all others compute without a break.
/// Stresses being preempted by a higher class: a sched_ext scheduler loses the CPU and gets it back (`cpu_release`,
/// `cpu_acquire`). Pin the group to few CPUs to see most of it. Needs root.
///
/// A unit is a wake-up of the first worker, and 1024 rounds of arithmetic of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreemptStorm {
    /// Time between two preemptions, 1 µs to 10 s. Default: 500 µs.
    pub interval: Duration,
    /// Rounds of arithmetic of each, 1 to 10000000. Default: 1024.
    pub rounds: u32,
    /// The first worker's priority, 1 to 99. Default: 1.
    pub priority: u32,
}

impl Default for PreemptStorm {
    fn default() -> Self {
        Self { interval: Duration::from_micros(500), rounds: 1024, priority: 1 }
    }
}

impl Work for PreemptStorm {
    const GANG: Gang = Gang::Group { min: 2 };

    fn check(&self) -> Result<(), RangeError> {
        range::time("PreemptStorm.interval", self.interval)?;
        range::rounds("PreemptStorm.rounds", self.rounds)?;
        range::number("PreemptStorm.priority", self.priority.into(), 1..=99, "from 1 to 99")
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        if worker.member == 0 {
            set_policy(SchedPolicy::Fifo(self.priority))?;
        }
        loop {
            if worker.member == 0 {
                worker.rest(self.interval);
                burn(self.rounds);
            } else {
                burn(1024);
            }
            turn(worker, 1)?;
        }
    }
}
