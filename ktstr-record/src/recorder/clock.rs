//! Guest time as the host knows it, and when periodic captures are due.

use std::time::{Duration, Instant};

use ktstr_replay::run::periodic_due;
use ktstr_replay::units::{GuestNs, HostNs, nanos};

/// Relates the recording's host time to the guest's `CLOCK_MONOTONIC`.
///
/// Every frame of the channel brings a guest time. The guest's clock does not advance while the machine is paused and
/// otherwise runs with the host's, so between frames guest time is the last frame's plus the host time since,
/// less the pauses. A frame reaches the recorder up to a poll interval after it was made; the estimate keeps
/// the reading that was least late. At a watch the machine stops by itself, so that it has stood for a while before that
/// is heard of; the next frame says for how long.
#[derive(Debug)]
pub(super) struct RunClock {
    start: Instant,
    paused_ns: u64,
    /// `guest - (host - paused)`: the largest seen, which is the least delayed.
    offset_ns: Option<i128>,
    /// The most by which it may be too large, as the guest has stood since the last frame without that being in the pauses.
    unsure_ns: u64,
    /// The latest time that a frame had.
    told: GuestNs,
    /// The latest time of a stop at a watch or probe, or of a capture, that was given out.
    dated: GuestNs,
}

/// More than a machine that stops at a watch stands before that is heard of, and before it goes on when it was told to.
const UNHEARD_NS: u64 = 1_000_000;

impl RunClock {
    /// A clock whose host time begins now.
    pub(super) fn start() -> Self {
        Self {
            start: Instant::now(),
            paused_ns: 0,
            offset_ns: None,
            unsure_ns: 0,
            told: GuestNs(0),
            dated: GuestNs(0),
        }
    }

    /// Host time since the recording began, in ns.
    pub(super) fn host_ns(&self) -> HostNs {
        HostNs(nanos(self.start.elapsed()))
    }

    /// How long the guest has run since the recording began: host time less the pauses.
    pub(super) fn running(&self) -> Duration {
        Duration::from_nanos(self.host_ns().0.saturating_sub(self.paused_ns))
    }

    /// A frame made at `guest_ns` has just been received.
    pub(super) fn frame(&mut self, guest_ns: GuestNs) {
        let offset = i128::from(guest_ns.0) - i128::from(self.host_ns().0.saturating_sub(self.paused_ns));
        self.told = self.told.max(guest_ns);
        let unsure = i128::from(std::mem::take(&mut self.unsure_ns));
        self.offset_ns = Some(self.offset_ns.map_or(offset, |known| offset.max(known - unsure)));
    }

    /// How long the guest was stopped by the recorder, so far.
    pub(super) fn all_pauses(&self) -> Duration {
        Duration::from_nanos(self.paused_ns)
    }

    /// The guest was stopped for `pause`, which the host measured.
    pub(super) fn paused(&mut self, pause: Duration) {
        self.paused_ns += u64::try_from(pause.as_nanos()).unwrap_or(0);
    }

    /// The guest was stopped at a watch, for `pause` of which the host knows, and a bit longer.
    pub(super) fn stopped_at_watch(&mut self, pause: Duration) {
        self.paused(pause);
        self.unsure_ns = self.unsure_ns.saturating_add(UNHEARD_NS);
    }

    /// The guest's time now, in ns; 0 while no frame has come.
    pub(super) fn guest_ns(&self) -> GuestNs {
        self.guest_ns_at(self.host_ns())
    }

    /// The guest's time in a stop at a watch or probe, of which the host has just heard. It is never before that of an earlier one or of
    /// a capture, though a frame may have told meanwhile that the guest had stood for longer than was known; nor before that of a frame.
    pub(super) fn date_stop(&mut self) -> GuestNs {
        self.dated = self.dated.max(self.told).max(self.guest_ns());
        self.dated
    }

    /// The time of a capture that is being taken and was asked for at `asked`, by the guest's clock or by this one. The stops before it
    /// may have been dated late, and those after it are not to be dated before it: what a capture shows has then been counted.
    pub(super) fn date_capture(&mut self, asked: GuestNs) -> GuestNs {
        self.dated = self.dated.max(asked);
        self.dated
    }

    /// The guest's time in a stop that began at `begin` and is not among the pauses yet: it has not advanced in it, but frames from
    /// before it have been received in it. Of two stops right after each other the later one is not before the other.
    pub(super) fn guest_ns_stopped(&self, begin: Instant) -> GuestNs {
        let begin = begin.saturating_duration_since(self.start);
        self.guest_ns_at(HostNs(nanos(begin))).max(self.told).max(self.dated)
    }

    fn guest_ns_at(&self, host: HostNs) -> GuestNs {
        let Some(offset) = self.offset_ns else { return GuestNs(0) };
        let running = i128::from(host.0.saturating_sub(self.paused_ns));
        GuestNs(u64::try_from(running + offset).unwrap_or(0))
    }
}

/// When `count` periodic captures over a workload window are due: see [`periodic_due`].
#[derive(Clone, Debug)]
pub(super) struct Cadence {
    window: Duration,
    count: u32,
    next: u32,
}

