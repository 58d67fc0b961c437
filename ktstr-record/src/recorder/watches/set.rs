//! All watches of a run.

use std::time::{Duration, Instant};

use guest_init::message::{GuestStage, ToHost, WatchOrder};
use ktstr_replay::kernel::query::Located;
use ktstr_replay::kernel::{KernelProfile, KernelView};
use ktstr_replay::trace::record::{CaptureKind, EventBody, WatchEvent, WatchFire, WatchNews};
use ktstr_replay::units::{Cpu, GuestNs, HostNs};
use ktstr_replay::watch::Missing;

use super::fire::who;
use super::pacing::cost;
use super::watched::{Armed, State, Store, Watched};
use crate::machine::{Machine, Watch, WatchId};
use crate::recorder::capture::{CaptureRequest, Captured, Capturer};
use crate::recorder::clock::RunClock;
use crate::recorder::outbox::Outbox;
use crate::recorder::writer::Item;

/// Most watches of a run: each costs a look at its value at every stop.
const MOST: usize = 256;

/// What a watch works with.
pub(in crate::recorder) struct Stand<'s> {
    pub machine: &'s mut dyn Machine,
    pub capturer: &'s mut Capturer,
    pub outbox: &'s mut Outbox,
    pub clock: &'s mut RunClock,
    pub phase: &'s Option<(u32, String)>,
}

/// The watches of a run, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(in crate::recorder) struct Watches {
    all: Vec<Watched>,
    /// Watched because a target moves with them.
    marks: Vec<Mark>,
    last_id: u32,
    /// A target may be elsewhere than it was.
    look: bool,
    /// A scheduler is enabled.
    has_scheduler: bool,
}

/// A pointer with which targets move.
#[derive(Debug)]
struct Mark {
    id: WatchId,
    place: Located,
    /// What was there when the targets were looked for.
    value: Option<i128>,
    /// Positions of the watches of these targets.
    of: Vec<usize>,
}

/// One stop of the machine.
struct Stop {
    begun: Instant,
    guest_ns: GuestNs,
    host_ns: HostNs,
    running: Duration,
    /// The capture, once one is taken.
    captured: Option<Captured>,
}

impl Stop {
    fn new(begun: Instant, clock: &RunClock) -> Self {
        Self {
            begun,
            guest_ns: clock.guest_ns(),
            host_ns: clock.host_ns(),
            running: clock.running(),
            captured: None,
        }
    }

    /// By the guest's clock, as the fires are told with it; before that is known, how long the machine had run.
    fn time(&self) -> Duration {
        match self.guest_ns {
            GuestNs(0) => self.running,
            GuestNs(ns) => Duration::from_nanos(ns),
        }
    }
}

impl Watches {
    /// A watch was asked for. It is looked for at the next [`Watches::find`].
    pub(in crate::recorder) fn ask(&mut self, order: WatchOrder, by_body: bool, stand: &mut Stand<'_>) {
        if self.all.len() >= MOST {
            return;
        }
        let (watched, fault) = Watched::new(order, by_body);
        let asked = watched.asked();
        self.all.push(watched);
        let at = self.all.len() - 1;
        let now = (stand.clock.guest_ns(), stand.clock.host_ns());
        self.tell(stand, at, now, asked);
        if let Some(why) = fault {
            self.tell(stand, at, now, WatchNews::Refused { why });
        }
        if at + 1 == MOST {
            self.refuse(stand, at, now, format!("there are more than {} watches in this run", MOST - 1));
        }
        self.look = true;
    }

    /// Whether the watch that was asked for last is given up.
    pub(in crate::recorder) fn last_is_refused(&self) -> bool {
        self.all.last().is_some_and(|watched| watched.state == State::Refused)
    }

    /// Take note of what the guest says.
    pub(in crate::recorder) fn hear(&mut self, message: &ToHost) {
        let ToHost::Stage { stage, .. } = message else { return };
        match stage {
            GuestStage::SchedulerEnabled | GuestStage::SchedulerRestarted => self.has_scheduler = true,
            GuestStage::SchedulerExited => self.has_scheduler = false,
            GuestStage::SchedulerStarted => {}
            _ => return,
        }
        self.look |= !self.all.is_empty();
    }

