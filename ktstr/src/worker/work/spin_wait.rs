//! Work that never leaves the CPU on its own.

use super::{Ended, Links, Meter, Work, burn};

/// See `WorkType::SpinWait`.
pub struct SpinWait;

/// Rounds of arithmetic in a unit.
const ROUNDS: u32 = 1024;

impl Work for SpinWait {
    fn run(meter: &mut Meter<'_>, _: usize, _: Option<&Links>) -> Ended {
        loop {
            burn(ROUNDS);
            if !meter.turn(1) {
                return Ended::Told;
            }
        }
    }
}
