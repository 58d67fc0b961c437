//! How much of the guest's time the stores to one target may take.

use std::time::Duration;

use guest_init::message::WatchOrder;

/// The time over which stops are added up.
const WINDOW: Duration = Duration::from_millis(500);
/// The most of it that may be stops. So a guest whose hottest variable is watched gets four fifths of its time.
const MOST: Duration = Duration::from_millis(100);

/// What the emulator takes to stop and to go on, at least.
const STOP_AND_GO: Duration = Duration::from_micros(500);
/// The most that counts of one of the first stops.
const USUAL: Duration = Duration::from_millis(5);

/// What counts of a stop that `took` so long, the `nth` for the same reason. A usual number of fires must not make a watch rest when the
/// store that matters may be the next one, nor must a scheduler that comes and goes.
pub(super) fn cost(took: Duration, nth: u64) -> Duration {
    let counted = if nth <= u64::from(WatchOrder::MAX_FIRES) { took.min(USUAL) } else { took };
    counted + STOP_AND_GO
}

/// The stops of one watch.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// Running time at which the window began.
    begun: Duration,
    /// Stops in it.
    stopped: Duration,
}

impl Pacing {
    /// The machine was stopped for `stop` when it had run for `running`. `Some`: that was too much, and the watch should rest until
    /// the machine has run that long.
    pub(super) fn stop(&mut self, running: Duration, stop: Duration) -> Option<Duration> {
        if running.saturating_sub(self.begun) >= WINDOW {
            *self = Self { begun: running, stopped: Duration::ZERO };
        }
        self.stopped += stop;
        if self.stopped < MOST {
            return None;
        }
        // Long enough that the stops were at most their share, however long one of them took.
        let rest = self.stopped * (WINDOW.as_millis() / MOST.as_millis()) as u32;
        let until = self.begun + rest.max(WINDOW);
        *self = Self { begun: until, stopped: Duration::ZERO };
        Some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_stops_seldom_never_rests() {
        let mut pacing = Pacing::default();
        for nth in 0..100 {
            assert_eq!(pacing.stop(MS * 50 * nth, MS * 5), None, "{nth}");
        }
    }

    #[test]
    fn a_pointer_that_moves_seldom_never_rests_and_one_that_moves_always_does() {
        // A scheduler that is loaded again stores to its pointer twice, and finding its variables takes a while.
        let mut pacing = Pacing::default();
        for nth in 0..40_u32 {
            assert_eq!(pacing.stop(MS * 250 * nth, cost(MS * 60, u64::from(nth) + 1)), None, "{nth}");
        }
        // The pointer to the task of a CPU.
        let mut pacing = Pacing::default();
        assert!((1..40_u32).any(|nth| pacing.stop(MS * nth, cost(MS * 60, u64::from(nth))).is_some()));
        assert_eq!(cost(MS * 60, 1000), MS * 60 + STOP_AND_GO);
    }

    #[test]
    fn stops_are_at_most_a_fifth_of_the_time() {
        let mut pacing = Pacing::default();
        let (mut running, mut stopped) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..10_000 {
            running += MS / 10;
            stopped += MS;
            if let Some(until) = pacing.stop(running, MS) {
                assert!(until > running);
                running = until;
            }
        }
        assert!(stopped <= running.mul_f64(0.22), "{stopped:?} of {running:?}");
        // One long stop rests for its share, too.
        let until = pacing.stop(running, MS * 1000).expect("too much");
        assert!(until >= running + MS * 4000, "{until:?}");
    }
}
