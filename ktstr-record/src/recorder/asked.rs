//! What a test asks the machine to stop at: what watches and probes have in common, from the order to the end of the run.
//!
//! ```text
//! asked for ──► waiting ──► armed ──► fired, or called, as often as it may: spent
//!                  ▲          │ ▲
//!                  └──────────┘ └──► resting, where its stops take too much of the guest's time
//! ```
//!
//! What cannot be had is refused. Each step is an event of the trace.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use guest_init::message::{GuestStage, ToHost};
use ktstr_replay::kernel::query::Located;
use ktstr_replay::kernel::{KernelProfile, KernelView};
use ktstr_replay::path::SyntaxError;
use ktstr_replay::trace::record::{Away, EventBody};
use ktstr_replay::units::{GuestNs, HostNs, micros, nanos};

use super::capture::Capturer;
use super::clock::RunClock;
use super::outbox::Outbox;
use crate::machine::{Machine, MachineError, Watch, WatchId};

/// What watches and probes work with.
pub(super) struct Stand<'s> {
    pub machine: &'s mut dyn Machine,
    pub capturer: &'s mut Capturer,
    pub outbox: &'s mut Outbox,
    pub clock: &'s mut RunClock,
    pub phase: &'s Option<(u32, String)>,
}

/// A time, by both clocks.
pub(super) type Now = (GuestNs, HostNs);

impl Stand<'_> {
    /// The time of this stop.
    pub(super) fn now(&mut self) -> Now {
        (self.clock.date_stop(), self.clock.host_ns())
    }

    /// What is there now.
    pub(super) fn read(&mut self, place: Located) -> Option<i128> {
        let profile = self.capturer.profile().ok()?;
        let ram = self.machine.ram();
        place.read(&KernelView::new(&profile, &*ram)).ok()
    }

    /// Take a watch of the machine away.
    pub(super) fn disarm(&mut self, id: WatchId) {
        disarm(self.machine, id);
    }
}

/// Makes room in a machine by what is less needed, and says whether it has.
pub(super) type MakeRoom<'r> = dyn FnMut(&mut dyn Machine) -> bool + 'r;

/// Arm this, having room made for it as long as the machine refuses and there is something to make it of.
pub(super) fn arm(
    machine: &mut dyn Machine,
    id: WatchId,
    watch: Watch,
    make_room: &mut MakeRoom<'_>,
) -> Result<(), MachineError> {
    let mut armed = machine.arm(id, watch);
    while armed.is_err() && make_room(machine) {
        armed = machine.arm(id, watch);
    }
    armed
}

/// Take a watch of `machine` away. That it cannot be is heard of as the machine's end.
pub(super) fn disarm(machine: &mut dyn Machine, id: WatchId) {
    let _heard_of_later = machine.disarm(id);
}

/// What differs between watches and probes.
pub(super) trait Kind {
    type Order: Debug;
    /// An order that was read.
    type What: Debug;
    /// Where one is armed, and what is known of that place.
    type Site: Clone + Debug;
    type News: From<(Away, String)>;
    type Totals: Copy + Debug + Default;
    /// What only this kind keeps of one.
    type Own: Debug + Default;

    /// Most of a run.
    const MOST: usize;
    /// In the plural.
    const NAME: &'static str;
    /// What the machine knows them by is above that.
    const IDS_ABOVE: u32;

    fn read(order: &Self::Order) -> Result<Self::What, SyntaxError>;
    /// Whether both are the same place.
    fn is_same(one: &Self::Site, other: &Self::Site) -> bool;
    fn asked(order: &Self::Order, by_body: bool) -> Self::News;
    fn totals(totals: Self::Totals, pauses: Pauses) -> Self::News;
    /// The event of `news` of the one that was asked for as the `nth`.
    fn event(nth: u32, order: &Self::Order, news: Self::News) -> EventBody;
}

/// How the machine was kept from stopping, and for how long it stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pauses {
    /// How often one was taken away to rest.
    pub backed_off: u64,
    /// For how long, in all.
    pub blind_ns: u64,
    pub longest_stop_us: u64,
}

impl Pauses {
    /// The machine was stopped for so long.
    pub(super) fn stop(&mut self, took: Duration) {
        let us = micros(took);
        self.longest_stop_us = self.longest_stop_us.max(us);
    }
}

/// A watch or a probe that was asked for.
#[derive(Debug)]
pub(super) struct Asked<K: Kind> {
    pub order: K::Order,
    /// The order, read; `None` where it could not be, and is refused.
    pub what: Option<K::What>,
    pub state: State<K::Site>,
    armed_ever: bool,
    pub totals: K::Totals,
    pub pauses: Pauses,
    pub own: K::Own,
}

/// How far one has come.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State<S> {
    /// What it is of is not there; the reason that was told.
    Waiting(String),
    /// The machine stops for it.
    Armed(Armed<S>),
    /// Taken away until the machine has run that long; where it was armed then.
    Resting { since: Duration, until: Duration, was: Option<S> },
    /// It fired, or was called, as often as it may.
    Spent,
    /// It cannot be had.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Armed<S> {
    pub id: WatchId,
    pub site: S,
}

