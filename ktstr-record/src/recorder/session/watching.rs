//! Watches and probes while a session goes on: at fires and calls, when the guest asks for one, and when something moved.

use std::time::{Duration, Instant};

use guest_init::message::{ProbeOrder, WatchOrder};
use ktstr_replay::units::Cpu;

use super::Session;
use crate::machine::{MachineEvent, WatchId};
use crate::recorder::asked::Stand;
use crate::recorder::capture::Pause;
use crate::recorder::probes::Probes;
use crate::recorder::watches::Watches;

impl Session<'_> {
    /// The watches and the probes, and what they work with.
    pub(super) fn watches(&mut self) -> (&mut Watches, &mut Probes, Stand<'_>) {
        let Self { machine, capturer, outbox, clock, phase, watches, probes, .. } = self;
        (watches, probes, Stand { machine: machine.as_mut(), capturer, outbox, clock, phase })
    }

    /// Watch this from now on, or as soon as it is there.
    pub(super) fn watch(&mut self, order: WatchOrder, by_body: bool) {
        let (watches, _, mut stand) = self.watches();
        watches.asked.ask(order, by_body, &mut stand);
    }

    /// Record the calls of this from now on, or as soon as it is there.
    pub(super) fn probe(&mut self, order: ProbeOrder, by_body: bool) {
        let (_, probes, mut stand) = self.watches();
        probes.asked.ask(order, by_body, &mut stand);
    }

    /// Watch and probe these from before the job is handed over: what the scheduler does while it is loaded is seen.
    pub(in crate::recorder) fn look_from_the_beginning(
        &mut self,
        watches: &[WatchOrder],
        probes: &[ProbeOrder],
    ) {
        for order in watches {
            self.watch(order.clone(), false);
        }
        for order in probes {
            self.probe(order.clone(), false);
        }
        // It is waited for the kernel's symbols, which the guest has nothing to do with.
        if !(watches.is_empty() && probes.is_empty()) && self.capturer.profile().is_ok() {
            self.find_watched();
        }
    }

    /// A watch or probe fired that is not the doorbell, and the machine has been stopped since `stopped`.
    pub(super) fn fired(&mut self, id: WatchId, vcpu: Cpu, stopped: Instant) {
        let (watches, probes, stand) = self.watches();
        fired(watches, probes, stand, (id, vcpu), stopped);
    }

    /// Stop the machine if something is to be found or armed again, and do so.
    pub(super) fn find_watched(&mut self) {
        let is_due =
            self.watches.asked.is_due(self.clock.running()) || self.probes.asked.is_due(self.clock.running());
        if !is_due || !self.capturer.is_ready() {
            return;
        }
        // That it cannot be stopped is heard of as its end.
        let Ok(pause) = self.pause() else { return };
        let (watches, probes, mut stand) = self.watches();
        look(watches, probes, &mut stand);
        self.go_on_after(pause);
    }

    /// The guest waits to hear whether what it wants watched, or probed, can be. The machine is stopped, and goes on if asked to.
    pub(super) fn serve_look(&mut self, id: u64, is_probe: bool, pause: Pause, go_on: bool) {
        let (watches, probes, mut stand) = self.watches();
        look(watches, probes, &mut stand);
        let refused = if is_probe { probes.asked.last_is_refused() } else { watches.asked.last_is_refused() };
        match refused {
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
        let Self { machine, capturer, outbox, clock, phase, watches, probes, told, .. } = self;
        attend(told, watches, probes, Stand { machine: machine.as_mut(), capturer, outbox, clock, phase });
    }
}

/// Find what is to be found. The machine is stopped.
fn look(watches: &mut Watches, probes: &mut Probes, stand: &mut Stand<'_>) {
    // A store at the instant of the pause would be forgotten with a watch that is taken away.
    watches.at_stop(stand);
    watches.find(stand, &mut |machine| probes.make_room(machine));
    // So would that to what shows that a scheduler comes, whose programs are then called unseen.
    probes.at_stop(stand);
    probes.find(stand);
}

fn fired(
    watches: &mut Watches,
    probes: &mut Probes,
    mut stand: Stand<'_>,
    (id, vcpu): (WatchId, Cpu),
    stopped: Instant,
) {
    if probes.has(id) {
        return probes.fired(id, vcpu, stopped, &mut stand);
    }
    // Of two watches at one place the machine tells of one.
    probes.at_stop(&mut stand);
    watches.fired(id, vcpu, stopped, &mut stand, &mut |machine| probes.make_room(machine));
}

/// As [`Session::attend`], without the session's other parts.
pub(super) fn attend(
    told: &mut Option<MachineEvent>,
    watches: &mut Watches,
    probes: &mut Probes,
    mut stand: Stand<'_>,
) {
    if told.is_some() {
        return;
    }
    match stand.machine.wait_event(Duration::ZERO) {
        Some(MachineEvent::Watch { id, vcpu }) if id != WatchId::DOORBELL => {
            fired(watches, probes, stand, (id, vcpu), Instant::now());
        }
        Some(event) => *told = Some(event),
        None => {
            let is_due =
                watches.asked.is_due(stand.clock.running()) || probes.asked.is_due(stand.clock.running());
            let begun = Instant::now();
            if is_due && stand.capturer.is_ready() && stand.machine.pause().is_ok() {
                look(watches, probes, &mut stand);
                let _heard_of_later = stand.machine.resume();
                stand.clock.paused(begun.elapsed());
            }
        }
    }
}
