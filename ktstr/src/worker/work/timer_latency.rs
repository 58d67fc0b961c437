//! Work that measures how late its timer is.

use std::num::NonZeroU64;
use std::time::Duration;

use ktstr_replay::units::nanos;
use rustix::io::Errno;
use rustix::thread::{clock_nanosleep_absolute, set_current_timer_slack};
use rustix::time::ClockId;

use super::super::clock::timespec;
use super::{Ended, Never, RangeError, Work, Worker, range, turn};

/// Sleeps until fixed times (`clock_nanosleep(2)`) and notes how much later it runs, as cyclictest does. Stresses, and measures,
/// the way from a timer's interrupt to a running task.
///
/// A unit is a sleep. The timer's slack is 1 ns; a sleep whose time had passed already counts with its whole delay, and the
/// times after it are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerLatency {
    /// Time between two timers, 1 µs to 10 s. Default: 1 ms.
    pub interval: Duration,
}

impl Default for TimerLatency {
    fn default() -> Self {
        Self { interval: Duration::from_millis(1) }
    }
}

impl Work for TimerLatency {
    fn check(&self) -> Result<(), RangeError> {
        // The sleep is not cut short when the worker is to end.
        let is_good = (Duration::from_micros(1)..=Duration::from_secs(1)).contains(&self.interval);
        range::good(is_good, "TimerLatency.interval", || format!("{:?}", self.interval), "from 1 µs to 1 s")
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        set_current_timer_slack(NonZeroU64::new(1))?;
        let ended = self.sleep(worker);
        // The default again, for the next work of a sequence.
        let _ = set_current_timer_slack(None);
        ended
    }
}

impl TimerLatency {
    fn sleep(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        let interval_ns = nanos(self.interval);
        let mut due_ns = worker.now_ns();
        loop {
            due_ns = due_ns.saturating_add(interval_ns);
            let due = timespec(due_ns);
            while let Err(errno) = clock_nanosleep_absolute(ClockId::Monotonic, &due) {
                if errno != Errno::INTR {
                    return Err(errno.into());
                }
            }
            worker.note_timer(due_ns);
            turn(worker, 1)?;
            due_ns = due_ns.max(worker.now_ns().saturating_sub(interval_ns));
        }
    }
}