    /// Whether the machine should be stopped for [`Watches::find`] or the end of a rest.
    pub(in crate::recorder) fn is_due(&self, clock: &RunClock) -> bool {
        self.look || self.all.iter().any(|watched| watched.has_rested(clock.running()))
    }

    /// Find what is wanted, and arm or take away what changed. The machine is stopped.
    pub(in crate::recorder) fn find(&mut self, stand: &mut Stand<'_>) {
        let now = (stand.clock.guest_ns(), stand.clock.host_ns());
        self.end_rests(stand);
        if !std::mem::take(&mut self.look) {
            return;
        }
        let profile = match stand.capturer.profile() {
            Ok(profile) => profile,
            Err(why) => {
                for at in 0..self.all.len() {
                    self.refuse(stand, at, now, format!("the kernel could not be read: {why}"));
                }
                return;
            }
        };
        // They make room, if need be, for what is wanted itself.
        self.take_marks_away(stand);
        let ram = stand.machine.ram();
        let view = KernelView::new(&profile, &*ram);
        let mut marks: Vec<(Located, Vec<usize>)> = Vec::new();
        for at in 0..self.all.len() {
            self.find_one(stand, &view, at, now);
            let Some(watched) = self.all.get(at).filter(|watched| watched.is_looked_for()) else { continue };
            for place in watched.what.iter().flat_map(|what| what.target.moves_with(&view)) {
                match marks.iter_mut().find(|(known, _)| *known == place) {
                    Some((_, of)) => of.push(at),
                    None => marks.push((place, vec![at])),
                }
            }
        }
        for (place, of) in marks {
            let id = self.next_id();
            // Where there is no room, what moves is found again when a scheduler comes or goes.
            if stand.machine.arm(id, of_place(place)).is_ok() {
                self.marks.push(Mark { id, place, value: place.read(&view).ok(), of });
            }
        }
    }

    fn take_marks_away(&mut self, stand: &mut Stand<'_>) {
        for mark in std::mem::take(&mut self.marks) {
            let _gone = stand.machine.disarm(mark.id);
        }
    }

    fn find_one(&mut self, stand: &mut Stand<'_>, view: &KernelView<'_>, at: usize, now: (GuestNs, HostNs)) {
        let Some(watched) = self.all.get_mut(at) else { return };
        let (State::Waiting(_) | State::Armed(_)) = watched.state else { return };
        let Some(what) = &watched.what else { return };
        let found = what.target.find(view).and_then(|place| {
            let value = place.read(view).map_err(|error| Missing::Now(error.to_string()))?;
            Ok((place, value))
        });
        let armed = watched.armed();
        match found {
            Ok((place, _)) if armed.is_some_and(|armed| armed.place == place) => {}
            Ok((place, value)) => {
                if let Some(armed) = armed {
                    let _gone = stand.machine.disarm(armed.id);
                }
                self.arm(stand, at, now, place, value);
            }
            Err(missing) => {
                // A variable that the enabled scheduler does not have, it will never have.
                let never = matches!(missing, Missing::Ever(_))
                    || self.has_scheduler && what.target.is_of_no_scheduler(view);
                let why = missing.why().to_owned();
                match armed {
                    Some(armed) => {
                        let _gone = stand.machine.disarm(armed.id);
                        watched.state = State::Waiting(why.clone());
                        self.tell(stand, at, now, WatchNews::Disarmed { why });
                    }
                    None if never && !watched.armed_ever => self.refuse(stand, at, now, why),
                    None if watched.state != State::Waiting(why.clone()) => {
                        watched.state = State::Waiting(why.clone());
                        self.tell(stand, at, now, WatchNews::Waiting { why });
                    }
                    None => {}
                }
            }
        }
    }

    fn next_id(&mut self) -> WatchId {
        self.last_id += 1;
        WatchId(self.last_id)
    }

