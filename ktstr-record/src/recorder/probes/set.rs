//! All probes of a run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guest_init::message::{GuestStage, ProbeOrder, ToHost};
use ktstr_replay::kernel::query::Located;
use ktstr_replay::kernel::task::{OfTask, running_task};
use ktstr_replay::kernel::unwind::Code;
use ktstr_replay::kernel::{BpfPrograms, KernelView};
use ktstr_replay::probe::ProbeSite;
use ktstr_replay::trace::record::{EventBody, ProbeEvent, ProbeHit, ProbeNews, ProbeReturn, VcpuRegs};
use ktstr_replay::units::{Cpu, GuestNs, HostNs, KernelVirt};
use ktstr_replay::watch::{Missing, scheduler_mark};

use super::pacing::{Pacing, Rest};
use super::probed::{Armed, Probed, State};
use super::returns::{Pending, Returns, Wait};
use crate::machine::{Watch, WatchId};
use crate::recorder::watches::Stand;

/// Most probes of a run.
const MOST: usize = 128;
/// The first id of a breakpoint here: those of watches are lower.
const FIRST_ID: u32 = 1 << 31;
/// Most callers whose names are kept.
const MOST_CALLERS: usize = 4096;

/// The probes of a run, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(in crate::recorder) struct Probes {
    all: Vec<Probed>,
    ids: u32,
    /// A function may be elsewhere than it was.
    look: bool,
    /// A scheduler is enabled.
    has_scheduler: bool,
    /// What is stored to when a scheduler comes or goes.
    mark: Option<Mark>,
    returns: Returns,
    /// At this stop a vCPU came by the breakpoint of these returns, and none of them was it.
    passed: Option<WatchId>,
    pacing: Pacing,
    /// The BPF programs at the last look.
    programs: Arc<BpfPrograms>,
    /// Why these could not be read.
    unread: Option<String>,
    /// Names and source lines of what calls return to, at the last look.
    callers: HashMap<KernelVirt, (String, Option<String>)>,
}

#[derive(Debug)]
struct Mark {
    /// Its watch; `None` where the machine has no room for it. Programs are then found when init tells of the scheduler.
    id: Option<WatchId>,
    place: Located,
    value: Option<i128>,
}

/// One stop of the machine.
#[derive(Clone, Copy)]
struct Stop {
    guest_ns: GuestNs,
    host_ns: HostNs,
    running: Duration,
}

/// What stopped, and what is to be known of it.
struct Scene<'s> {
    view: &'s KernelView<'s>,
    registers: &'s VcpuRegs,
    task: Option<OfTask>,
}

impl Scene<'_> {
    fn task(&self) -> u64 {
        self.task.as_ref().map_or(0, |task| task.at.0)
    }
}

impl Probes {
    /// Whether a watch of this id is of a probe.
    pub(in crate::recorder) fn has(&self, id: WatchId) -> bool {
        id.0 >= FIRST_ID
    }

    /// A probe was asked for. It is looked for at the next [`Probes::find`].
    pub(in crate::recorder) fn ask(&mut self, order: ProbeOrder, by_body: bool, stand: &mut Stand<'_>) {
        if self.all.len() >= MOST {
            return;
        }
        let (probed, fault) = Probed::new(order, by_body);
        let asked = probed.asked();
        self.all.push(probed);
        let at = self.all.len() - 1;
        let now = now(stand);
        self.tell(stand, at, now, asked);
        if let Some(why) = fault {
            self.tell(stand, at, now, ProbeNews::Refused { why });
        }
        if at + 1 == MOST {
            self.refuse(stand, at, now, format!("there are more than {} probes in this run", MOST - 1));
        }
        self.look = true;
    }

    /// Whether the probe that was asked for last is given up.
    pub(in crate::recorder) fn last_is_refused(&self) -> bool {
        self.all.last().is_some_and(|probed| probed.state == State::Refused)
    }

