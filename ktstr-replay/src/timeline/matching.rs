//! Which events a path names.

use super::build::ScenarioStep;
use super::happened::{Value, What, call_field, same_path};
use super::{Happened, Timeline};
use crate::history::{LoggedStep, Measured};
use crate::path::{
    EventCondition, EventKind, EventPath, EventSource, FieldType, MeasurePath, PROBE_FIELDS, Test,
};
use crate::probe::ProbeSeen;
use crate::text::Candidates;
use crate::trace::record::HistoryWhat;
use crate::units::GuestNs;
use crate::watch::WatchSeen;

/// The events that a path names.
#[derive(Clone, Debug, Default)]
pub struct Matches<'t> {
    /// Those of which all conditions hold, in the order of time.
    pub sure: Vec<Happened<'t>>,
    /// Those of which that is not known, with the reason.
    pub unsure: Vec<(Happened<'t>, String)>,
    /// How many events there are without the conditions.
    pub looked_at: usize,
}

/// What a path names is not in the run, whatever happened in it: a misspelt name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoSource(String);

/// Whether a condition holds.
enum Holds {
    Yes,
    No,
    Unknown(String),
}

/// Whether `test` holds of a value.
fn holds(test: &Test, value: &Value<'_>) -> Holds {
    let yes = match (test, value) {
        (_, Value::Unknown(why)) => return Holds::Unknown(why.clone()),
        (Test::Number(bound), Value::Number(number)) => bound.holds(*number),
        (Test::Is(is, wanted), Value::Text(text)) => (text == wanted) == *is,
        (Test::Contains(part), Value::Text(text)) => text.contains(part.as_str()),
        // A value that is not there satisfies nothing; the types of others were looked at before.
        _ => false,
    };
    if yes { Holds::Yes } else { Holds::No }
}

/// Whether all of `filter` holds; a condition that does not hold beats doubt about another.
fn all_hold<'t>(filter: &[EventCondition], field: impl Fn(&str) -> Value<'t>) -> Holds {
    let mut unknown = None;
    for condition in filter {
        match holds(&condition.test, &field(&condition.field)) {
            Holds::Yes => {}
            Holds::No => return Holds::No,
            Holds::Unknown(why) => unknown = Some(why),
        }
    }
    unknown.map_or(Holds::Yes, Holds::Unknown)
}

/// Whether a step is of that kind.
fn is_of(kind: EventKind, step: &LoggedStep) -> bool {
    match step.what {
        HistoryWhat::Switch { .. } => kind == EventKind::SchedSwitch,
        HistoryWhat::Wakeup { is_new: false, .. } => kind == EventKind::SchedWakeup,
        HistoryWhat::Wakeup { is_new: true, .. } => kind == EventKind::SchedWakeupNew,
        HistoryWhat::Migrate { .. } => kind == EventKind::SchedMigrateTask,
        HistoryWhat::SchedExt { .. } => kind == EventKind::SchedExtEvent,
    }
}

impl Timeline {
    /// The events that `path` names, of the whole run.
    ///
    /// # Errors
    /// [`NoSource`]: nothing of that name was watched or probed, or the probe reads no such value; with the names that there are.
    pub fn matching(&self, path: &EventPath) -> Result<Matches<'_>, NoSource> {
        let mut matches = Matches::default();
        match &path.source {
            EventSource::Kind(kind) if kind.is_of_history() => {
                let steps = self.history.steps.iter().enumerate().filter(|(_, step)| is_of(*kind, step));
                let all = steps.map(|(nth, step)| Happened { at: step.at, nth, what: What::Step(step) });
                matches.add(self, path, all);
            }
            EventSource::Kind(kind) => {
                let is = |step: &ScenarioStep| match step {
                    ScenarioStep::Op { .. } => *kind == EventKind::Op,
                    ScenarioStep::Begin { .. } => *kind == EventKind::PhaseBegin,
                    ScenarioStep::End { .. } => *kind == EventKind::PhaseEnd,
                };
                let steps = self.scenario.iter().enumerate().filter(|(_, (_, step))| is(step));
                let all =
                    steps.map(|(nth, (at, step))| Happened { at: *at, nth, what: What::Scenario(step) });
                matches.add(self, path, all);
            }
            EventSource::Watch(target) => {
                let watches = self.watches_of(target)?;
                let fires = watches.into_iter().flat_map(|watch| {
                    watch.fires.iter().enumerate().map(move |(nth, (at, fire))| Happened {
                        at: *at,
                        nth: numbered(watch.number, nth),
                        what: What::Fire(watch, fire),
                    })
                });
                matches.add(self, path, fires);
            }
            EventSource::Probe(target) => {
                let probes = self.probes_of(target, &path.filter)?;
                let calls = probes.into_iter().flat_map(|probe| {
                    probe.calls.iter().enumerate().map(move |(nth, call)| Happened {
                        at: call.at,
                        nth: numbered(probe.number, nth),
                        what: What::Call(probe, call),
                    })
                });
                matches.add(self, path, calls);
            }
        }
        // Of several watches or probes, and of the scenario, whose times are those of messages.
        matches.sure.sort_by_key(Happened::key);
        matches.unsure.sort_by_key(|(event, _)| event.key());
        Ok(matches)
    }

    /// The watches of `target`.
    pub(super) fn watches_of(&self, target: &str) -> Result<Vec<&WatchSeen>, NoSource> {
        let found: Vec<&WatchSeen> =
            self.watches.watches.iter().filter(|watch| watch.target == target).collect();
        if found.is_empty() {
            let names = self.watches.watches.iter().map(|watch| watch.target.as_str());
            return Err(none_of("watched", target, names));
        }
        Ok(found)
    }

    /// The probes of `target`, which read what `filter` asks for.
    pub(super) fn probes_of(
        &self,
        target: &str,
        filter: &[EventCondition],
    ) -> Result<Vec<&ProbeSeen>, NoSource> {
        let is = |probe: &&ProbeSeen| probe.target == target || probe.function() == target;
        let found: Vec<&ProbeSeen> = self.probes.probes.iter().filter(is).collect();
        if found.is_empty() {
            let all = self.probes.probes.iter();
            return Err(none_of("probed", target, all.map(ProbeSeen::function)));
        }
        for (probe, condition) in found.iter().flat_map(|probe| filter.iter().map(move |of| (probe, of))) {
            if !probe.armed.is_empty() {
                reads(probe, condition)?;
            }
        }
        Ok(found)
    }

    /// The times that `path` names, of those that began in the test's body. Those that are not certain are among them.
    #[must_use]
    pub fn measured(&self, path: &MeasurePath) -> Vec<Measured> {
        let (Some((from, until)), Some(end)) = (self.body(), self.history_read) else { return Vec::new() };
        let mut all = self.history.measured(path.measure, end);
        all.retain(|time| {
            (from..=until).contains(&time.since)
                && matches!(all_hold(&path.filter, |name| self.field_of(time, name)), Holds::Yes)
        });
        all
    }

    fn field_of(&self, time: &Measured, name: &str) -> Value<'_> {
        let task = self.history.task(time.task);
        match (name, task) {
            ("at_ms", _) => Value::Number((self.since_start_ns(time.since) as f64 / 1e6).into()),
            ("phase", _) => self.phase_at(time.since).map_or(Value::None, |name| Value::Text(name.into())),
            ("cpu", _) => Value::Number(time.cpu.0.into()),
            ("pid", Some(task)) => Value::Number(task.pid.into()),
            ("prio", Some(task)) => Value::Number(task.prio.into()),
            ("comm", Some(task)) => Value::Text(task.comm.as_str().into()),
            _ => Value::None,
        }
    }
}

