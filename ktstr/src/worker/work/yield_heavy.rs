//! Work that asks the scheduler for a decision all the time.

use rustix::thread::sched_yield;

use super::{Ended, Links, Meter, Work, burn};

/// See `WorkType::YieldHeavy`.
pub struct YieldHeavy;

/// Rounds of arithmetic between two yields.
const ROUNDS: u32 = 64;

impl Work for YieldHeavy {
    fn run(meter: &mut Meter<'_>, _: usize, _: Option<&Links>) -> Ended {
        loop {
            burn(ROUNDS);
            sched_yield();
            if !meter.turn(1) {
                return Ended::Told;
            }
        }
    }
}
