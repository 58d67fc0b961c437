//! How often probes may stop the guest.
//!
//! A stop takes no guest time, but what follows it does: the emulator has forgotten all that it had translated, and translates anew
//! (`gdb_vm_state_change` of QEMU's `gdbstub/system.c`). A vCPU that is stopped again before that is done gets nowhere: not to the
//! workers, and not to the kernel's threads, of which sched_ext's watchdog is one.

use std::time::Duration;

/// The running time over which stops are counted.
const WINDOW: Duration = Duration::from_millis(500);
/// The most of them in it, of all probes together.
const MOST: u64 = 400;

/// The stops of all probes.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// Running time at which the window began.
    begun: Duration,
    /// Stops in it, by probe.
    stops: Vec<u64>,
}

/// A probe that should rest until the machine has run that long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    pub probe: usize,
    pub until: Duration,
}

impl Pacing {
    /// `probe` stopped the machine when that had run for `running`. `Some`: that was too often, and the probe that stops it most should
    /// rest, for long enough that the guest gets on.
    pub(super) fn stop(&mut self, running: Duration, probe: usize) -> Option<Rest> {
        if running.saturating_sub(self.begun) >= WINDOW {
            *self = Self { begun: running, stops: Vec::new() };
        }
        if self.stops.len() <= probe {
            self.stops.resize(probe + 1, 0);
        }
        if let Some(stops) = self.stops.get_mut(probe) {
            *stops += 1;
        }
        if self.stops.iter().sum::<u64>() < MOST {
            return None;
        }
        let (probe, stops) = self.stops.iter_mut().enumerate().max_by_key(|(_, stops)| **stops)?;
        *stops = 0;
        Some(Rest { probe, until: self.begun + 2 * WINDOW })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn five_hundred_calls_a_second_are_no_reason_to_rest() {
        let mut pacing = Pacing::default();
        for nth in 0..5000_u32 {
            assert_eq!(pacing.stop(MS * 2 * nth, nth as usize % 3), None, "{nth}");
        }
    }

    #[test]
    fn the_probe_that_stops_the_guest_most_rests_and_the_others_do_not() {
        let mut pacing = Pacing::default();
        let (mut rest, mut running) = (None, Duration::ZERO);
        for nth in 0.. {
            running = MS / 10 * nth;
            rest = pacing.stop(running, if nth % 10 == 0 { 0 } else { 1 });
            if rest.is_some() {
                break;
            }
        }
        let rest = rest.expect("a rest");
        assert!(rest.probe == 1 && rest.until >= running + WINDOW, "{rest:?} at {running:?}");
        // The other one goes on.
        assert_eq!(pacing.stop(running + MS, 0), None);
    }

    #[test]
    fn however_hot_a_function_is_the_guest_runs_half_the_time_undisturbed() {
        let mut pacing = Pacing::default();
        let (mut running, mut rested) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..20_000 {
            running += MS / 20;
            if let Some(Rest { until, .. }) = pacing.stop(running, 0) {
                assert!(until > running);
                rested += until - running;
                running = until;
            }
        }
        assert!(rested >= running / 2, "{rested:?} of {running:?}");
    }
}