impl Cadence {
    /// `count` captures over `window`.
    pub(super) fn new(window: Duration, count: u32) -> Self {
        Self { window, count, next: 0 }
    }

    /// Index of the next capture and its distance from the start of the body; `None` when all were taken.
    pub(super) fn due(&self) -> Option<(u32, Duration)> {
        (self.next < self.count).then(|| (self.next, periodic_due(self.window, self.count, self.next)))
    }

    /// The next capture was taken, or given up.
    pub(super) fn advance(&mut self) {
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_time_is_unknown_before_the_first_frame() {
        assert_eq!(RunClock::start().guest_ns(), GuestNs(0));
    }

    #[test]
    fn a_pause_does_not_advance_guest_time() {
        let mut clock = RunClock::start();
        clock.frame(GuestNs(1_000_000_000));
        let around = Instant::now();
        let before = clock.guest_ns();
        let begin = Instant::now();
        std::thread::sleep(Duration::from_millis(30));
        let pause = begin.elapsed();
        clock.paused(pause);
        let after = clock.guest_ns();
        // As long as the rest took, however slow the host is.
        let rest = nanos(around.elapsed() - pause);
        assert!(
            before <= after && after.saturating_since(before) <= rest,
            "{before:?} .. {after:?}, {rest} ns"
        );
    }

    /// A call is not told to return before it was made.
    #[test]
    fn stops_at_probes_are_dated_in_their_order_whatever_a_frame_tells_of_the_time_between() {
        let mut clock = RunClock::start();
        clock.frame(GuestNs(1_000_000_000));
        for _ in 0..10 {
            let _ = clock.date_stop();
            clock.stopped_at_watch(Duration::ZERO);
        }
        let (before, known) = (clock.date_stop(), clock.offset_ns);
        // Made before all of these stops, and heard of after them.
        clock.frame(GuestNs(1_000_000_000));
        assert!(clock.offset_ns < known);
        assert!(clock.date_stop() >= before && clock.guest_ns_stopped(Instant::now()) >= before);
    }

    /// A probe's calls up to a capture are those that the capture shows.
    #[test]
    fn a_capture_is_not_dated_before_the_stops_before_it_nor_those_after_it_before_it() {
        let mut clock = RunClock::start();
        clock.frame(GuestNs(1_000_000_000));
        for _ in 0..10 {
            clock.stopped_at_watch(Duration::ZERO);
        }
        let before = clock.date_stop();
        // The guest asked for it by its own clock, which had stood for longer than was known.
        let capture = clock.date_capture(GuestNs(1_000_000_000));
        assert!(capture >= before, "{capture:?} after {before:?}");
        // One that is dated late; and then a frame turns the estimate back.
        let late = clock.date_capture(GuestNs(9_000_000_000));
        clock.stopped_at_watch(Duration::ZERO);
        clock.frame(GuestNs(1_000_000_000));
        assert!(clock.date_stop() >= late);
        // What was told before the stop is not after it.
        clock.frame(GuestNs(20_000_000_000));
        clock.stopped_at_watch(Duration::ZERO);
        clock.frame(GuestNs(1_000_000_000));
        assert!(clock.date_stop() >= GuestNs(20_000_000_000));
    }

    #[test]
    fn of_two_stops_right_after_each_other_the_later_one_is_not_before_the_other() {
        let mut clock = RunClock::start();
        clock.frame(GuestNs(1_000_000_000));
        let mut before = GuestNs(0);
        for _ in 0..3 {
            let begin = Instant::now();
            // The machine takes so long to stop.
            std::thread::sleep(Duration::from_millis(10));
            let at = clock.guest_ns_stopped(begin);
            clock.paused(begin.elapsed());
            assert!(at >= before, "{at:?} after {before:?}");
            before = at;
        }
        // What was told while it stopped is not after it.
        clock.frame(GuestNs(5_000_000_000));
        assert!(clock.guest_ns_stopped(clock.start) >= GuestNs(5_000_000_000));
    }

    #[test]
    fn a_late_frame_does_not_turn_time_back() {
        let mut clock = RunClock::start();
        clock.frame(GuestNs(2_000_000_000));
        let before = clock.guest_ns();
        clock.frame(GuestNs(1_000_000_000));
        assert!(clock.guest_ns() >= before);
    }

    #[test]
    fn a_frame_makes_good_what_was_not_heard_of_stops_at_watches_and_no_more() {
        let mut clock = RunClock::start();
        clock.frame(GuestNs(2_000_000_000));
        let before = clock.offset_ns;
        for _ in 0..10_000 {
            clock.stopped_at_watch(Duration::ZERO);
        }
        assert_eq!(clock.offset_ns, before);
        clock.frame(GuestNs(1_900_000_000));
        let after = clock.offset_ns;
        assert!(after < before);
        // Only stops turn it back, and none came since.
        clock.frame(GuestNs(1_000_000_000));
        assert_eq!(clock.offset_ns, after);
        // At most by what they can have taken.
        clock.stopped_at_watch(Duration::ZERO);
        clock.frame(GuestNs(0));
        assert_eq!(clock.offset_ns, after.map(|offset| offset - i128::from(UNHEARD_NS)));
    }

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