/// Why one is not there.
#[derive(Debug)]
pub(super) struct Gone {
    pub why: String,
    /// It never will be.
    pub ever: bool,
}

impl<K: Kind> Asked<K> {
    /// One that was asked for, and why it cannot be had.
    pub(super) fn new(order: K::Order) -> (Self, Option<String>) {
        let what = K::read(&order);
        let fault = what.as_ref().err().map(|error| error.render());
        let state = if fault.is_some() { State::Refused } else { State::Waiting(String::new()) };
        let asked = Self {
            order,
            what: what.ok(),
            state,
            armed_ever: false,
            totals: K::Totals::default(),
            pauses: Pauses::default(),
            own: K::Own::default(),
        };
        (asked, fault)
    }

    pub(super) fn armed(&self) -> Option<&Armed<K::Site>> {
        match &self.state {
            State::Armed(armed) => Some(armed),
            _ => None,
        }
    }

    /// It is wanted now, wherever it is.
    pub(super) fn is_looked_for(&self) -> bool {
        matches!(self.state, State::Waiting(_) | State::Armed(_))
    }

    /// It was taken away until now, when the machine has run for `running`.
    pub(super) fn has_rested(&self, running: Duration) -> bool {
        matches!(self.state, State::Resting { until, .. } if running >= until)
    }

    /// It rests no more: the machine has run for `running`. Where it was armed.
    pub(super) fn wake(&mut self, running: Duration) -> Option<K::Site> {
        let State::Resting { since, was, .. } = &mut self.state else { return None };
        let away = nanos(running.saturating_sub(*since));
        self.pauses.blind_ns = self.pauses.blind_ns.saturating_add(away);
        let was = was.take();
        self.state = State::Waiting(String::new());
        was
    }
}

/// All of a kind, in the order in which they were asked for.
#[derive(Debug)]
pub(super) struct AllAsked<K: Kind> {
    pub all: Vec<Asked<K>>,
    /// One may be elsewhere than it was.
    pub look: bool,
    /// A scheduler is enabled.
    pub has_scheduler: bool,
    ids: u32,
}

impl<K: Kind> Default for AllAsked<K> {
    fn default() -> Self {
        Self { all: Vec::new(), look: false, has_scheduler: false, ids: 0 }
    }
}

impl<K: Kind> AllAsked<K> {
    /// One was asked for. It is looked for at the next look.
    pub(super) fn ask(&mut self, order: K::Order, by_body: bool, stand: &mut Stand<'_>) {
        if self.all.len() >= K::MOST {
            return;
        }
        let asked = K::asked(&order, by_body);
        let (one, fault) = Asked::new(order);
        self.all.push(one);
        let at = self.all.len() - 1;
        let now = stand.now();
        self.tell(stand, at, now, asked);
        if let Some(why) = fault {
            self.tell(stand, at, now, (Away::Refused, why).into());
        }
        if at + 1 == K::MOST {
            let why = format!("there are more than {} {} in this run", K::MOST - 1, K::NAME);
            self.refuse(stand, at, now, why);
        }
        self.look = true;
    }

    /// Whether the one that was asked for last is given up.
    pub(super) fn last_is_refused(&self) -> bool {
        self.all.last().is_some_and(|asked| matches!(asked.state, State::Refused))
    }

    /// Take note of what the guest says.
    pub(super) fn hear(&mut self, message: &ToHost) {
        let ToHost::Stage { stage, .. } = message else { return };
        match stage {
            GuestStage::SchedulerEnabled | GuestStage::SchedulerRestarted => self.has_scheduler = true,
            GuestStage::SchedulerExited => self.has_scheduler = false,
            GuestStage::SchedulerStarted => {}
            _ => return,
        }
        self.look |= !self.all.is_empty();
    }

    /// Whether the machine should be stopped for a look, or for the end of a rest.
    pub(super) fn is_due(&self, running: Duration) -> bool {
        self.look || self.all.iter().any(|asked| asked.has_rested(running))
    }

    /// What is needed to look for them, if one is to be looked for.
    pub(super) fn begin_look(&mut self, stand: &mut Stand<'_>, now: Now) -> Option<Arc<KernelProfile>> {
        if !std::mem::take(&mut self.look) {
            return None;
        }
        match stand.capturer.profile() {
            Ok(profile) => Some(profile),
            Err(why) => {
                for at in 0..self.all.len() {
                    self.refuse(stand, at, now, format!("the kernel could not be read: {why}"));
                }
                None
            }
        }
    }

