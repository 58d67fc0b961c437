//! Watches while a session goes on: at fires, when the guest asks for one, and when something moved.

use std::time::{Duration, Instant};

use guest_init::message::WatchOrder;
use ktstr_replay::units::Cpu;

use super::Session;
use crate::machine::{MachineEvent, WatchId};
use crate::recorder::capture::Pause;
use crate::recorder::watches::{Stand, Watches};

impl Session<'_> {
    /// The watches, and what they work with.
    pub(super) fn watches(&mut self) -> (&mut Watches, Stand<'_>) {
        let Self { machine, capturer, outbox, clock, phase, watches, .. } = self;
        (watches, Stand { machine: machine.as_mut(), capturer, outbox, clock, phase })
    }

    /// Watch this from now on, or as soon as it is there.
    pub(super) fn watch(&mut self, order: WatchOrder, by_body: bool) {
        let (watches, mut stand) = self.watches();
        watches.ask(order, by_body, &mut stand);
    }

    /// Watch these from before the job is handed over: what the scheduler does while it is loaded is seen.
    pub(in crate::recorder) fn watch_from_the_beginning(&mut self, orders: &[WatchOrder]) {
        for order in orders {
            self.watch(order.clone(), false);
        }
        // It is waited for the kernel's symbols, which the guest has nothing to do with.
        if !orders.is_empty() && self.capturer.profile().is_ok() {
            self.find_watched();
        }
    }

    /// A watch fired that is not the doorbell, and the machine has been stopped since `stopped`.
    pub(super) fn fired(&mut self, id: WatchId, vcpu: Cpu, stopped: Instant) {
        let (watches, mut stand) = self.watches();
        watches.fired(id, vcpu, stopped, &mut stand);
    }

    /// Stop the machine if something is to be found or armed again, and do so.
    pub(super) fn find_watched(&mut self) {
        if !self.watches.is_due(self.clock) || !self.capturer.is_ready() {
            return;
        }
        // That it cannot be stopped is heard of as its end.
        let Ok(pause) = self.pause() else { return };
        let (watches, mut stand) = self.watches();
        // A store at the instant of the pause would be forgotten with a watch that is taken away.
        watches.at_stop(&mut stand);
        watches.find(&mut stand);
        self.go_on_after(pause);
    }

    /// The guest waits to hear whether what it wants watched can be. The machine is stopped, and goes on if asked to.
    pub(super) fn serve_watch(&mut self, id: u64, pause: Pause, go_on: bool) {
        let (watches, mut stand) = self.watches();
        watches.at_stop(&mut stand);
        watches.find(&mut stand);
        match self.watches.last_is_refused() {
            true => self.channel.refuse_capture(id),
            false => self.channel.ack_capture(id),
        }
        match go_on {
            true => self.go_on_after(pause),
            false => self.clock.paused(pause.ended(Duration::ZERO).0),
        }
    }

    /// See to the machine while something else is waited for. What is no watch's is handed over by the loop.
    pub(super) fn attend(&mut self) {
        let Self { machine, capturer, outbox, clock, phase, watches, told, .. } = self;
        attend(told, watches, Stand { machine: machine.as_mut(), capturer, outbox, clock, phase });
    }
}

/// As [`Session::attend`], without the session's other parts.
pub(super) fn attend(told: &mut Option<MachineEvent>, watches: &mut Watches, mut stand: Stand<'_>) {
    if told.is_some() {
        return;
    }
    match stand.machine.wait_event(Duration::ZERO) {
        Some(MachineEvent::Watch { id, vcpu }) if id != WatchId::DOORBELL => {
            watches.fired(id, vcpu, Instant::now(), &mut stand)
        }
        Some(event) => *told = Some(event),
        None if watches.is_due(stand.clock) && stand.capturer.is_ready() => {
            let begun = Instant::now();
            if stand.machine.pause().is_ok() {
                watches.at_stop(&mut stand);
                watches.find(&mut stand);
                let _heard_of_later = stand.machine.resume();
                stand.clock.paused(begun.elapsed());
            }
        }
        None => {}
    }
}