    /// Take note of what the guest says.
    pub(in crate::recorder) fn hear(&mut self, message: &ToHost) {
        let ToHost::Stage { stage, .. } = message else { return };
        match stage {
            GuestStage::SchedulerEnabled | GuestStage::SchedulerRestarted => self.has_scheduler = true,
            GuestStage::SchedulerExited => self.has_scheduler = false,
            _ => return,
        }
        self.look |= !self.all.is_empty();
    }

    /// Whether the machine should be stopped for [`Probes::find`].
    pub(in crate::recorder) fn is_due(&self, running: Duration) -> bool {
        self.look || self.all.iter().any(|probed| probed.has_rested(running))
    }

    /// The machine is stopped for something else: look whether a scheduler has come or gone.
    pub(in crate::recorder) fn at_stop(&mut self, stand: &mut Stand<'_>) {
        let moved = self.mark.as_ref().is_some_and(|mark| read(stand, mark.place) != mark.value);
        if moved {
            self.look = true;
            self.find(stand);
        }
    }

    /// Find what is wanted, and arm or take away what changed. The machine is stopped.
    pub(in crate::recorder) fn find(&mut self, stand: &mut Stand<'_>) {
        let now = now(stand);
        let running = stand.clock.running();
        for probed in self.all.iter_mut().filter(|probed| probed.has_rested(running)) {
            probed.wake(running);
            self.look = true;
        }
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
        let ram = stand.machine.ram();
        let view = KernelView::new(&profile, &*ram);
        self.see_scheduler(stand, &view);
        for at in 0..self.all.len() {
            self.find_one(stand, &view, at, now);
        }
    }

    /// Where a scheduler has come or gone, its programs and what lies between them and the kernel are others.
    fn see_scheduler(&mut self, stand: &mut Stand<'_>, view: &KernelView<'_>) {
        self.callers.clear();
        (self.programs, self.unread) = match BpfPrograms::read(view) {
            Ok(programs) => (Arc::new(programs), None),
            Err(error) => (Arc::default(), Some(error.to_string())),
        };
        // A kernel without sched_ext has none.
        let Some(place) = scheduler_mark(view) else { return };
        let value = place.read(view).ok();
        if self.mark.as_ref().is_some_and(|mark| mark.value != value) {
            let (ids, calls) = self.returns.take_all();
            for id in ids {
                let _gone = stand.machine.disarm(id);
            }
            calls.iter().for_each(|call| self.lose(call));
        }
        let armed = self.mark.take().and_then(|mark| mark.id);
        let id = armed.or_else(|| {
            let id = self.next_id();
            let watch = Watch::Write { at: place.at.0, bytes: u64::from(place.bytes) };
            stand.machine.arm(id, watch).is_ok().then_some(id)
        });
        self.mark = Some(Mark { id, place, value });
    }

    /// Take away what is there for the sake of probes and is none, the less needed first. Whether that was anything.
    fn make_room(&mut self, stand: &mut Stand<'_>) -> bool {
        let (mut ids, calls) = self.returns.take_all();
        calls.iter().for_each(|call| self.lose(call));
        if ids.is_empty() {
            ids.extend(self.mark.as_mut().and_then(|mark| mark.id.take()));
        }
        for id in &ids {
            let _gone = stand.machine.disarm(*id);
        }
        !ids.is_empty()
    }

