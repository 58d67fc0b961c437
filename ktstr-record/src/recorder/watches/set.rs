//! All watches of a run.

use std::time::{Duration, Instant};

use guest_init::message::{GuestStage, ToHost, WatchOrder};
use ktstr_replay::kernel::query::Located;
use ktstr_replay::kernel::{KernelProfile, KernelView};
use ktstr_replay::trace::record::{CaptureKind, EventBody, WatchEvent, WatchFire, WatchNews};
use ktstr_replay::units::{Cpu, GuestNs, HostNs};
use ktstr_replay::watch::Missing;

use super::fire::who;
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
    marks: Vec<(WatchId, Located)>,
    last_id: u32,
    /// A target may be elsewhere than it was.
    look: bool,
    /// A scheduler is enabled.
    has_scheduler: bool,
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
        let is_over = |watched: &Watched| match watched.state {
            State::Resting { until, .. } => clock.running() >= until,
            _ => false,
        };
        self.look || self.all.iter().any(is_over)
    }

    /// Find what is wanted, and arm or take away what changed. The machine is stopped.
    pub(in crate::recorder) fn find(&mut self, stand: &mut Stand<'_>) {
        let now = (stand.clock.guest_ns(), stand.clock.host_ns());
        self.end_rests(stand, now);
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
        for (id, _) in std::mem::take(&mut self.marks) {
            let _gone = stand.machine.disarm(id);
        }
        let ram = stand.machine.ram();
        let view = KernelView::new(&profile, &*ram);
        let mut marks: Vec<Located> = Vec::new();
        for at in 0..self.all.len() {
            self.find_one(stand, &view, at, now);
            let Some(watched) = self.all.get(at).filter(|watched| watched.is_wanted()) else { continue };
            for mark in watched.what.iter().flat_map(|what| what.target.moves_with(&view)) {
                if !marks.contains(&mark) {
                    marks.push(mark);
                }
            }
        }
        for mark in marks {
            let id = self.next_id();
            // Where there is no room, what moves is found again when a scheduler comes or goes.
            if stand.machine.arm(id, of_place(mark)).is_ok() {
                self.marks.push((id, mark));
            }
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
                    || self.has_scheduler && what.target.is_variable(view);
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
    fn end_rests(&mut self, stand: &mut Stand<'_>, now: (GuestNs, HostNs)) {
        let running = stand.clock.running();
        for at in 0..self.all.len() {
            let Some(watched) = self.all.get_mut(at) else { continue };
            let State::Resting { since, until, place, value } = watched.state else { continue };
            if running < until {
                continue;
            }
            let away = u64::try_from(running.saturating_sub(since).as_nanos()).unwrap_or(u64::MAX);
            watched.totals.blind_ns = watched.totals.blind_ns.saturating_add(away);
            let id = WatchId(self.last_id + 1);
            self.last_id += 1;
            if let Err(error) = stand.machine.arm(id, of_place(place)) {
                self.refuse(stand, at, now, error.to_string());
                continue;
            }
            let there = read(stand, place).unwrap_or(value);
            watched.totals.unseen += u64::from(there != value);
            watched.state = State::Armed(Armed { id, place, value: there });
            // The scheduler may have gone meanwhile.
            self.look = true;
        }
    }

    /// The machine stopped because `vcpu` stored to what `id` is of. It goes on.
    pub(in crate::recorder) fn fired(&mut self, id: WatchId, vcpu: Cpu, stand: &mut Stand<'_>) {
        let mut stop = Stop::new(Instant::now(), stand.clock);
        let of_mark = self.marks.iter().find(|(mark, _)| *mark == id).map(|(_, place)| *place);
        let of_watch =
            self.all.iter().filter_map(Watched::armed).find(|armed| armed.id == id).map(|armed| armed.place);
        if let Some(place) = of_watch.or(of_mark) {
            let is_hit = |armed: Armed| armed.place.overlaps(place.at, place.bytes);
            for at in 0..self.all.len() {
                if self.all.get(at).and_then(Watched::armed).is_some_and(is_hit) {
                    self.stored(at, vcpu, stand, &mut stop);
                }
            }
            self.look |= self.marks.iter().any(|(_, mark)| mark.overlaps(place.at, place.bytes));
        }
        self.look_for_unseen(stand, &mut stop);
        if self.look {
            self.find(stand);
        }
        let resumed = stand.machine.resume().unwrap_or_default();
        let whole = stop.begun.elapsed();
        stand.clock.paused(whole);
        keep(stand, stop, whole, resumed);
    }

    /// What changed and no watch told of, while the machine is stopped for something else. It stays stopped.
    pub(in crate::recorder) fn at_stop(&mut self, stand: &mut Stand<'_>) {
        if self.all.iter().all(|watched| watched.armed().is_none()) {
            return;
        }
        let mut stop = Stop::new(Instant::now(), stand.clock);
        self.look_for_unseen(stand, &mut stop);
        let whole = stop.begun.elapsed();
        keep(stand, stop, whole, Duration::ZERO);
    }

    fn look_for_unseen(&mut self, stand: &mut Stand<'_>, stop: &mut Stop) {
        for at in 0..self.all.len() {
            let Some(armed) = self.all.get(at).and_then(Watched::armed) else { continue };
            let Some(there) = read(stand, armed.place).filter(|there| *there != armed.value) else {
                continue;
            };
            match stand.machine.untold(armed.id) {
                Ok(Some(vcpu)) => self.stored(at, vcpu, stand, stop),
                _ => {
                    let Some(watched) = self.all.get_mut(at) else { continue };
                    watched.totals.unseen += 1;
                    watched.state = State::Armed(Armed { value: there, ..armed });
                }
            }
        }
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
        if watched.store(stop.running, old, new) == Store::Record {
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
        self.pace(at, stand, stop, begun.elapsed());
    }

    /// Take a watch away for a while whose stores take too much of the guest's time.
    fn pace(&mut self, at: usize, stand: &mut Stand<'_>, stop: &Stop, took: Duration) {
        let Some(watched) = self.all.get_mut(at) else { return };
        let us = u64::try_from(stop.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        watched.totals.longest_stop_us = watched.totals.longest_stop_us.max(us);
        let Some(armed) = watched.armed() else { return };
        // A usual number of fires must not make it rest when the store that matters may be the next one. That it stops and goes on
        // takes the machine a while, too.
        let is_usual = watched.totals.fires <= u64::from(WatchOrder::MAX_FIRES);
        let counted = if is_usual { took.min(USUAL_FIRE) } else { took };
        let Some(until) = watched.pacing.stop(stop.running, counted + STOP_AND_GO) else { return };
        if stand.machine.disarm(armed.id).is_ok() {
            watched.totals.backed_off += 1;
            let Armed { place, value, .. } = armed;
            watched.state = State::Resting { since: stop.running, until, place, value };
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

/// What the emulator takes to stop and to go on, at least.
const STOP_AND_GO: Duration = Duration::from_micros(500);

/// The most that counts of one of the first fires.
const USUAL_FIRE: Duration = Duration::from_millis(5);

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
    for (role, bytes) in captured.blobs {
        stand.outbox.give(Item::Blob(role, bytes));
    }
    stand.outbox.capture(captured.sample, captured.checkpoint);
}
