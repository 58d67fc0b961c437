//! An event, and its fields by name.

use std::borrow::Cow;

use super::Timeline;
use super::build::ScenarioStep;
use crate::history::{LoggedStep, letters};
use crate::path::Number;
use crate::probe::{ProbeCall, ProbeSeen};
use crate::trace::record::{HistoryWhat, ProbeValue, WatchFire};
use crate::units::{Cpu, GuestNs};
use crate::watch::WatchSeen;

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub struct Happened<'t> {
    /// When.
    pub at: GuestNs,
    /// Position among what is of its kind of source: what tells it from others of the same time.
    pub(super) nth: usize,
    pub(super) what: What<'t>,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(super) enum What<'t> {
    Step(&'t LoggedStep),
    Fire(&'t WatchSeen, &'t WatchFire),
    Call(&'t ProbeSeen, &'t ProbeCall),
    Scenario(&'t ScenarioStep),
}

/// Why nothing is known of the task of a store or a call.
const UNREAD_TASK: &str = "the task that its CPU ran could not be read";

/// What a field of an event is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'t> {
    Number(Number),
    Text(Cow<'t, str>),
    /// There is none, as of a place without a source line.
    None,
    /// It is not known, and why.
    Unknown(String),
}

impl Value<'_> {
    fn number(number: impl Into<Number>) -> Self {
        Self::Number(number.into())
    }

    fn number_if(number: Option<impl Into<Number>>) -> Self {
        number.map_or(Self::None, Self::number)
    }
}

impl<'t> Value<'t> {
    fn text(text: &'t str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'t> Happened<'t> {
    /// Whether it is one of `those`, which are in the order of [`Matches::sure`](super::Matches::sure).
    #[must_use]
    pub(crate) fn is_among(&self, those: &[Self]) -> bool {
        those.binary_search_by_key(&self.key(), |one| one.key()).is_ok()
    }

    /// Whether both are the same event.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.key() == other.key()
    }

    /// Whether it happened after `other`, or at the same time by another CPU or source: which was first is then not known.
    #[must_use]
    pub(crate) fn is_behind(&self, other: &Self) -> bool {
        let of_one = self.cpu() == other.cpu() && self.key().1 == other.key().1;
        match of_one {
            true => self.key() > other.key(),
            false => self.at >= other.at && !self.is_same(other),
        }
    }

    /// By time, and in its order among those of one source.
    pub(super) fn key(&self) -> (GuestNs, u8, usize) {
        let source = match self.what {
            What::Scenario(_) => 0,
            What::Step(_) => 1,
            What::Fire(..) => 2,
            What::Call(..) => 3,
        };
        (self.at, source, self.nth)
    }

    /// The CPU on which it happened; `None`: the scenario's have none.
    pub(super) fn cpu(&self) -> Option<Cpu> {
        match self.what {
            What::Step(step) => Some(step.cpu),
            What::Fire(_, fire) => Some(fire.cpu),
            What::Call(_, call) => Some(call.hit.cpu),
            What::Scenario(_) => None,
        }
    }

    /// The field of that name.
    pub(super) fn field(&self, timeline: &'t Timeline, name: &str) -> Value<'t> {
        if let What::Call(_, call) = self.what {
            match call_field(call, name) {
                Value::None => {}
                value => return value,
            }
        }
        match name {
            "at_ms" => return Value::number(timeline.since_start_ns(self.at) as f64 / 1e6),
            "phase" => return timeline.phase_at(self.at).map_or(Value::None, Value::text),
            "cpu" => return Value::number_if(self.cpu().map(|cpu| cpu.0)),
            _ => {}
        }
        match self.what {
            What::Step(step) => of_step(timeline, step, name),
            What::Fire(_, fire) => of_fire(fire, name),
            What::Call(..) => Value::None,
            What::Scenario(step) => of_scenario(step, name),
        }
    }
}

fn of_step<'t>(timeline: &'t Timeline, step: &LoggedStep, name: &str) -> Value<'t> {
    let log = &timeline.history;
    let task = |place: u32, field: &str| match (log.task(place), field) {
        (Some(task), "pid") => Value::number(task.pid),
        (Some(task), "comm") => Value::text(&task.comm),
        (Some(task), "prio") => Value::number(task.prio),
        _ => Value::None,
    };
    match step.what {
        HistoryWhat::Switch { prev, state, next } => match name.split_once('_') {
            Some(("prev", "state")) => Value::Text(Cow::Owned(letters(state))),
            Some(("prev", field)) => task(prev, field),
            Some(("next", field)) => task(next, field),
            _ => Value::None,
        },
        HistoryWhat::Wakeup { task: of, by, to, .. } => match name {
            "target_cpu" => Value::number(to.0),
            "by" => Value::number(by),
            field => task(of, field),
        },
        HistoryWhat::Migrate { task: of, by, from, to } => match name {
            "orig_cpu" => Value::number(from.0),
            "dest_cpu" => Value::number(to.0),
            "by" => Value::number(by),
            field => task(of, field),
        },
        HistoryWhat::SchedExt { name: of, by, count } => match name {
            "name" => log.name(of).map_or(Value::None, Value::text),
            "delta" => Value::number(count),
            "by" => Value::number(by),
            _ => Value::None,
        },
    }
}

