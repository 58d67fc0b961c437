//! One worker that keeps its CPU from the others for long.

use std::time::Duration;

use super::super::member::burn;
use super::super::settings::SchedPolicy;
use super::super::sys::set_policy;
use super::{Ended, Gang, Never, RangeError, Work, Worker, range, turn};

/// The group's first worker is `SCHED_FIFO` and computes for long without a break; all others compute at their own policy. Stresses
/// starvation by a higher class: tasks of a sched_ext scheduler wait on a CPU that it does not have, until the kernel's deadline
/// server or the real-time limit gives it back. Pin the group to one CPU to see all of it. Needs root.
///
/// A unit is 1024 rounds of arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtStarvation {
    /// How long the first worker computes, of wall time, 1 µs to 5 s. Default: 200 ms.
    pub busy: Duration,
    /// How long it sleeps then, 1 µs to 10 s. Default: 50 ms.
    pub rest: Duration,
    /// Its priority, 1 to 99. Default: 50.
    pub priority: u32,
}

impl Default for RtStarvation {
    fn default() -> Self {
        Self { busy: Duration::from_millis(200), rest: Duration::from_millis(50), priority: 50 }
    }
}

impl Work for RtStarvation {
    const GANG: Gang = Gang::Group { min: 2 };

    fn check(&self) -> Result<(), RangeError> {
        // It does not see that it is to end while it computes.
        let is_good = (Duration::from_micros(1)..=Duration::from_secs(5)).contains(&self.busy);
        range::good(is_good, "RtStarvation.busy", || format!("{:?}", self.busy), "from 1 µs to 5 s")?;
        range::time("RtStarvation.rest", self.rest)?;
        range::number("RtStarvation.priority", self.priority.into(), 1..=99, "from 1 to 99")
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        if worker.member != 0 {
            loop {
                burn(1024);
                turn(worker, 1)?;
            }
        }
        set_policy(SchedPolicy::Fifo(self.priority))?;
        loop {
            let units = worker.compute(self.busy);
            turn(worker, units)?;
            worker.rest(self.rest);
        }
    }
}
