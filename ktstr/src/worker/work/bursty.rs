//! Work that comes in bursts: wake-ups into a busy or idle machine.

use super::super::shared::monotonic_ns;
use super::{Ended, Links, Meter, Work, burn};

/// See `WorkType::Bursty`.
pub struct Bursty;

/// Rounds of arithmetic in a unit.
const ROUNDS: u32 = 1024;
/// Length of a burst, in ns of wall time.
const BURST_NS: u64 = 5_000_000;
/// Rest between two bursts, in ns.
const REST_NS: u64 = 10_000_000;

impl Work for Bursty {
    fn run(meter: &mut Meter<'_>, _: usize, _: Option<&Links>) -> Ended {
        loop {
            let began_ns = monotonic_ns();
            let mut units = 0;
            while monotonic_ns().saturating_sub(began_ns) < BURST_NS {
                burn(ROUNDS);
                units += 1;
            }
            if !meter.turn(units) {
                return Ended::Told;
            }
            meter.rest(REST_NS);
        }
    }
}
