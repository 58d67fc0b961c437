//! All probes of a run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ktstr_replay::kernel::query::Located;
use ktstr_replay::kernel::task::{OfTask, running_task};
use ktstr_replay::kernel::unwind::Code;
use ktstr_replay::kernel::{BpfPrograms, KernelView};
use ktstr_replay::probe::ProbeSite;
use ktstr_replay::trace::record::{ProbeHit, ProbeNews, ProbeReturn, VcpuRegs};
use ktstr_replay::units::{Cpu, KernelVirt, micros};
use ktstr_replay::watch::{Missing, scheduler_mark, sub_scheduler_marks};

use super::pacing::{Pacing, Rest};
use super::probed::{OfProbe, Probed};
use super::returns::{Pending, Returns, Wait};
use crate::machine::{Machine, Watch, WatchId};
use crate::recorder::asked::{AllAsked, Armed, Gone, Kind, Now, Stand, State, arm, disarm};

/// Most callers whose names are kept.
const MOST_CALLERS: usize = 4096;

/// The probes of a run.
#[derive(Debug, Default)]
pub(in crate::recorder) struct Probes {
    pub asked: AllAsked<OfProbe>,
    /// What is stored to when a scheduler comes or goes; of those below the root, where a probe is of one of several schedulers.
    marks: Vec<Mark>,
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

/// When the machine stopped.
#[derive(Clone, Copy)]
struct StopTime {
    now: Now,
    running: Duration,
}

/// The vCPU that stopped, and its state.
struct Stopped<'s> {
    view: &'s KernelView<'s>,
    registers: &'s VcpuRegs,
    task: Option<OfTask>,
}

impl Stopped<'_> {
    fn task(&self) -> u64 {
        self.task.as_ref().map_or(0, |task| task.at.0)
    }
}

impl Probes {
    /// Whether a watch of this id is of a probe.
    pub(in crate::recorder) fn has(&self, id: WatchId) -> bool {
        id.0 >= OfProbe::IDS_ABOVE
    }

    /// The run is over.
    pub(in crate::recorder) fn close(&mut self, stand: &mut Stand<'_>) {
        let (_, calls) = self.returns.take_all();
        calls.iter().for_each(|call| self.lose(call));
        self.asked.close(stand);
    }

    /// The machine is stopped for something else: look whether a scheduler has come or gone.
    pub(in crate::recorder) fn at_stop(&mut self, stand: &mut Stand<'_>) {
        let moved = self.marks.iter().any(|mark| stand.read(mark.place) != mark.value);
        if moved {
            self.asked.look = true;
            self.find(stand);
        }
    }