/// A position that tells fires and calls of several watches and probes apart.
pub(super) fn numbered(number: u32, nth: usize) -> usize {
    nth.saturating_add((number as usize) << 32)
}

fn none_of<'n>(what: &str, target: &str, names: impl Iterator<Item = &'n str>) -> NoSource {
    let names: Vec<&str> = names.collect();
    NoSource(match names.as_slice() {
        [] => format!("`{target}` was not {what}, and nothing else was"),
        _ => format!("`{target}` was not {what}{}", Candidates::new(target, names)),
    })
}

/// Whether the probe has a value for a condition, and one of the condition's type.
fn reads(probe: &ProbeSeen, condition: &EventCondition) -> Result<(), NoSource> {
    let field = &condition.field;
    let is_own = probe.names().iter().any(|name| same_path(name) == same_path(field));
    if !is_own && !PROBE_FIELDS.iter().any(|(name, _)| name == field) {
        let names =
            probe.names().iter().map(String::as_str).chain(PROBE_FIELDS.iter().map(|(name, _)| *name));
        let found = Candidates::new(field, names);
        return Err(NoSource(format!("the probe `{}` reads no `{field}`{found}", probe.target)));
    }
    let asks = probe.target.trim_end().ends_with("returns");
    if !is_own && !asks && matches!(field.as_str(), "returned" | "took_ms") {
        let target = &probe.target;
        return Err(NoSource(format!(
            "the probe `{target}` does not look at returns: `{target} returns` does"
        )));
    }
    let is_text = |value: &Value<'_>| match value {
        Value::Text(_) => Some(true),
        Value::Number(_) => Some(false),
        _ => None,
    };
    // All calls have the same types. What a function returns is known by its returns alone.
    let fixed = PROBE_FIELDS.iter().find(|(name, _)| !is_own && name == field && field != "returned");
    let found = match fixed {
        Some((_, is)) => Some(*is == FieldType::Text),
        None => probe.calls.iter().find_map(|call| is_text(&call_field(call, field))),
    };
    match (found, matches!(condition.test, Test::Number(_))) {
        (Some(true), true) => Err(NoSource(format!("`{field}` is a text, and is compared with a number"))),
        (Some(false), false) => Err(NoSource(format!("`{field}` is a number, and is compared with a text"))),
        _ => Ok(()),
    }
}

impl<'t> Matches<'t> {
    fn add(&mut self, timeline: &'t Timeline, path: &EventPath, all: impl Iterator<Item = Happened<'t>>) {
        for event in all {
            self.looked_at += 1;
            match all_hold(&path.filter, |name| event.field(timeline, name)) {
                Holds::Yes => self.sure.push(event),
                Holds::No => {}
                Holds::Unknown(why) => self.unsure.push((event, why)),
            }
        }
    }

    /// Those from a time up to another, both included.
    #[must_use]
    pub fn within(&self, (from, until): (GuestNs, GuestNs)) -> &[Happened<'t>] {
        let begin = self.sure.partition_point(|event| event.at < from);
        let end = self.sure.partition_point(|event| event.at <= until).max(begin);
        self.sure.get(begin..end).unwrap_or_default()
    }

    /// The first of which it is not known, in that time.
    pub(crate) fn unsure_within(&self, (from, until): (GuestNs, GuestNs)) -> Option<&(Happened<'t>, String)> {
        let begin = self.unsure.partition_point(|(event, _)| event.at < from);
        self.unsure.get(begin).filter(|(event, _)| event.at <= until)
    }
}
