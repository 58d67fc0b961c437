//! When periodic captures are due.

use std::time::Duration;

/// The boundaries of `count` periodic captures over a workload window, counted from the start of the body.
///
/// Boundary i of N lies at `0.1 d + (i + 1) * 0.8 d / (N + 1)`: the first and the last tenth of the window are
/// left to warm-up and wind-down.
#[derive(Clone, Debug)]
pub struct Cadence {
    window: Duration,
    count: u32,
    next: u32,
}

impl Cadence {
    /// `count` captures over `window`.
    pub fn new(window: Duration, count: u32) -> Self {
        Self { window, count, next: 0 }
    }

    /// Index of the next capture and its distance from the start of the body; `None` when all were taken.
    pub fn due(&self) -> Option<(u32, Duration)> {
        (self.next < self.count).then(|| (self.next, self.boundary(self.next)))
    }

    /// The next capture was taken, or given up.
    pub fn advance(&mut self) {
        self.next += 1;
    }

    fn boundary(&self, index: u32) -> Duration {
        let step = self.window.mul_f64(0.8) / (self.count + 1);
        self.window.mul_f64(0.1) + step * (index + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_leave_the_first_and_last_tenth_alone() {
        let mut cadence = Cadence::new(Duration::from_secs(10), 3);
        let mut seen = Vec::new();
        while let Some((index, at)) = cadence.due() {
            seen.push((index, at.as_millis()));
            cadence.advance();
        }
        assert_eq!(seen, [(0, 3000), (1, 5000), (2, 7000)]);
    }

    #[test]
    fn no_snapshots_are_never_due() {
        assert_eq!(Cadence::new(Duration::from_secs(10), 0).due(), None);
    }
}