    /// Find what is wanted, and arm or take away what changed. The machine is stopped.
    pub(in crate::recorder) fn find(&mut self, stand: &mut Stand<'_>) {
        let now = stand.now();
        let running = stand.clock.running();
        for probed in self.asked.all.iter_mut().filter(|probed| probed.has_rested(running)) {
            probed.wake(running);
            self.asked.look = true;
        }
        let Some(profile) = self.asked.begin_look(stand, now) else { return };
        let ram = stand.machine.ram();
        let view = KernelView::new(&profile, &*ram);
        self.see_scheduler(stand, &view);
        for at in 0..self.asked.all.len() {
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
        let mut places: Vec<Located> = scheduler_mark(view).into_iter().collect();
        if self
            .asked
            .all
            .iter()
            .filter_map(|probed| probed.what.as_ref())
            .any(|what| what.scheduler().is_some())
        {
            places.extend(sub_scheduler_marks(view));
        }
        let before = std::mem::take(&mut self.marks);
        let has_moved =
            |mark: &Mark| !places.contains(&mark.place) || mark.place.read(view).ok() != mark.value;
        if before.iter().any(has_moved) {
            let (ids, calls) = self.returns.take_all();
            ids.into_iter().for_each(|id| stand.disarm(id));
            calls.iter().for_each(|call| self.lose(call));
        }
        for mark in before.iter().filter(|mark| !places.contains(&mark.place)) {
            mark.id.into_iter().for_each(|id| stand.disarm(id));
        }
        for place in places {
            let armed = before.iter().find(|mark| mark.place == place).and_then(|mark| mark.id);
            let id = armed.or_else(|| {
                let id = self.asked.next_id();
                let watch = Watch::Write { at: place.at.0, bytes: u64::from(place.bytes) };
                stand.machine.arm(id, watch).is_ok().then_some(id)
            });
            self.marks.push(Mark { id, place, value: place.read(view).ok() });
        }
    }

    /// Take away what is there for the sake of probes and is none, the less needed first. Whether that was anything. What watches have
    /// is not touched, and may take the room.
    pub(in crate::recorder) fn make_room(&mut self, machine: &mut dyn Machine) -> bool {
        let (mut ids, calls) = self.returns.take_all();
        calls.iter().for_each(|call| self.lose(call));
        if ids.is_empty() {
            ids.extend(self.marks.iter_mut().filter_map(|mark| mark.id.take()));
        }
        ids.iter().for_each(|id| disarm(machine, *id));
        !ids.is_empty()
    }

    fn find_one(&mut self, stand: &mut Stand<'_>, view: &KernelView<'_>, at: usize, now: Now) {
        let Some(probed) = self.asked.all.get(at) else { return };
        match &probed.state {
            State::Waiting(_) => {}
            // The kernel's own functions stay where they are.
            State::Armed(armed) if armed.site.is_program => {}
            _ => return,
        }
        let Some(target) = &probed.what else { return };
        let found = target.find(view, &self.programs).map(Arc::new).map_err(|missing| Gone {
            // A program that the enabled scheduler does not have, it will never have.
            // One below the root may come at any time.
            ever: matches!(missing, Missing::Ever(_))
                || self.asked.has_scheduler && self.unread.is_none() && !target.waits_for_scheduler(view),
            why: match (&missing, &self.unread) {
                (Missing::Now(why), Some(unread)) => {
                    format!("{why}; BPF programs could not be read: {unread}")
                }
                _ => missing.why().to_owned(),
            },
        });
        let site = self.asked.found(stand, at, now, found);
        let Some(probed) = self.asked.all.get_mut(at) else { return };
        if matches!(probed.state, State::Waiting(_)) && site.is_none() {
            probed.own.told = None;
        }
        if let Some(site) = site {
            // One that has rested is where it was.
            let is_told = probed.own.told.as_ref() == Some(&site);
            self.arm(stand, at, now, site, is_told);
        }
    }

    fn arm(&mut self, stand: &mut Stand<'_>, at: usize, now: Now, site: Arc<ProbeSite>, is_told: bool) {
        let (id, watch) = (self.asked.next_id(), Watch::Execute { at: site.at.0 });
        // One that has rested, or whose scheduler has come again, is not given up for what came in its place meanwhile.
        let armed = arm(stand.machine, id, watch, &mut |machine| self.make_room(machine));
        if armed.is_ok()
            && let Some(probed) = self.asked.all.get_mut(at)
        {
            probed.own.told = Some(Arc::clone(&site));
        }
        let news = || ProbeNews::Armed { at: site.at.0, place: site.place_in_words(), names: site.names() };
        let news = (!is_told).then(news);
        self.asked.armed(stand, at, now, armed.map(|()| Armed { id, site }), news);
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
        let stop = StopTime { now: stand.now(), running: stand.clock.running() };
        let of: Vec<usize> = if self.marks.iter().any(|mark| mark.id == Some(id)) {
            self.asked.look = true;
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
        let us = micros(whole);
        for at in of {
            let Some(probed) = self.asked.all.get_mut(at) else { continue };
            probed.pauses.stop(whole);
            probed.totals.stopped_us = probed.totals.stopped_us.saturating_add(us);
        }
    }

    /// `vcpu` came by the breakpoint `id`. Gives the probes that it is of.
    fn came_by(&mut self, id: WatchId, vcpu: Cpu, stop: StopTime, stand: &mut Stand<'_>) -> Vec<usize> {
        // That they cannot be had is heard of as the machine's end.
        let (Ok(profile), Ok(all)) = (stand.capturer.profile(), stand.machine.registers()) else {
            return Vec::new();
        };
        let Some(registers) = all.iter().find(|registers| registers.cpu == vcpu) else { return Vec::new() };
        let ram = stand.machine.ram();
        let view = KernelView::new(&profile, &*ram);
        let task = running_task(&view, vcpu).ok().flatten();
        let stopped_at = Stopped { view: &view, registers, task };
        // Also those of which none has returned: what passes by stops the machine on their account.
        let of = self.returns.probes_at(id);
        if let Some(calls) = self.returns.returned(id, stopped_at.task(), ProbeSite::stack_of(registers)) {
            self.passed = Some(id).filter(|_| calls.is_empty());
            for call in calls {
                self.returned(&stopped_at, call, stop, stand);
            }
            self.returns.take_done().into_iter().for_each(|id| stand.disarm(id));
            return of;
        }
        let all = &self.asked.all;
        let at = all.iter().filter_map(Probed::armed).find(|armed| armed.id == id);
        let Some(at) = at.map(|armed| armed.site.at) else { return Vec::new() };
        let is_there = |probed: &Probed| probed.armed().is_some_and(|armed| armed.site.at == at);
        let of: Vec<usize> =
            all.iter().enumerate().filter(|(_, probed)| is_there(probed)).map(|(nth, _)| nth).collect();
        for &probe in &of {
            self.called(&stopped_at, probe, stop, stand);
        }
        of
    }

    /// A call of a probe's function.
    fn called(&mut self, stopped_at: &Stopped<'_>, at: usize, stop: StopTime, stand: &mut Stand<'_>) {
        let Some(probed) = self.asked.all.get_mut(at) else { return };
        let (Some(armed), Some(target)) = (probed.armed().cloned(), &probed.what) else { return };
        let wants_return = target.returns();
        probed.totals.calls += 1;
        probed.totals.hits += 1;
        let number = u32::try_from(probed.totals.hits).unwrap_or(u32::MAX);
        let spent = probed.is_spent();
        let back = armed.site.return_of(stopped_at.view, stopped_at.registers);
        let (caller, source) = match &back {
            Ok((to, _)) => self.caller(stopped_at.view, *to),
            Err(why) => (format!("the stack cannot be read: {why}"), None),
        };
        let hit = ProbeHit {
            number,
            cpu: stopped_at.registers.cpu,
            pid: stopped_at.task.as_ref().map(|task| task.pid),
            comm: stopped_at.task.as_ref().map(|task| task.comm.clone()).unwrap_or_default(),
            values: armed.site.read(stopped_at.view, stopped_at.registers),
            caller,
            source,
        };
        self.asked.tell(stand, at, stop.now, ProbeNews::Hit(Box::new(hit)));
        if wants_return {
            let call = |sp| Pending { probe: at, number, task: stopped_at.task(), sp };
            match back {
                Ok((to, sp)) => self.wait(to, call(sp), stand),
                Err(_) => self.lose(&call(0)),
            }
        }
        if spent {
            let why = format!("{number} calls of it are recorded, the most that may be");
            self.asked.spend(stand, at, stop.now, why);
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
            let id = self.asked.next_id();
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
        if let Some(probed) = self.asked.all.get_mut(call.probe) {
            probed.totals.returns_lost += 1;
        }
    }

    /// A call has returned.
    fn returned(&mut self, stopped_at: &Stopped<'_>, call: Pending, stop: StopTime, stand: &mut Stand<'_>) {
        let Some(probed) = self.asked.all.get_mut(call.probe) else { return };
        probed.totals.returns += 1;
        let value =
            probed.own.told.as_ref().and_then(|site| site.returned(stopped_at.view, stopped_at.registers));
        let back = ProbeReturn { number: call.number, cpu: stopped_at.registers.cpu, value };
        self.asked.tell(stand, call.probe, stop.now, ProbeNews::Returned(Box::new(back)));
    }

    /// Take a probe away for a while that stops the machine too often.
    fn rest(&mut self, at: usize, until: Duration, stop: StopTime, stand: &mut Stand<'_>) {
        // A call that does not return for long, or never, must not keep a breakpoint where others come by all the time.
        if let Some(id) = self.passed.take() {
            for call in self.returns.take(id) {
                self.lose(&call);
            }
            stand.disarm(id);
        }
        if self.asked.all.get(at).and_then(Probed::armed).is_some() {
            self.asked.rest(stand, at, stop.running, until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::testing::Stub;

    /// The returns that are waited for go first, and the marks of probes after them; nothing of anybody else's, and nothing twice.
    #[test]
    fn room_is_made_of_what_probes_have_and_of_nothing_else() {
        let mut machine = Stub::with_room(8);
        let (of_watch, of_return, of_mark, of_probe) = (WatchId(1), WatchId(900), WatchId(901), WatchId(902));
        let write = Watch::Write { at: 8, bytes: 8 };
        for id in [of_watch, of_return, of_mark, of_probe] {
            machine.arm(id, write).expect("there is room");
        }
        let place = Located { at: KernelVirt(16), bytes: 8, signed: false };
        let mut probes = Probes::default();
        probes.marks.push(Mark { id: Some(of_mark), place, value: Some(1) });
        probes.marks.push(Mark { id: None, place, value: Some(1) });
        probes.returns.add(of_return, KernelVirt(0x100));
        assert!(probes.make_room(&mut machine));
        assert_eq!(machine.armed(), [1, 901, 902]);
        assert!(probes.make_room(&mut machine));
        assert_eq!(machine.armed(), [1, 902]);
        assert!(!probes.make_room(&mut machine), "there is nothing left to be taken");
        assert_eq!(machine.armed(), [1, 902]);
        // What it stood for is compared at each stop all the same.
        assert_eq!(probes.marks.len(), 2);
    }
}