    /// One was looked for. Where it is to be armed; it is not armed elsewhere any more, then.
    pub(super) fn found(
        &mut self,
        stand: &mut Stand<'_>,
        at: usize,
        now: Now,
        found: Result<K::Site, Gone>,
    ) -> Option<K::Site> {
        let asked = self.all.get_mut(at)?;
        let id = asked.armed().map(|armed| armed.id);
        match found {
            Ok(site) if asked.armed().is_some_and(|armed| K::is_same(&armed.site, &site)) => None,
            Ok(site) => {
                if let Some(id) = id {
                    stand.disarm(id);
                }
                Some(site)
            }
            Err(Gone { why, ever }) => {
                let is_told = matches!(&asked.state, State::Waiting(told) if *told == why);
                match id {
                    Some(id) => {
                        stand.disarm(id);
                        asked.state = State::Waiting(why.clone());
                        self.tell(stand, at, now, (Away::Disarmed, why).into());
                    }
                    None if ever && !asked.armed_ever => self.refuse(stand, at, now, why),
                    None if !is_told => {
                        asked.state = State::Waiting(why.clone());
                        self.tell(stand, at, now, (Away::Waiting, why).into());
                    }
                    None => {}
                }
                None
            }
        }
    }

    /// The machine was asked to stop for one; if it does, `news` is told.
    pub(super) fn armed(
        &mut self,
        stand: &mut Stand<'_>,
        at: usize,
        now: Now,
        armed: Result<Armed<K::Site>, MachineError>,
        news: Option<K::News>,
    ) {
        match (armed, self.all.get_mut(at)) {
            (Ok(armed), Some(asked)) => {
                asked.state = State::Armed(armed);
                asked.armed_ever = true;
                if let Some(news) = news {
                    self.tell(stand, at, now, news);
                }
            }
            (Err(error), Some(_)) => self.refuse(stand, at, now, error.to_string()),
            (_, None) => {}
        }
    }

    /// One has fired, or was called, as often as it may.
    pub(super) fn spend(&mut self, stand: &mut Stand<'_>, at: usize, now: Now, why: String) {
        let Some(asked) = self.all.get_mut(at) else { return };
        if let Some(id) = asked.armed().map(|armed| armed.id) {
            stand.disarm(id);
        }
        asked.state = State::Spent;
        self.tell(stand, at, now, (Away::Disarmed, why).into());
    }

    /// Take one away from `since` to `until`.
    pub(super) fn rest(&mut self, stand: &mut Stand<'_>, at: usize, since: Duration, until: Duration) {
        let Some(asked) = self.all.get_mut(at) else { return };
        let armed = asked.armed().cloned();
        if armed.as_ref().is_none_or(|armed| stand.machine.disarm(armed.id).is_ok()) {
            asked.pauses.backed_off += 1;
            asked.state = State::Resting { since, until, was: armed.map(|armed| armed.site) };
        }
    }

    pub(super) fn refuse(&mut self, stand: &mut Stand<'_>, at: usize, now: Now, why: String) {
        let Some(asked) = self.all.get_mut(at) else { return };
        if matches!(asked.state, State::Spent | State::Refused) {
            return;
        }
        if let Some(id) = asked.armed().map(|armed| armed.id) {
            stand.disarm(id);
        }
        asked.state = State::Refused;
        self.tell(stand, at, now, (Away::Refused, why).into());
    }

    pub(super) fn tell(&self, stand: &mut Stand<'_>, at: usize, now: Now, news: K::News) {
        let Some(asked) = self.all.get(at) else { return };
        let nth = u32::try_from(at).unwrap_or(u32::MAX);
        stand.outbox.event(now.0, now.1, K::event(nth, &asked.order, news));
    }

    pub(super) fn next_id(&mut self) -> WatchId {
        self.ids += 1;
        WatchId(K::IDS_ABOVE.wrapping_add(self.ids))
    }

    /// The run is over.
    pub(super) fn close(&mut self, stand: &mut Stand<'_>) {
        let now = stand.now();
        let running = stand.clock.running();
        for at in 0..self.all.len() {
            let Some(asked) = self.all.get_mut(at) else { continue };
            asked.wake(running);
            let totals = K::totals(asked.totals, asked.pauses);
            self.tell(stand, at, now, totals);
        }
    }
}

#[cfg(test)]
mod tests {
    use guest_init::message::ProbeOrder;

    use super::*;
    use crate::recorder::probes::OfProbe;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_rests_is_looked_for_when_it_has_rested_and_its_time_is_counted() {
        let (mut asked, fault) = Asked::<OfProbe>::new(ProbeOrder::of("f(p->pid) returns"));
        assert_eq!(fault, None);
        assert!(asked.is_looked_for() && !asked.has_rested(MS * 100));
        asked.state = State::Resting { since: MS, until: MS * 50, was: None };
        assert!(!asked.is_looked_for());
        assert!(!asked.has_rested(MS * 49) && asked.has_rested(MS * 50));
        assert!(asked.wake(MS * 60).is_none());
        assert_eq!((&asked.state, asked.pauses.blind_ns), (&State::Waiting(String::new()), 59_000_000));
        asked.wake(MS * 70);
        assert_eq!(asked.pauses.blind_ns, 59_000_000);
    }
}
