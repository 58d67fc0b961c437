//! Captures shortly before a failure is expected, in a run that is made to see one again.

use std::time::Duration;

use ktstr_replay::trace::record::CaptureKind;

use super::Session;

/// How long before it each is taken, in the order in which they come.
const BEFORE: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(1), Duration::from_millis(500), Duration::from_millis(200)];

/// When the captures are due, since the body began.
#[derive(Debug)]
pub(super) struct Expected {
    /// Those that were not taken, the next one last.
    due: Vec<(usize, Duration)>,
}

impl Expected {
    /// The failure comes when the body has run for so long, if one is expected. What would be before the body is left out.
    pub(super) fn new(failure: Option<Duration>) -> Self {
        let mut due: Vec<(usize, Duration)> =
            BEFORE.iter().filter_map(|before| failure?.checked_sub(*before)).enumerate().collect();
        due.reverse();
        Self { due }
    }

    /// The number of the capture that is due when the body has run for so long; of several that are, the last one.
    fn take_due(&mut self, ran: Duration) -> Option<usize> {
        let mut found = None;
        while let Some((nth, _)) = self.due.pop_if(|(_, due)| *due <= ran) {
            found = Some(nth);
        }
        found
    }
}

impl Session<'_> {
    /// Take a capture if a failure is near.
    pub(super) fn capture_if_expected(&mut self) {
        // What the guest asked for comes first: it may be of the failure itself, which nothing that is before it may come behind.
        let may_take = !self.body_has_ended() && self.requests.is_empty() && self.capturer.is_ready();
        let Some(began) = self.body_began.filter(|_| may_take) else { return };
        let Some(nth) = self.expected.take_due(self.clock.running().saturating_sub(began)) else { return };
        // That it cannot be stopped is heard of as its end.
        let Ok(pause) = self.pause() else { return };
        // What the guest said before it stopped comes before the capture.
        self.listen();
        if self.body_has_ended() || !self.requests.is_empty() {
            return self.go_on_after(pause);
        }
        let request = self.request_at(format!("before_failure_{nth:03}"), CaptureKind::OnDemand, &pause);
        self.take(request, pause, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn captures_come_closer_to_one_another_before_the_failure_and_what_is_late_is_one() {
        let mut expected = Expected::new(Some(3000 * MS));
        assert_eq!(expected.take_due(999 * MS), None);
        assert_eq!(expected.take_due(1000 * MS), Some(0));
        assert_eq!(expected.take_due(1001 * MS), None);
        assert_eq!(expected.take_due(2500 * MS), Some(2));
        assert_eq!((expected.take_due(2800 * MS), expected.take_due(9000 * MS)), (Some(3), None));
    }

    #[test]
    fn none_is_before_the_body() {
        let mut expected = Expected::new(Some(700 * MS));
        assert_eq!((expected.take_due(199 * MS), expected.take_due(200 * MS)), (None, Some(0)));
        assert_eq!(expected.take_due(500 * MS), Some(1));
        assert_eq!(Expected::new(Some(100 * MS)).take_due(9000 * MS), None);
        assert_eq!(Expected::new(None).take_due(9000 * MS), None);
    }
}