    fn arm(&mut self, stand: &mut Stand<'_>, at: usize, now: (GuestNs, HostNs), place: Located, value: i128) {
        let id = self.next_id();
        if let Err(error) = stand.machine.arm(id, of_place(place)) {
            return self.refuse(stand, at, now, error.to_string());
        }
        if let Some(watched) = self.all.get_mut(at) {
            watched.state = State::Armed(Armed { id, place, value });
            watched.armed_ever = true;
        }
        self.tell(stand, at, now, WatchNews::Armed { at: place.at.0, bytes: place.bytes, value });
    }

    fn refuse(&mut self, stand: &mut Stand<'_>, at: usize, now: (GuestNs, HostNs), why: String) {
        let Some(watched) = self.all.get_mut(at).filter(|watched| watched.is_wanted()) else { return };
        if let Some(armed) = watched.armed() {
            let _gone = stand.machine.disarm(armed.id);
        }
        watched.state = State::Refused;
        self.tell(stand, at, now, WatchNews::Refused { why });
    }

    fn tell(&self, stand: &mut Stand<'_>, at: usize, now: (GuestNs, HostNs), what: WatchNews) {
        let Some(watched) = self.all.get(at) else { return };
        let watch = u32::try_from(at).unwrap_or(u32::MAX);
        let event = WatchEvent { watch, target: watched.order.target.clone(), what };
        stand.outbox.event(now.0, now.1, EventBody::Watch(Box::new(event)));
    }

    /// Arm again what has rested.
    fn end_rests(&mut self, stand: &mut Stand<'_>) {
        let running = stand.clock.running();
        if !self.all.iter().any(|watched| watched.has_rested(running)) {
            return;
        }
        // They may have the room that it had, and it would be given up for want of that.
        self.take_marks_away(stand);
        // The scheduler may have gone meanwhile, or a pointer on the way may be another.
        self.look = true;
        for at in 0..self.all.len() {
            let Some(watched) = self.all.get_mut(at).filter(|watched| watched.has_rested(running)) else {
                continue;
            };
            let State::Resting { since, was, .. } = watched.state else { continue };
            let away = u64::try_from(running.saturating_sub(since).as_nanos()).unwrap_or(u64::MAX);
            watched.totals.blind_ns = watched.totals.blind_ns.saturating_add(away);
            let id = WatchId(self.last_id + 1);
            self.last_id += 1;
            watched.state = match was {
                Some((place, value)) if stand.machine.arm(id, of_place(place)).is_ok() => {
                    let there = read(stand, place).unwrap_or(value);
                    watched.totals.unseen += u64::from(there != value);
                    State::Armed(Armed { id, place, value: there })
                }
                // Where it was there may be no memory any more. It is refused if it cannot be had where it is now.
                _ => State::Waiting(String::new()),
            };
        }
    }

    /// The machine stopped at `stopped` because `vcpu` stored to what `id` is of. It goes on.
    pub(in crate::recorder) fn fired(
        &mut self,
        id: WatchId,
        vcpu: Cpu,
        stopped: Instant,
        stand: &mut Stand<'_>,
    ) {
        let mut stop = Stop::new(stopped, stand.clock);
        let of_mark = self.marks.iter().find(|mark| mark.id == id).map(|mark| mark.place);
        let of_watch =
            self.all.iter().filter_map(Watched::armed).find(|armed| armed.id == id).map(|armed| armed.place);
        let place = of_watch.or(of_mark);
        let moves = |mark: &&Mark| place.is_some_and(|place| mark.place.overlaps(place.at, place.bytes));
        let moved: Vec<usize> =
            self.marks.iter().filter(moves).flat_map(|mark| mark.of.iter().copied()).collect();
        if let Some(place) = place {
            self.hit(place, vcpu, stand, &mut stop);
        }
        self.look_for_unseen(stand, &mut stop);
        if self.look {
            let begun = Instant::now();
            self.find(stand);
            // A pointer that is stored to all the time, as that to the task of a CPU, costs as much as such a target.
            let took = begun.elapsed();
            for at in moved {
                let Some(watched) = self.all.get_mut(at).filter(|watched| watched.is_looked_for()) else {
                    continue;
                };
                watched.moves += 1;
                let counted = cost(took, watched.moves);
                self.pace(at, stand, &stop, counted);
                // What rests does not need its pointers watched.
                self.look |= self.all.get(at).is_some_and(|watched| !watched.is_looked_for());
            }
        }
        if self.look {
            self.find(stand);
        }
        let resumed = stand.machine.resume().unwrap_or_default();
        let whole = stop.begun.elapsed();
        stand.clock.stopped_at_watch(whole);
        keep(stand, stop, whole, resumed);
    }

