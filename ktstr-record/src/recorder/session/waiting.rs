//! Captures of the moments in which somebody waits for long.

use std::time::Instant;

use ktstr_replay::kernel::KernelView;
use ktstr_replay::kernel::waits::LimitedWait;
use ktstr_replay::trace::record::{CaptureKind, EventBody, LongWait, LossKind};

use super::Session;

impl Session<'_> {
    /// Look for who waits for long, without stopping the machine; stop it for a capture where there is somebody.
    pub(super) fn look_for_long_waits(&mut self) {
        // A capture that the guest asked for is of the time at which it did: none of a later time may come before it.
        let may_look = self.requests.is_empty() && self.capturer.is_ready();
        if !may_look || !self.long_waits.is_due(Instant::now()) || self.long_waits_now().is_empty() {
            return;
        }
        // That it cannot be stopped is heard of as its end.
        let Ok(pause) = self.pause() else { return };
        self.listen();
        if !self.requests.is_empty() {
            return self.go_on_after(pause);
        }
        let waits = self.long_waits_now();
        // Whoever waited may have been running by the time that the machine stood.
        let Some(first) = waits.first() else { return self.go_on_after(pause) };
        let (guest_ns, host_ns) = (self.clock.guest_ns_stopped(pause.begin()), self.clock.host_ns());
        let sample = match self.long_waits.tell(&waits, self.clock.running()) {
            Some(tag) => {
                let request = self.request_at(tag, CaptureKind::HalfWatchdog, &pause);
                Some(self.take(request, pause, true))
            }
            None => {
                self.go_on_after(pause);
                None
            }
        };
        let LimitedWait { limit, limit_ns, waited_ns, pid, cpu, .. } = *first;
        let comm = first.comm.clone();
        let wait = LongWait { limit, limit_ns, waited_ns, pid, comm, cpu, sample };
        self.outbox.event(guest_ns, host_ns, EventBody::LongWait(Box::new(wait)));
        if let Some(no_more) = self.long_waits.no_more() {
            self.outbox.loss(host_ns, LossKind::Capture, 0, no_more);
        }
    }

    fn long_waits_now(&mut self) -> Vec<LimitedWait> {
        let Ok(profile) = self.capturer.profile() else { return Vec::new() };
        let in_body = self.body_began.is_some() && !self.body_has_ended();
        let ram = self.machine.ram();
        self.long_waits.look(&KernelView::new(&profile, &*ram), in_body, self.clock.running())
    }
}
