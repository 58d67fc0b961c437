//! How much of the guest's time the stores to one target may take.

use std::time::Duration;

/// The time over which stops are added up.
const WINDOW: Duration = Duration::from_millis(500);
/// The most of it that may be stops. So a guest whose hottest variable is watched gets four fifths of its time.
const MOST: Duration = Duration::from_millis(100);

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