    /// `vcpu` stored to `place`, and so to all that is watched there.
    fn hit(&mut self, place: Located, vcpu: Cpu, stand: &mut Stand<'_>, stop: &mut Stop) {
        let is_hit = |armed: Armed| armed.place.overlaps(place.at, place.bytes);
        for at in 0..self.all.len() {
            if self.all.get(at).and_then(Watched::armed).is_some_and(is_hit) {
                self.stored(at, vcpu, stand, stop);
            }
        }
        self.look |= self.marks.iter().any(|mark| mark.place.overlaps(place.at, place.bytes));
    }

    /// What changed and no watch told of, while the machine is stopped for something else. It stays stopped.
    pub(in crate::recorder) fn at_stop(&mut self, stand: &mut Stand<'_>) {
        if self.marks.is_empty() && self.all.iter().all(|watched| watched.armed().is_none()) {
            return;
        }
        let mut stop = Stop::new(Instant::now(), stand.clock);
        self.look_for_unseen(stand, &mut stop);
        let whole = stop.begun.elapsed();
        keep(stand, stop, whole, Duration::ZERO);
    }

    /// The host itself has written to memory: that is no store of the guest's.
    pub(in crate::recorder) fn host_wrote(&mut self, stand: &mut Stand<'_>) {
        for watched in &mut self.all {
            if let Some(armed) = watched.armed()
                && let Some(value) = read(stand, armed.place)
            {
                watched.state = State::Armed(Armed { value, ..armed });
            }
        }
        // It may have been a pointer with which targets move.
        self.look |= self.marks.iter().any(|mark| read(stand, mark.place) != mark.value);
    }

    fn look_for_unseen(&mut self, stand: &mut Stand<'_>, stop: &mut Stop) {
        for at in 0..self.all.len() {
            let Some(armed) = self.all.get(at).and_then(Watched::armed) else { continue };
            let Some(there) = read(stand, armed.place).filter(|there| *there != armed.value) else {
                continue;
            };
            match stand.machine.untold(armed.id) {
                Ok(Some(vcpu)) => self.hit(armed.place, vcpu, stand, stop),
                _ => {
                    let Some(watched) = self.all.get_mut(at) else { continue };
                    watched.totals.unseen += 1;
                    watched.state = State::Armed(Armed { value: there, ..armed });
                }
            }
        }
        // What moves with a pointer whose store was not told of would be watched where it is no more.
        let has_moved = self.marks.iter().any(|mark| read(stand, mark.place) != mark.value);
        self.look |= has_moved;
    }

    /// A store to a watch that is armed.
    fn stored(&mut self, at: usize, vcpu: Cpu, stand: &mut Stand<'_>, stop: &mut Stop) {
        let now = (stop.guest_ns, stop.host_ns);
        let Some(watched) = self.all.get_mut(at) else { return };
        let Some(armed) = watched.armed() else { return };
        let begun = Instant::now();
        let new = read(stand, armed.place).unwrap_or(armed.value);
        let old = armed.value;
        watched.state = State::Armed(Armed { value: new, ..armed });
        if watched.store(stop.time(), old, new) == Store::Record {
            let sample = capture(stand, stop, &watched.order.target);
            let mut fire = match (stand.capturer.profile(), &stop.captured) {
                (Ok(profile), Some(captured)) => look(stand, &profile, captured, vcpu),
                _ => who_unknown(vcpu),
            };
            fire.number = u32::try_from(watched.totals.fires).unwrap_or(u32::MAX);
            (fire.old, fire.new, fire.sample) = (old, new, sample);
            fire.phase.clone_from(stand.phase);
            let spent = watched.is_spent();
            let fires = watched.totals.fires;
            if spent {
                watched.state = State::Spent;
                let _gone = stand.machine.disarm(armed.id);
            }
            self.tell(stand, at, now, WatchNews::Fired(Box::new(fire)));
            if spent {
                let why = format!("it has fired {fires} times, the most that it may");
                self.tell(stand, at, now, WatchNews::Disarmed { why });
            }
        }
        let fires = self.all.get(at).map_or(0, |watched| watched.totals.fires);
        self.pace(at, stand, stop, cost(begun.elapsed(), fires));
    }