    fn find_one(&mut self, stand: &mut Stand<'_>, view: &KernelView<'_>, at: usize, now: (GuestNs, HostNs)) {
        let Some(probed) = self.all.get_mut(at) else { return };
        let armed = match &probed.state {
            State::Waiting(_) => None,
            // The kernel's own functions stay where they are.
            State::Armed(armed) if armed.site.is_program => Some(armed.clone()),
            _ => return,
        };
        let Some(target) = &probed.target else { return };
        match target.find(view, &self.programs) {
            Ok(site) if armed.as_ref().is_some_and(|armed| *armed.site == site) => {}
            Ok(site) => {
                if let Some(armed) = armed {
                    let _gone = stand.machine.disarm(armed.id);
                }
                self.arm(stand, at, now, site);
            }
            Err(missing) => {
                // A program that the enabled scheduler does not have, it will never have.
                let never =
                    matches!(missing, Missing::Ever(_)) || self.has_scheduler && self.unread.is_none();
                let why = match (&missing, &self.unread) {
                    (Missing::Now(why), Some(unread)) => {
                        format!("{why}; BPF programs could not be read: {unread}")
                    }
                    _ => missing.why().to_owned(),
                };
                match armed {
                    Some(armed) => {
                        let _gone = stand.machine.disarm(armed.id);
                        probed.state = State::Waiting(why.clone());
                        probed.told = None;
                        self.tell(stand, at, now, ProbeNews::Disarmed { why });
                    }
                    None if never && !probed.armed_ever => self.refuse(stand, at, now, why),
                    None if probed.state != State::Waiting(why.clone()) => {
                        probed.state = State::Waiting(why.clone());
                        probed.told = None;
                        self.tell(stand, at, now, ProbeNews::Waiting { why });
                    }
                    None => {}
                }
            }
        }
    }

    fn next_id(&mut self) -> WatchId {
        self.ids += 1;
        WatchId(FIRST_ID.wrapping_add(self.ids))
    }

    fn arm(&mut self, stand: &mut Stand<'_>, at: usize, now: (GuestNs, HostNs), site: ProbeSite) {
        let (id, watch) = (self.next_id(), Watch::Execute { at: site.at.0 });
        let mut armed = stand.machine.arm(id, watch);
        // One that has rested, or whose scheduler has come again, is not given up for what came in its place meanwhile.
        while armed.is_err() && self.make_room(stand) {
            armed = stand.machine.arm(id, watch);
        }
        if let Err(error) = armed {
            return self.refuse(stand, at, now, error.to_string());
        }
        let news = ProbeNews::Armed { at: site.at.0, place: site.place.clone(), names: site.names() };
        let Some(probed) = self.all.get_mut(at) else { return };
        // One that has rested is where it was.
        let is_told = probed.told.as_ref().is_some_and(|told| **told == site);
        let site = Arc::new(site);
        probed.told = Some(Arc::clone(&site));
        probed.state = State::Armed(Armed { id, site });
        probed.armed_ever = true;
        if !is_told {
            self.tell(stand, at, now, news);
        }
    }

    fn refuse(&mut self, stand: &mut Stand<'_>, at: usize, now: (GuestNs, HostNs), why: String) {
        let Some(probed) = self.all.get_mut(at) else { return };
        if matches!(probed.state, State::Spent | State::Refused) {
            return;
        }
        if let Some(armed) = probed.armed() {
            let _gone = stand.machine.disarm(armed.id);
        }
        probed.state = State::Refused;
        self.tell(stand, at, now, ProbeNews::Refused { why });
    }

    fn tell(&self, stand: &mut Stand<'_>, at: usize, now: (GuestNs, HostNs), what: ProbeNews) {
        let Some(probed) = self.all.get(at) else { return };
        let probe = u32::try_from(at).unwrap_or(u32::MAX);
        let event = ProbeEvent { probe, target: probed.order.target.clone(), what };
        stand.outbox.event(now.0, now.1, EventBody::Probe(Box::new(event)));
    }

