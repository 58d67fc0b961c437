//! Work that changes its own CPUs.

use rustix::thread::sched_getcpu;

use super::super::member::burn;
use super::super::sys::{affinity, mask_of, next_in, set_affinity};
use super::{Ended, Never, RangeError, Work, Worker, range, turn};

/// Pins itself to one of its CPUs after the other. Stresses migrations that the scheduler did not choose, and its care for the
/// CPUs that a task may use.
///
/// A unit is a change after which it ran on the CPU that it asked for. At the end it may use all its CPUs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AffinityChurn {
    /// Rounds of arithmetic on each CPU, 1 to 10000000. Default: 4096.
    pub rounds: u32,
}

impl Default for AffinityChurn {
    fn default() -> Self {
        Self { rounds: 4096 }
    }
}

impl Work for AffinityChurn {
    fn check(&self) -> Result<(), RangeError> {
        range::rounds("AffinityChurn.rounds", self.rounds)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        let allowed = affinity()?;
        let mut cpu = sched_getcpu();
        let ended = loop {
            cpu = next_in(&allowed, cpu).unwrap_or(cpu);
            if let Err(errno) = set_affinity(0, &mask_of(cpu)) {
                break errno.into();
            }
            let units = u64::from(sched_getcpu() == cpu);
            burn(self.rounds);
            if let Err(ended) = turn(worker, units) {
                break ended;
            }
        };
        // Of use to the next work of a sequence only; if the cpuset has changed, the worker has got CPUs of that.
        let _ = set_affinity(0, &allowed);
        Err(ended)
    }
}
