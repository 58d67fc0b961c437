//! A timeline, out of the events of a trace.

use std::sync::Arc;

use crate::history::HistoryLog;
use crate::probe::ProbeLog;
use crate::trace::Trace;
use crate::trace::record::{Event, EventBody, Loss, LossKind, Stage};
use crate::units::GuestNs;
use crate::watch::WatchLog;

use super::tasks::TaskNames;

/// What happened in a run.
#[derive(Clone, Debug)]
pub struct Timeline {
    pub(super) history: Arc<HistoryLog>,
    pub(super) watches: Arc<WatchLog>,
    pub(super) probes: Arc<ProbeLog>,
    /// Operations, and begins and ends of phases, in the order of the trace.
    pub(super) scenario: Vec<(GuestNs, ScenarioStep)>,
    pub(super) phases: Vec<Phase>,
    /// When the body began.
    pub(super) origin: GuestNs,
    body: Option<(GuestNs, GuestNs)>,
    /// Up to when the history was read; `None`: there is none.
    pub(super) history_read: Option<GuestNs>,
    /// What was said of the history's absence or faults.
    pub(super) history_losses: Vec<Loss>,
    /// What was said of watches whose moves may have been seen late, each with the watch's target in front.
    pub(super) watch_losses: Vec<String>,
    /// Why events of any kind may be missing.
    pub(super) damage: Vec<String>,
    /// The trace goes on to the end of the machine.
    pub(super) has_end: bool,
    /// The latest time of an event.
    pub(super) last: GuestNs,
    /// The kernel's release.
    pub(super) release: String,
    pub(super) tasks: TaskNames,
}

/// Losses of watches that are looked at: the recorder tells of each watch once.
const WATCH_LOSSES: usize = 64;
/// Phases that are looked at: no scenario has as many.
const MOST_PHASES: usize = 4096;
/// Phases that may be on at once, or be ended by a number.
const OPEN_PHASES: usize = 64;

/// Something that the scenario did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ScenarioStep {
    Op { name: String, detail: String },
    Begin { index: u32, name: String },
    End { index: u32, name: String },
}

/// A phase of the scenario.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    pub index: u32,
    pub name: String,
    pub from: GuestNs,
    /// `None`: it has not ended.
    pub until: Option<GuestNs>,
}

/// What the events say of CPUs, watches and probes, which others read, too.
pub(crate) struct Logs {
    pub history: Arc<HistoryLog>,
    pub watches: Arc<WatchLog>,
    pub probes: Arc<ProbeLog>,
}

impl Timeline {
    /// That of the run with these `events` and `losses`, of which `logs` were made.
    pub(crate) fn new(trace: &Trace, events: &[Event], losses: &[Loss], logs: Logs) -> Self {
        let Logs { history, watches, probes } = logs;
        let at = |wanted: &[Stage]| {
            events.iter().find(|event| match &event.body {
                EventBody::Stage { stage, .. } => wanted.contains(stage),
                EventBody::Body { .. } => wanted.contains(&Stage::BodyEnded),
                _ => false,
            })
        };
        // Those of the history have the time at which they were read, which is a capture's.
        let last = events.iter().map(|event| event.guest_ns).max().unwrap_or_default();
        let began = at(&[Stage::BodyStarted]).map(|event| event.guest_ns);
        let has_end = events.iter().any(|event| matches!(event.body, EventBody::End { .. }));
        // Of a trace that breaks off it is not known when the body ended.
        let unknown = if has_end { last } else { GuestNs(u64::MAX) };
        let ended = at(&[Stage::BodyEnded, Stage::TestExited]).map_or(unknown, |event| event.guest_ns);
        let of_history = |event: &&Event| matches!(event.body, EventBody::History(_));
        let read = events.iter().filter(of_history).map(|event| event.guest_ns).max();
        let noted = history.steps.last().map(|step| step.at);
        let (scenario, phases, more_phases) = scenario(events);
        let mut damage = damage(trace, losses);
        if more_phases > 0 {
            damage.push(format!(
                "the trace has {more_phases} phases more than the {MOST_PHASES} that are read"
            ));
        }
        let history_losses =
            losses.iter().filter(|loss| loss.kind == LossKind::SchedEvents).cloned().collect();
        let of_watches = |loss: &&Loss| loss.kind == LossKind::WatchFires && loss.count == 0;
        let watch_losses =
            losses.iter().filter(of_watches).take(WATCH_LOSSES).map(|loss| loss.detail.clone()).collect();
        let release = trace.manifest().map_or_else(|_| String::new(), |m| m.kernel.release.clone());
        Self {
            history,
            watches,
            probes,
            scenario,
            phases,
            origin: began.unwrap_or_default(),
            body: began.map(|began| (began, ended.max(began))),
            history_read: read.max(noted),
            history_losses,
            watch_losses,
            damage,
            has_end,
            last,
            release,
            tasks: TaskNames::of(trace),
        }
    }

