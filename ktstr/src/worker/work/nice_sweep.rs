//! Work that changes its nice value.

use rustix::process::{getpriority_process, setpriority_process};

use super::super::member::burn;
use super::{Ended, Never, RangeError, Work, Worker, range, turn};

/// Computes with one nice value after the other, from the lowest to the highest, and again. Stresses the change of a task's
/// weight while it is queued and accounted. Only root may begin again, which lowers the value.
///
/// A unit is a change that the kernel tells back. At the end it has the value that it had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NiceSweep {
    /// Lowest nice value, -20 to 19. Default: -20.
    pub from: i32,
    /// Highest nice value, -20 to 19 and above `from`. Default: 19.
    pub to: i32,
    /// Rounds of arithmetic with each, 1 to 10000000. Default: 4096.
    pub rounds: u32,
}

impl Default for NiceSweep {
    fn default() -> Self {
        Self { from: -20, to: 19, rounds: 4096 }
    }
}

impl Work for NiceSweep {
    fn check(&self) -> Result<(), RangeError> {
        let is_good = -20 <= self.from && self.from < self.to && self.to <= 19;
        let value = || format!("{}..{}", self.from, self.to);
        range::good(is_good, "NiceSweep.from..to", value, "ascending, within -20 to 19")?;
        range::rounds("NiceSweep.rounds", self.rounds)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        let before = getpriority_process(None)?;
        let ended = self.sweep(worker);
        // For the next work of a sequence. It was set before; if not now, the worker ends all the same.
        let _ = setpriority_process(None, before);
        ended
    }
}

impl NiceSweep {
    fn sweep(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        loop {
            for nice in self.from..=self.to {
                setpriority_process(None, nice)?;
                let units = u64::from(getpriority_process(None)? == nice);
                burn(self.rounds);
                turn(worker, units)?;
            }
        }
    }
}
