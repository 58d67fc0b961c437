//! Captures of the ends of schedulers below the root. The kernel tells nobody of one but its log and the program that has loaded it; its
//! exit information and its programs are in memory until that program goes.

use guest_init::message::ToHost;
use ktstr_replay::run::tells_of_sub_scheduler_error;
use ktstr_replay::trace::record::{CaptureKind, LossKind};

use super::Session;

/// Most captures of a run: whoever may write into the kernel's log could ask for any number.
const MOST: u32 = 8;

/// The ends by an error, as the guest's log tells of them.
#[derive(Debug, Default)]
pub(super) struct Below {
    /// One was told, and no capture is of it yet.
    is_due: bool,
    taken: u32,
}

impl Below {
    /// Take note of what the guest says.
    pub(super) fn hear(&mut self, message: &ToHost) {
        if let ToHost::Kmsg { level, text, .. } = message
            && self.taken < MOST
        {
            self.is_due |= tells_of_sub_scheduler_error(text, *level);
        }
    }

    /// The tag of the capture that is due, which is taken now.
    fn take_due(&mut self) -> Option<String> {
        if !std::mem::take(&mut self.is_due) {
            return None;
        }
        self.taken += 1;
        Some(format!("sub_scheduler_exit_{:03}", self.taken - 1))
    }

    /// Said once, with the last capture.
    fn no_more(&self) -> Option<String> {
        (self.taken >= MOST)
            .then(|| format!("{MOST} ends of schedulers below the root were captured; from here on none is"))
    }
}

impl Session<'_> {
    /// Take a capture if a scheduler below the root has ended by an error. After the body all are ended.
    pub(super) fn capture_if_one_below_died(&mut self) {
        // A capture that the guest asked for is of the time at which it did: none of a later time may come before it.
        if !self.below.is_due || !self.requests.is_empty() || !self.capturer.is_ready() {
            return;
        }
        if self.body_has_ended() {
            self.below.is_due = false;
            return;
        }
        // That it cannot be stopped is heard of as its end.
        let Ok(pause) = self.pause() else { return };
        // What the guest said before it stopped comes before the capture.
        self.listen();
        if self.body_has_ended() || !self.requests.is_empty() {
            return self.go_on_after(pause);
        }
        let Some(tag) = self.below.take_due() else { return self.go_on_after(pause) };
        let request = self.request_at(tag, CaptureKind::SubSchedulerExit, &pause);
        self.take(request, pause, true);
        if let Some(no_more) = self.below.no_more() {
            self.outbox.loss(self.clock.host_ns(), LossKind::Capture, 0, no_more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: u8, text: &str) -> ToHost {
        ToHost::Kmsg { level, sequence: 1, kernel_ns: 1, text: text.to_owned() }
    }

    #[test]
    fn an_end_by_an_error_is_captured_once_and_others_are_not() {
        let mut below = Below::default();
        let error = line(3, "sched_ext: BPF sub-scheduler \"sub\" disabled (runtime error)");
        for other in [
            line(6, "sched_ext: BPF sub-scheduler \"sub\" enabled"),
            line(6, "sched_ext: BPF sub-scheduler \"sub\" disabled (parent exiting)"),
            line(3, "sched_ext: BPF scheduler \"root\" disabled (runtime error)"),
        ] {
            below.hear(&other);
        }
        assert_eq!(below.take_due(), None);
        below.hear(&error);
        below.hear(&line(3, "sched_ext: sub: it gave up"));
        assert_eq!(below.take_due().as_deref(), Some("sub_scheduler_exit_000"));
        assert_eq!(below.take_due(), None);
        below.hear(&error);
        assert_eq!(below.take_due().as_deref(), Some("sub_scheduler_exit_001"));
    }

    #[test]
    fn whoever_writes_such_lines_gets_no_more_than_so_many() {
        let mut below = Below::default();
        let taken = (0..100).filter_map(|_| {
            below.hear(&line(3, "sched_ext: BPF sub-scheduler \"x\" disabled (x)"));
            let taken = below.take_due();
            assert_eq!(below.no_more().is_some(), below.taken >= MOST);
            taken
        });
        assert_eq!(taken.count(), MOST as usize);
    }
}