    /// Take a watch away for a while whose stores, or those to its pointers, take too much of the guest's time: now that `cost`.
    fn pace(&mut self, at: usize, stand: &mut Stand<'_>, stop: &Stop, cost: Duration) {
        let Some(watched) = self.all.get_mut(at) else { return };
        let us = u64::try_from(stop.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        watched.totals.longest_stop_us = watched.totals.longest_stop_us.max(us);
        if !watched.is_looked_for() {
            return;
        }
        let Some(until) = watched.pacing.stop(stop.running, cost) else { return };
        let armed = watched.armed();
        if armed.is_none_or(|armed| stand.machine.disarm(armed.id).is_ok()) {
            watched.totals.backed_off += 1;
            let was = armed.map(|Armed { place, value, .. }| (place, value));
            watched.state = State::Resting { since: stop.running, until, was };
        }
    }

    /// The run is over.
    pub(in crate::recorder) fn close(&mut self, stand: &mut Stand<'_>) {
        let now = (stand.clock.guest_ns(), stand.clock.host_ns());
        let running = stand.clock.running();
        for at in 0..self.all.len() {
            let Some(watched) = self.all.get_mut(at) else { continue };
            if let State::Resting { since, .. } = watched.state {
                let away = u64::try_from(running.saturating_sub(since).as_nanos()).unwrap_or(u64::MAX);
                watched.totals.blind_ns = watched.totals.blind_ns.saturating_add(away);
            }
            let totals = watched.totals;
            self.tell(stand, at, now, WatchNews::Totals(totals));
        }
    }
}

fn of_place(place: Located) -> Watch {
    Watch::Write { at: place.at.0, bytes: u64::from(place.bytes) }
}

/// What is there now.
fn read(stand: &mut Stand<'_>, place: Located) -> Option<i128> {
    let profile = stand.capturer.profile().ok()?;
    let ram = stand.machine.ram();
    place.read(&KernelView::new(&profile, &*ram)).ok()
}

/// Take the capture of this stop, if it is not taken yet; gives the number of its sample.
fn capture(stand: &mut Stand<'_>, stop: &mut Stop, target: &str) -> u32 {
    let captured = stop.captured.get_or_insert_with(|| {
        if stand.outbox.take_base_lost() {
            stand.capturer.begin_anew();
        }
        let request = CaptureRequest {
            tag: format!("watch:{target}"),
            kind: CaptureKind::Watch,
            guest_ns: stop.guest_ns,
            host_ns: stop.host_ns,
            phase: stand.phase.clone(),
        };
        stand.capturer.take(stand.machine, request)
    });
    captured.sample.index
}

fn look(stand: &Stand<'_>, profile: &KernelProfile, captured: &Captured, vcpu: Cpu) -> WatchFire {
    let ram = stand.machine.ram();
    who(&KernelView::new(profile, &*ram), &captured.sample.vcpus, vcpu)
}

fn who_unknown(cpu: Cpu) -> WatchFire {
    WatchFire { cpu, place: "the kernel could not be read".to_owned(), ..WatchFire::default() }
}

/// Hand over the capture of a stop that took `whole`.
fn keep(stand: &mut Stand<'_>, stop: Stop, whole: Duration, machine: Duration) {
    let Some(mut captured) = stop.captured else { return };
    captured.sample.pause_us = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX);
    captured.sample.machine_us = u64::try_from(machine.as_micros()).unwrap_or(u64::MAX);
    let (history, fault) = stand.capturer.history(&mut captured);
    stand.outbox.history((captured.sample.guest_ns, captured.sample.host_ns), history, fault);
    for (role, bytes) in captured.blobs {
        stand.outbox.give(Item::Blob(role, bytes));
    }
    stand.outbox.capture(captured.sample, captured.checkpoint);
}