/// Who did it: a task did, so that one which could not be read is not known, rather than none.
fn pid<'t>(pid: Option<u32>) -> Value<'t> {
    pid.map_or_else(|| Value::Unknown(UNREAD_TASK.to_owned()), Value::number)
}

/// Its name, likewise.
fn comm(pid: Option<u32>, comm: &str) -> Value<'_> {
    match (pid, comm) {
        (None, "") => Value::Unknown(UNREAD_TASK.to_owned()),
        _ => Value::text(comm),
    }
}

fn of_fire<'t>(fire: &'t WatchFire, name: &str) -> Value<'t> {
    match name {
        "new" => Value::number(fire.new),
        "old" => Value::number(fire.old),
        "number" => Value::number(fire.number),
        "pid" => pid(fire.pid),
        "comm" => comm(fire.pid, &fire.comm),
        "place" => Value::text(&fire.place),
        "source" => fire.source.as_deref().map_or(Value::None, Value::text),
        _ => Value::None,
    }
}

/// A path of a probe as it is compared: `p->pid` and `p.pid` are one.
pub(super) fn same_path(path: &str) -> String {
    path.replace("->", ".").split_whitespace().collect()
}

/// What a call has under that name: what its probe reads comes before what every call has.
pub(super) fn call_field<'t>(call: &'t ProbeCall, name: &str) -> Value<'t> {
    read(call, name).unwrap_or_else(|| of_call(call, name))
}

/// What the probe has read under that name.
fn read<'t>(call: &'t ProbeCall, name: &str) -> Option<Value<'t>> {
    let is = |other: &str| other == name || same_path(other) == same_path(name);
    let (_, value) = call.values().find(|(other, _)| is(other))?;
    Some(of_value(value))
}

fn of_value(value: &ProbeValue) -> Value<'_> {
    match value {
        ProbeValue::Text(text) => Value::text(text),
        ProbeValue::Unread { why } => Value::Unknown(format!("it could not be read: {why}")),
        ProbeValue::Int(_) | ProbeValue::Pointer(_) => Value::number_if(value.int()),
    }
}

fn of_call<'t>(call: &'t ProbeCall, name: &str) -> Value<'t> {
    let hit = &call.hit;
    let unseen = || Value::Unknown("the return of the call was not seen".to_owned());
    match name {
        "number" => Value::number(hit.number),
        "pid" => pid(hit.pid),
        "comm" => comm(hit.pid, &hit.comm),
        "caller" => Value::text(&hit.caller),
        "source" => hit.source.as_deref().map_or(Value::None, Value::text),
        "took_ms" => call.took_ns().map_or_else(unseen, |ns| Value::number(ns as f64 / 1e6)),
        "returned" => match &call.returned {
            Some((_, back)) => back.value.as_ref().map_or(Value::None, of_value),
            None => unseen(),
        },
        _ => Value::None,
    }
}

fn of_scenario<'t>(step: &'t ScenarioStep, name: &str) -> Value<'t> {
    match (step, name) {
        (ScenarioStep::Op { name, .. }, "name")
        | (ScenarioStep::Begin { name, .. } | ScenarioStep::End { name, .. }, "name") => Value::text(name),
        (ScenarioStep::Op { detail, .. }, "detail") => Value::text(detail),
        (ScenarioStep::Begin { index, .. } | ScenarioStep::End { index, .. }, "index") => {
            Value::number(*index)
        }
        _ => Value::None,
    }
}