    /// From when to when the test's body ran, `None`: it never began. Where a trace breaks off before its end, that is never.
    #[must_use]
    pub fn body(&self) -> Option<(GuestNs, GuestNs)> {
        self.body
    }

    /// How many events there are of all sources.
    pub(crate) fn size(&self) -> u64 {
        let fires = self.watches.watches.iter().map(|watch| watch.fires.len());
        let calls = self.probes.probes.iter().map(|probe| probe.calls.len());
        (self.history.steps.len() + self.scenario.len() + fires.sum::<usize>() + calls.sum::<usize>()) as u64
    }

    /// A guest time in ns since the body began; negative before it.
    #[must_use]
    pub fn since_start_ns(&self, at: GuestNs) -> i64 {
        at.since(self.origin)
    }

    /// Whether all phases of the run are known: none can be missing.
    pub(super) fn knows_phases(&self) -> bool {
        self.damage.is_empty() && self.has_end
    }

    /// The phase that was on: the latest that had begun and not ended.
    pub(super) fn phase_at(&self, at: GuestNs) -> Option<&str> {
        let begun = self.phases.partition_point(|phase| phase.from <= at);
        let begun = self.phases.get(..begun).unwrap_or_default();
        let on = |phase: &&Phase| phase.until.is_none_or(|until| at < until);
        begun.iter().rev().take(OPEN_PHASES).find(on).map(|phase| phase.name.as_str())
    }
}

impl Trace {
    /// What happened in the run, to make claims about. The events are decoded at this call; keep it rather than making it again.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        let events = self.events();
        let logs = Logs {
            history: Arc::new(HistoryLog::of(&events)),
            watches: Arc::new(WatchLog::of(&events)),
            probes: Arc::new(ProbeLog::of(&events)),
        };
        Timeline::new(self, &events, &self.losses(), logs)
    }
}

/// Operations, phases by their beginnings, and how many phases there are besides. An end has the name of its beginning.
fn scenario(events: &[Event]) -> (Vec<(GuestNs, ScenarioStep)>, Vec<Phase>, usize) {
    let (mut steps, mut phases, mut more) = (Vec::new(), Vec::<Phase>::new(), 0);
    for event in events {
        let at = event.guest_ns;
        let step = match &event.body {
            EventBody::Op { name, detail } => ScenarioStep::Op { name: name.clone(), detail: detail.clone() },
            EventBody::PhaseBegin { index, name } => {
                let (index, name) = (*index, name.clone());
                match phases.len() < MOST_PHASES {
                    true => phases.push(Phase { index, name: name.clone(), from: at, until: None }),
                    false => more += 1,
                }
                ScenarioStep::Begin { index, name }
            }
            EventBody::PhaseEnd { index } => {
                // One that has ended does not end again: its name, which may be long, is told once for each record that has it.
                let is = |phase: &&mut Phase| phase.index == *index && phase.until.is_none();
                let of = phases.iter_mut().rev().take(OPEN_PHASES).find(is);
                let name = of.map_or_else(String::new, |phase| {
                    phase.until = Some(at);
                    phase.name.clone()
                });
                ScenarioStep::End { index: *index, name }
            }
            _ => continue,
        };
        steps.push((at, step));
    }
    phases.sort_by_key(|phase| phase.from);
    (steps, phases, more)
}

/// Why events of any kind may be missing from a trace.
fn damage(trace: &Trace, losses: &[Loss]) -> Vec<String> {
    let mut damage: Vec<String> =
        trace.faults().iter().map(|fault| format!("the trace is damaged: {fault}")).collect();
    let whole = trace.completeness();
    if whole.absent_records > 0 {
        damage.push(format!("{} records of the trace are not there", whole.absent_records));
    }
    if whole.newer_bodies > 0 {
        damage.push(format!("{} records of the trace are of a newer release", whole.newer_bodies));
    }
    let lost = losses.iter().filter(|loss| {
        let is_of_events = matches!(
            loss.kind,
            LossKind::Write
                | LossKind::Records
                | LossKind::GuestFrames
                // No release writes these two with a count yet.
                | LossKind::WatchFires
                | LossKind::ProbeHits
        );
        is_of_events && loss.count > 0 && !loss.is_on_purpose()
    });
    damage.extend(lost.map(|loss| format!("lost: {} {}: {}", loss.count, loss.kind.as_str(), loss.detail)));
    damage
}
