//! All watches of a run.

use std::time::{Duration, Instant};

use ktstr_replay::kernel::query::Located;
use ktstr_replay::kernel::{KernelProfile, KernelView};
use ktstr_replay::trace::record::{CaptureKind, LossKind, WatchFire, WatchNews};
use ktstr_replay::units::{Cpu, GuestNs, HostNs, micros};
use ktstr_replay::watch::Missing;

use super::fire::who;
use super::marks::{Mark, Marks, of_place};
use super::pacing::cost;
use super::watched::{OfWatch, Site, Store, Watched};
use crate::machine::WatchId;
use crate::recorder::asked::{AllAsked, Armed, Gone, MakeRoom, Now, Stand, State, arm};
use crate::recorder::capture::{CaptureRequest, Captured};
use crate::recorder::clock::RunClock;
use crate::recorder::writer::Item;

/// The watches of a run.
#[derive(Debug, Default)]
pub(in crate::recorder) struct Watches {
    pub asked: AllAsked<OfWatch>,
    /// What targets move with.
    marks: Marks,
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
    fn new(begun: Instant, clock: &mut RunClock) -> Self {
        Self {
            begun,
            guest_ns: clock.date_stop(),
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
    /// Find what is wanted, and arm or take away what changed. The machine is stopped. `make_room` takes away what is less needed than
    /// any of it.
    pub(in crate::recorder) fn find(&mut self, stand: &mut Stand<'_>, make_room: &mut MakeRoom<'_>) {
        let now = stand.now();
        self.end_rests(stand);
        let Some(profile) = self.asked.begin_look(stand, now) else { return };
        // They make room, if need be, for what is wanted itself.
        self.marks.take_away(stand.machine);
        let ram = stand.machine.ram();
        let view = KernelView::new(&profile, &*ram);
        let mut marks: Vec<(Located, Vec<usize>)> = Vec::new();
        for at in 0..self.asked.all.len() {
            self.find_one(stand, &view, (at, now), make_room);
            let Some(watched) = self.asked.all.get(at).filter(|watched| watched.is_looked_for()) else {
                continue;
            };
            for place in watched.what.iter().flat_map(|what| what.target.moves_with(&view)) {
                match marks.iter_mut().find(|(known, _)| *known == place) {
                    Some((_, of)) => of.push(at),
                    None => marks.push((place, vec![at])),
                }
            }
        }
        let marks =
            marks.into_iter().map(|(place, of)| Mark::new(place, place.read(&view).ok(), of)).collect();
        self.marks.arm(marks, stand.machine, || self.asked.next_id(), make_room);
        self.tell_without_room(stand);
    }

    /// A watch is told once of which the machine has no room for what it moves with: a move is seen only when the machine stops for
    /// something else.
    fn tell_without_room(&mut self, stand: &mut Stand<'_>) {
        let (most, host_ns) = (stand.machine.watch_support().most, stand.clock.host_ns());
        for at in self.marks.without_room() {
            let Some(watched) = self.asked.all.get_mut(at) else { continue };
            if !std::mem::replace(&mut watched.own.is_without_room, true) {
                let detail = format!(
                    "watch {}: the machine has {most} watches, and no more room for what shows that its scheduler has ended or that it is \
                     elsewhere; that is seen only when the machine stops for something else",
                    watched.order.target
                );
                stand.outbox.loss(host_ns, LossKind::WatchFires, 0, detail);
            }
        }
    }

    fn find_one(
        &mut self,
        stand: &mut Stand<'_>,
        view: &KernelView<'_>,
        (at, now): (usize, Now),
        make_room: &mut MakeRoom<'_>,
    ) {
        let Some(watched) = self.asked.all.get(at).filter(|watched| watched.is_looked_for()) else { return };
        let Some(what) = &watched.what else { return };
        let found = what.target.find(view).and_then(|place| {
            let value = place.read(view).map_err(|error| Missing::Now(error.to_string()))?;
            Ok(Site { place, value })
        });
        let found = found.map_err(|missing| Gone {
            why: missing.why().to_owned(),
            // A variable that the enabled scheduler does not have, it will never have.
            ever: matches!(missing, Missing::Ever(_))
                || self.asked.has_scheduler && what.target.is_of_no_scheduler(view),
        });
        let Some(site) = self.asked.found(stand, at, now, found) else { return };
        let Site { place, value } = site;
        let id = self.asked.next_id();
        let armed = arm(stand.machine, id, of_place(place), make_room).map(|()| Armed { id, site });
        let news = WatchNews::Armed { at: place.at.0, bytes: place.bytes, value };
        self.asked.armed(stand, at, now, armed, Some(news));
    }

    /// Arm again what has rested.
    fn end_rests(&mut self, stand: &mut Stand<'_>) {
        let running = stand.clock.running();
        if !self.asked.all.iter().any(|watched| watched.has_rested(running)) {
            return;
        }
        // They may have the room that it had, and it would be given up for want of that.
        self.marks.take_away(stand.machine);
        // The scheduler may have gone meanwhile, or a pointer on the way may be another.
        self.asked.look = true;
        for at in 0..self.asked.all.len() {
            let id = self.asked.next_id();
            let Some(watched) = self.asked.all.get_mut(at).filter(|watched| watched.has_rested(running))
            else {
                continue;
            };
            let Some(Site { place, value }) = watched.wake(running) else { continue };
            // Where it was there may be no memory any more. It is refused if it cannot be had where it is now.
            if stand.machine.arm(id, of_place(place)).is_ok() {
                let there = stand.read(place).unwrap_or(value);
                watched.totals.unseen += u64::from(there != value);
                watched.state = State::Armed(Armed { id, site: Site { place, value: there } });
            }
        }
    }

    /// The site of a watch that is armed, and its id.
    fn armed(&self, at: usize) -> Option<Armed<Site>> {
        self.asked.all.get(at).and_then(Watched::armed).copied()
    }

    /// The machine stopped at `stopped` because `vcpu` stored to what `id` is of. It goes on.
    pub(in crate::recorder) fn fired(
        &mut self,
        id: WatchId,
        vcpu: Cpu,
        stopped: Instant,
        stand: &mut Stand<'_>,
        make_room: &mut MakeRoom<'_>,
    ) {
        let mut stop = Stop::new(stopped, stand.clock);
        let of_mark = self.marks.place_of(id);
        let mut armed = self.asked.all.iter().filter_map(Watched::armed);
        let of_watch = armed.find(|armed| armed.id == id).map(|armed| armed.site.place);
        let place = of_watch.or(of_mark);
        let moved = place.map(|place| self.marks.moved_with(place)).unwrap_or_default();
        if let Some(place) = place {
            self.hit(place, vcpu, stand, &mut stop);
        }
        self.look_for_unseen(stand, &mut stop);
        if self.asked.look {
            let begun = Instant::now();
            self.find(stand, make_room);
            // A pointer that is stored to all the time, as that to the task of a CPU, costs as much as such a target.
            let took = begun.elapsed();
            for at in moved {
                let looked_for = self.asked.all.get_mut(at).filter(|watched| watched.is_looked_for());
                let Some(watched) = looked_for else { continue };
                watched.own.moves += 1;
                let counted = cost(took, watched.own.moves);
                self.pace(at, stand, &stop, counted);
                // What rests does not need its pointers watched.
                self.asked.look |= self.asked.all.get(at).is_some_and(|watched| !watched.is_looked_for());
            }
        }
        if self.asked.look {
            self.find(stand, make_room);
        }
        let resumed = stand.machine.resume().unwrap_or_default();
        let whole = stop.begun.elapsed();
        stand.clock.stopped_at_watch(whole);
        keep(stand, stop, whole, resumed);
    }

    /// `vcpu` stored to `place`, and so to all that is watched there.
    fn hit(&mut self, place: Located, vcpu: Cpu, stand: &mut Stand<'_>, stop: &mut Stop) {
        for at in 0..self.asked.all.len() {
            if self.armed(at).is_some_and(|armed| armed.site.place.overlaps(place.at, place.bytes)) {
                self.stored(at, vcpu, stand, stop);
            }
        }
        self.asked.look |= !self.marks.moved_with(place).is_empty();
    }

    /// What changed and no watch told of, while the machine is stopped for something else. It stays stopped.
    pub(in crate::recorder) fn at_stop(&mut self, stand: &mut Stand<'_>) {
        if self.marks.is_empty() && self.asked.all.iter().all(|watched| watched.armed().is_none()) {
            return;
        }
        let mut stop = Stop::new(Instant::now(), stand.clock);
        self.look_for_unseen(stand, &mut stop);
        let whole = stop.begun.elapsed();
        keep(stand, stop, whole, Duration::ZERO);
    }

    /// The host itself has written to memory: that is no store of the guest's.
    pub(in crate::recorder) fn host_wrote(&mut self, stand: &mut Stand<'_>) {
        for watched in &mut self.asked.all {
            if let State::Armed(armed) = &mut watched.state
                && let Some(value) = stand.read(armed.site.place)
            {
                armed.site.value = value;
            }
        }
        // It may have been a pointer with which targets move.
        self.asked.look |= self.marks.have_moved(|place| stand.read(place));
    }

    fn look_for_unseen(&mut self, stand: &mut Stand<'_>, stop: &mut Stop) {
        for at in 0..self.asked.all.len() {
            let Some(Armed { id, site }) = self.armed(at) else { continue };
            let Some(there) = stand.read(site.place).filter(|there| *there != site.value) else {
                continue;
            };
            match stand.machine.untold(id) {
                Ok(Some(vcpu)) => self.hit(site.place, vcpu, stand, stop),
                _ => {
                    let Some(watched) = self.asked.all.get_mut(at) else { continue };
                    watched.totals.unseen += 1;
                    watched.state = State::Armed(Armed { id, site: Site { value: there, ..site } });
                }
            }
        }
        // What moves with a pointer whose store was not told of would be watched where it is no more.
        self.asked.look |= self.marks.have_moved(|place| stand.read(place));
    }

    /// A store to a watch that is armed.
    fn stored(&mut self, at: usize, vcpu: Cpu, stand: &mut Stand<'_>, stop: &mut Stop) {
        let now = (stop.guest_ns, stop.host_ns);
        let Some(Armed { id, site }) = self.armed(at) else { return };
        let Some(watched) = self.asked.all.get_mut(at) else { return };
        let begun = Instant::now();
        let (old, new) = (site.value, stand.read(site.place).unwrap_or(site.value));
        watched.state = State::Armed(Armed { id, site: Site { value: new, ..site } });
        if watched.store(stop.time(), old, new) == Store::Record {
            let sample = capture(stand, stop, &watched.order.target);
            let mut fire = match (stand.capturer.profile(), &stop.captured) {
                (Ok(profile), Some(captured)) => look(stand, &profile, captured, vcpu),
                _ => who_unknown(vcpu),
            };
            fire.number = u32::try_from(watched.totals.fires).unwrap_or(u32::MAX);
            (fire.old, fire.new, fire.sample) = (old, new, sample);
            fire.phase.clone_from(stand.phase);
            let (spent, fires) = (watched.is_spent(), watched.totals.fires);
            self.asked.tell(stand, at, now, WatchNews::Fired(Box::new(fire)));
            if spent {
                let why = format!("it has fired {fires} times, the most that it may");
                self.asked.spend(stand, at, now, why);
            }
        }
        let fires = self.asked.all.get(at).map_or(0, |watched| watched.totals.fires);
        self.pace(at, stand, stop, cost(begun.elapsed(), fires));
    }

    /// Take a watch away for a while whose stores, or those to its pointers, take too much of the guest's time: now that `cost`.
    fn pace(&mut self, at: usize, stand: &mut Stand<'_>, stop: &Stop, cost: Duration) {
        let Some(watched) = self.asked.all.get_mut(at) else { return };
        watched.pauses.stop(stop.begun.elapsed());
        if !watched.is_looked_for() {
            return;
        }
        if let Some(until) = watched.own.pacing.stop(stop.running, cost) {
            self.asked.rest(stand, at, stop.running, until);
        }
    }
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
    stand.clock.date_capture(captured.sample.guest_ns);
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
    captured.sample.pause_us = micros(whole);
    captured.sample.machine_us = micros(machine);
    let (events, fault) = stand.capturer.events(&mut captured);
    stand.outbox.brought((captured.sample.guest_ns, captured.sample.host_ns), events, fault);
    for (role, bytes) in captured.blobs {
        stand.outbox.give(Item::Blob(role, bytes));
    }
    stand.outbox.capture(captured.sample, captured.checkpoint);
}