    /// The machine stopped at `stopped` because `vcpu` came by a breakpoint, or a scheduler came or went. It goes on.
    pub(in crate::recorder) fn fired(
        &mut self,
        id: WatchId,
        vcpu: Cpu,
        stopped: Instant,
        stand: &mut Stand<'_>,
    ) {
        self.passed = None;
        let (guest_ns, host_ns) = now(stand);
        let stop = Stop { guest_ns, host_ns, running: stand.clock.running() };
        let of: Vec<usize> = if self.mark.as_ref().is_some_and(|mark| mark.id == Some(id)) {
            self.look = true;
            Vec::new()
        } else {
            self.came_by(id, vcpu, stop, stand)
        };
        let disturbed = stand.machine.watch_support().disturbed;
        for &probe in &of {
            if let Some(Rest { probe, until }) = self.pacing.stop(stop.running, disturbed, probe) {
                self.rest(probe, until, stop, stand);
            }
        }
        self.find(stand);
        let _heard_of_later = stand.machine.resume();
        let whole = stopped.elapsed();
        stand.clock.stopped_at_watch(whole);
        let us = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX);
        for at in of {
            let Some(probed) = self.all.get_mut(at) else { continue };
            let totals = &mut probed.totals;
            totals.longest_stop_us = totals.longest_stop_us.max(us);
            totals.stopped_us = totals.stopped_us.saturating_add(us);
        }
    }

    /// `vcpu` came by the breakpoint `id`. Gives the probes that it is of.
    fn came_by(&mut self, id: WatchId, vcpu: Cpu, stop: Stop, stand: &mut Stand<'_>) -> Vec<usize> {
        // That they cannot be had is heard of as the machine's end.
        let (Ok(profile), Ok(all)) = (stand.capturer.profile(), stand.machine.registers()) else {
            return Vec::new();
        };
        let Some(registers) = all.iter().find(|registers| registers.cpu == vcpu) else { return Vec::new() };
        let ram = stand.machine.ram();
        let view = KernelView::new(&profile, &*ram);
        let task = running_task(&view, vcpu).ok().flatten();
        let scene = Scene { view: &view, registers, task };
        // Also those of which none has returned: what passes by stops the machine on their account.
        let of = self.returns.probes_at(id);
        if let Some(calls) = self.returns.returned(id, scene.task(), ProbeSite::stack_of(registers)) {
            self.passed = Some(id).filter(|_| calls.is_empty());
            for call in calls {
                self.returned(&scene, call, stop, stand);
            }
            for id in self.returns.take_done() {
                let _gone = stand.machine.disarm(id);
            }
            return of;
        }
        let at = self.all.iter().filter_map(Probed::armed).find(|armed| armed.id == id);
        let Some(at) = at.map(|armed| armed.site.at) else { return Vec::new() };
        let is_there = |probed: &Probed| probed.armed().is_some_and(|armed| armed.site.at == at);
        let of: Vec<usize> =
            self.all.iter().enumerate().filter(|(_, probed)| is_there(probed)).map(|(nth, _)| nth).collect();
        for &probe in &of {
            self.called(&scene, probe, stop, stand);
        }
        of
    }

    /// A call of a probe's function.
    fn called(&mut self, scene: &Scene<'_>, at: usize, stop: Stop, stand: &mut Stand<'_>) {
        let Some(probed) = self.all.get_mut(at) else { return };
        let (State::Armed(armed), Some(target)) = (probed.state.clone(), &probed.target) else { return };
        let wants_return = target.returns();
        probed.totals.calls += 1;
        probed.totals.hits += 1;
        let number = u32::try_from(probed.totals.hits).unwrap_or(u32::MAX);
        let spent = probed.is_spent();
        let back = armed.site.return_of(scene.view, scene.registers);
        let (caller, source) = match &back {
            Ok((to, _)) => self.caller(scene.view, *to),
            Err(why) => (format!("the stack cannot be read: {why}"), None),
        };
        let hit = ProbeHit {
            number,
            cpu: scene.registers.cpu,
            pid: scene.task.as_ref().map(|task| task.pid),
            comm: scene.task.as_ref().map(|task| task.comm.clone()).unwrap_or_default(),
            values: armed.site.read(scene.view, scene.registers),
            caller,
            source,
        };
        let now = (stop.guest_ns, stop.host_ns);
        self.tell(stand, at, now, ProbeNews::Hit(Box::new(hit)));
        if wants_return {
            let call = |sp| Pending { probe: at, number, task: scene.task(), sp };
            match back {
                Ok((to, sp)) => self.wait(to, call(sp), stand),
                Err(_) => self.lose(&call(0)),
            }
        }
        if spent {
            if let Some(probed) = self.all.get_mut(at) {
                probed.state = State::Spent;
            }
            let _gone = stand.machine.disarm(armed.id);
            let why = format!("{number} calls of it are recorded, the most that may be");
            self.tell(stand, at, now, ProbeNews::Disarmed { why });
        }
    }

    /// What a call returns to, in words.
    fn caller(&mut self, view: &KernelView<'_>, to: KernelVirt) -> (String, Option<String>) {
        if let Some(known) = self.callers.get(&to) {
            return known.clone();
        }
        let found = Code::new(view, Arc::clone(&self.programs)).before(view, to);
        if self.callers.len() < MOST_CALLERS {
            self.callers.insert(to, found.clone());
        }
        found
    }

    /// Wait for a call to return to `to`.
    fn wait(&mut self, to: KernelVirt, call: Pending, stand: &mut Stand<'_>) {
        if self.returns.needs(to) == Wait::New {
            let id = self.next_id();
            if stand.machine.arm(id, Watch::Execute { at: to.0 }).is_ok() {
                self.returns.add(id, to);
            }
        }
        let lost = match self.returns.needs(to) {
            Wait::Known => self.returns.wait(to, call),
            Wait::New | Wait::NoRoom => Some(call),
        };
        if let Some(lost) = lost {
            self.lose(&lost);
        }
    }

    /// A call will not be seen to return.
    fn lose(&mut self, call: &Pending) {
        if let Some(probed) = self.all.get_mut(call.probe) {
            probed.totals.returns_lost += 1;
        }
    }

    /// A call has returned.
    fn returned(&mut self, scene: &Scene<'_>, call: Pending, stop: Stop, stand: &mut Stand<'_>) {
        let Some(probed) = self.all.get_mut(call.probe) else { return };
        probed.totals.returns += 1;
        let value = probed.told.as_ref().and_then(|site| site.returned(scene.view, scene.registers));
        let back = ProbeReturn { number: call.number, cpu: scene.registers.cpu, value };
        let now = (stop.guest_ns, stop.host_ns);
        self.tell(stand, call.probe, now, ProbeNews::Returned(Box::new(back)));
    }

    /// Take a probe away for a while that stops the machine too often.
    fn rest(&mut self, at: usize, until: Duration, stop: Stop, stand: &mut Stand<'_>) {
        // A call that does not return for long, or never, must not keep a breakpoint where others come by all the time.
        if let Some(id) = self.passed.take() {
            for call in self.returns.take(id) {
                self.lose(&call);
            }
            let _gone = stand.machine.disarm(id);
        }
        let Some(probed) = self.all.get_mut(at) else { return };
        let Some(armed) = probed.armed().cloned() else { return };
        if stand.machine.disarm(armed.id).is_ok() {
            probed.totals.backed_off += 1;
            probed.state = State::Resting { since: stop.running, until };
        }
    }

    /// The run is over.
    pub(in crate::recorder) fn close(&mut self, stand: &mut Stand<'_>) {
        let now = now(stand);
        let running = stand.clock.running();
        let (_, calls) = self.returns.take_all();
        calls.iter().for_each(|call| self.lose(call));
        for at in 0..self.all.len() {
            let Some(probed) = self.all.get_mut(at) else { continue };
            probed.wake(running);
            let totals = probed.totals;
            self.tell(stand, at, now, ProbeNews::Totals(totals));
        }
    }
}

fn now(stand: &Stand<'_>) -> (GuestNs, HostNs) {
    (stand.clock.guest_ns(), stand.clock.host_ns())
}

/// What is there now.
fn read(stand: &mut Stand<'_>, place: Located) -> Option<i128> {
    let profile = stand.capturer.profile().ok()?;
    let ram = stand.machine.ram();
    place.read(&KernelView::new(&profile, &*ram)).ok()
}
