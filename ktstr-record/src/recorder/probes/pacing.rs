//! How often probes may stop the guest.
//!
//! A stop takes no guest time, but what follows it does: an emulator before QEMU 10.2 has forgotten all that it had translated, and
//! translates anew. A vCPU that is stopped again before that is done gets nowhere: not to the
//! workers, and not to the kernel's threads, of which sched_ext's watchdog is one.

use std::time::Duration;

/// The running time over which disturbed time is added up.
const WINDOW: Duration = Duration::from_secs(1);
/// The most of it that may be disturbed, by all probes together: the guest has the rest for itself.
const MOST: Duration = Duration::from_millis(500);

/// A probe that has stopped the guest less often than that in a window does not rest: its calls are few, and may be those that matter.
const FEW: u64 = 3;

/// The time that all probes have disturbed.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// Running time at which the window began.
    begun: Duration,
    /// Disturbed time in it.
    disturbed: Duration,
    /// Running time at the last stop.
    last: Option<Duration>,
    /// Stops in the window, by probe.
    stops: Vec<u64>,
}

/// A probe that should rest until the machine has run that long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    pub probe: usize,
    pub until: Duration,
}

impl Pacing {
    /// `probe` stopped the machine when that had run for `running`, which disturbs it for as long as `disturbed`. `Some`: the guest was disturbed for too long, and the probe that
    /// stopped it most should rest to the window's end.
    pub(super) fn stop(&mut self, running: Duration, disturbed: Duration, probe: usize) -> Option<Rest> {
        if running.saturating_sub(self.begun) >= WINDOW {
            *self = Self { begun: running, last: self.last, ..Self::default() };
        }
        let since = self.last.replace(running).map_or(disturbed, |last| running.saturating_sub(last));
        self.disturbed += since.min(disturbed);
        if self.stops.len() <= probe {
            self.stops.resize(probe + 1, 0);
        }
        if let Some(stops) = self.stops.get_mut(probe) {
            *stops += 1;
        }
        if self.disturbed < MOST {
            return None;
        }
        let most = self.stops.iter_mut().enumerate().max_by_key(|(_, stops)| **stops);
        let (probe, stops) = most.filter(|(_, stops)| **stops >= FEW)?;
        *stops = 0;
        Some(Rest { probe, until: self.begun + WINDOW })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_called_seldom_or_in_short_bursts_never_rests() {
        let mut pacing = Pacing::default();
        for nth in 0..500_u32 {
            assert_eq!(pacing.stop(MS * 25 * nth, MS * 10, nth as usize % 3), None, "{nth}");
        }
        // Four hundred calls in 400 ms, and a pause.
        let mut pacing = Pacing::default();
        for burst in 0..5_u32 {
            for nth in 0..400 {
                assert_eq!(pacing.stop(MS * (1000 * burst + nth), MS * 10, 0), None, "{burst}, {nth}");
            }
        }
    }

    #[test]
    fn five_hundred_calls_a_second_never_rest_where_a_stop_disturbs_less_than_a_millisecond() {
        let mut pacing = Pacing::default();
        for nth in 0..5000_u32 {
            assert_eq!(pacing.stop(MS * 2 * nth, MS * 8 / 10, 0), None, "{nth}");
        }
    }

    #[test]
    fn the_probe_that_stops_the_guest_most_rests_first() {
        let mut pacing = Pacing::default();
        let rests: Vec<(usize, Rest)> = (0..1000_usize)
            .filter_map(|nth| Some((nth, pacing.stop(MS * nth as u32, MS * 10, usize::from(nth % 10 != 0))?)))
            .collect();
        let (nth, first) = rests[0];
        assert_eq!(first, Rest { probe: 1, until: MS * 1000 }, "after {nth}");
        assert!((490..=510).contains(&nth), "{nth}");
        assert!(rests.iter().any(|(_, rest)| rest.probe == 0), "the guest has half of the time for itself");
        // One that is called now and then is not taken away for the others.
        let mut pacing = Pacing::default();
        let rests = (0..1000_usize)
            .filter_map(|nth| pacing.stop(MS * nth as u32, MS * 10, usize::from(nth % 600 == 9)));
        assert!(rests.map(|rest| rest.probe).all(|probe| probe == 0));
    }

    #[test]
    fn however_hot_a_function_is_the_guest_has_half_of_the_time_for_itself() {
        let mut pacing = Pacing::default();
        let (mut running, mut rested) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..200_000 {
            running += MS / 20;
            if let Some(Rest { until, .. }) = pacing.stop(running, MS * 10, 0) {
                assert!(until > running);
                rested += until - running;
                running = until;
            }
        }
        assert!(rested >= running.mul_f64(0.49), "{rested:?} of {running:?}");
    }
}
