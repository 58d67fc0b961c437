//! What a trace says of its probes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::site::BESIDE;
use super::target::after_scheduler;
use crate::text::{clean, counted, escaped, shorten};
use crate::trace::Trace;
use crate::trace::record::{Event, EventBody, ProbeHit, ProbeNews, ProbeReturn, ProbeTotals, ProbeValue};
use crate::units::GuestNs;
use crate::watch::AskedEnd;

/// Longest list of what there is beside a function, in characters.
const CLONES_CHARS: usize = 200;

/// The probes of a run, in the order in which they were asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeLog {
    /// The probes.
    pub probes: Vec<ProbeSeen>,
}

/// One probe, from when it was asked for to the end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeSeen {
    /// Its number.
    pub number: u32,
    /// What it is of, as its author wrote it.
    pub target: String,
    /// After how many recorded calls it is taken away.
    pub max_hits: u32,
    /// The test's body asked for it, at this time.
    pub by_body: bool,
    /// When it was asked for.
    pub asked_ns: GuestNs,
    /// Every time that it was armed: when, and the function or program.
    pub armed: Vec<(GuestNs, String)>,
    /// Every recorded call, in the order of time.
    pub calls: Vec<ProbeCall>,
    /// What it waits for, or why it was taken away last; `None` while it is armed.
    pub away: Option<String>,
    /// Why it was given up.
    pub refused: Option<String>,
    /// Its totals; `None` in a trace that was cut off.
    pub totals: Option<ProbeTotals>,
    /// What is read at each call since it was armed last.
    names: Arc<[String]>,
}

/// A recorded call.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeCall {
    /// When, guest time.
    pub at: GuestNs,
    /// The call.
    pub hit: ProbeHit,
    /// When it returned, and what; `None` where that was not asked for, or not seen.
    pub returned: Option<(GuestNs, ProbeReturn)>,
    names: Arc<[String]>,
}

/// Where the calls of a probe are that have not returned, by number. A call can take as long as the run.
type Calls = HashMap<u32, usize>;

impl ProbeLog {
    /// The probes that `events` tell of.
    #[must_use]
    pub fn of(events: &[Event]) -> Self {
        let mut probes: Vec<ProbeSeen> = Vec::new();
        // By number: where the probe is, and its calls that have not returned.
        let mut known: HashMap<u32, (usize, Calls)> = HashMap::new();
        for event in events {
            let EventBody::Probe(news) = &event.body else { continue };
            let (at, calls) = known.entry(news.probe).or_insert_with(|| {
                let (number, target) = (news.probe, news.target.clone());
                probes.push(ProbeSeen { number, target, asked_ns: event.guest_ns, ..ProbeSeen::default() });
                (probes.len() - 1, Calls::new())
            });
            if let Some(probe) = probes.get_mut(*at) {
                probe.hear(event.guest_ns, &news.what, calls);
            }
        }
        Self { probes }
    }

    /// The probes whose target is written `target`, or that are of the function of that name.
    pub fn named<'l>(&'l self, target: &'l str) -> impl Iterator<Item = &'l ProbeSeen> {
        self.probes.iter().filter(move |probe| probe.target == target || probe.function() == target)
    }
}

impl ProbeSeen {
    fn hear(&mut self, at: GuestNs, news: &ProbeNews, open: &mut Calls) {
        match news {
            ProbeNews::Asked { max_hits, by_body } => {
                (self.asked_ns, self.max_hits, self.by_body) = (at, *max_hits, *by_body);
            }
            ProbeNews::Waiting { why } | ProbeNews::Disarmed { why } => self.away = Some(why.clone()),
            ProbeNews::Armed { place, names, at: _ } => {
                self.armed.push((at, place.clone()));
                self.names = names.as_slice().into();
                self.away = None;
            }
            ProbeNews::Refused { why } => self.refused = Some(why.clone()),
            ProbeNews::Hit(hit) => {
                let names = Arc::clone(&self.names);
                open.insert(hit.number, self.calls.len());
                self.calls.push(ProbeCall { at, hit: (**hit).clone(), returned: None, names });
            }
            ProbeNews::Returned(back) => {
                let call = open.remove(&back.number).and_then(|nth| self.calls.get_mut(nth));
                if let Some(call) = call {
                    call.returned = Some((at, (**back).clone()));
                }
            }
            ProbeNews::Totals(totals) => self.totals = Some(*totals),
        }
    }

    /// The name of the function or program.
    #[must_use]
    pub fn function(&self) -> &str {
        let ends = |c: char| c == '(' || c.is_whitespace();
        let target = after_scheduler(&self.target).unwrap_or(&self.target);
        let name = target.trim_start().split(ends).next().unwrap_or_default();
        name.trim_matches('"')
    }

    /// What is read at each call, since it was armed last; empty where it never was.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What became of it.
    #[must_use]
    pub fn end(&self) -> AskedEnd {
        let (refused, away) = (self.refused.as_deref(), self.away.as_deref());
        AskedEnd::of(refused, away, !self.armed.is_empty(), !self.calls.is_empty())
    }

    /// What the compiler has made of the same function besides: `f.constprop.0, f.part.0`.
    fn clones(&self) -> Option<String> {
        let (_, clones) = self.armed.last()?.1.split_once(BESIDE)?;
        Some(shorten(&clean(clones), CLONES_CHARS))
    }

    /// What was dropped of it, in words; `None` where every call was recorded while it was armed.
    #[must_use]
    pub fn dropped(&self) -> Option<String> {
        let mut parts = Vec::new();
        parts.extend(self.clones().map(|clones| {
            format!("the compiler has made {clones} of it, too, whose calls are not seen; a probe names them in quotes")
        }));
        let totals = self.totals.unwrap_or_default();
        if totals.backed_off > 0 {
            parts.push(format!(
                "taken away {}, for {:.0} ms in all, as the calls took too much of the guest's time: those meanwhile are not counted",
                counted(usize::try_from(totals.backed_off).unwrap_or(usize::MAX), "time"),
                totals.blind_ns as f64 / 1e6
            ));
        }
        if totals.returns_lost > 0 {
            let lost = counted(usize::try_from(totals.returns_lost).unwrap_or(usize::MAX), "return");
            parts.push(format!("{lost} not seen"));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

impl ProbeCall {
    /// What was read, with its names.
    pub fn values(&self) -> impl Iterator<Item = (&str, &ProbeValue)> {
        let name = |nth| self.names.get(nth).map_or("?", String::as_str);
        self.hit.values.iter().enumerate().map(move |(nth, value)| (name(nth), value))
    }

    /// What was read as `name`, as its probe has it: `p->pid`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&ProbeValue> {
        self.values().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// The number that was read as `name`; addresses count as numbers.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i128> {
        self.value(name).and_then(ProbeValue::int)
    }

    /// The text that was read as `name`.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.value(name)? {
            ProbeValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Guest time from the call to its return, in ns; `None` where that was not seen.
    #[must_use]
    pub fn took_ns(&self) -> Option<u64> {
        self.returned.as_ref().map(|(at, _)| at.saturating_since(self.at))
    }
}

impl ProbeValue {
    /// As a number; addresses count as numbers.
    #[must_use]
    pub fn int(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Pointer(at) => Some(i128::from(*at)),
            Self::Text(_) | Self::Unread { .. } => None,
        }
    }
}

/// As a person reads it; safe for a terminal.
impl fmt::Display for ProbeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::Pointer(0) => f.write_str("NULL"),
            Self::Pointer(at) => write!(f, "{at:#x}"),
            Self::Text(text) => write!(f, "\"{}\"", escaped(text)),
            Self::Unread { why } => write!(f, "? ({})", escaped(why)),
        }
    }
}

impl Trace {
    /// The recorded calls of the probes of `target`, as their author wrote it, or of the function of that name; in the order of time.
    /// None where it was not probed or never called.
    #[must_use]
    pub fn probe(&self, target: &str) -> Vec<ProbeCall> {
        let log = ProbeLog::of(&self.events());
        let mut calls: Vec<ProbeCall> = log.named(target).flat_map(|probe| probe.calls.clone()).collect();
        calls.sort_by_key(|call| call.at);
        calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::ProbeEvent;
    use crate::units::HostNs;

    fn event(at: u64, probe: u32, what: ProbeNews) -> Event {
        let event = ProbeEvent { probe, target: "f(p->pid) returns".to_owned(), what };
        Event { guest_ns: GuestNs(at), host_ns: HostNs(at), body: EventBody::Probe(Box::new(event)) }
    }

    fn hit(number: u32) -> ProbeNews {
        ProbeNews::Hit(Box::new(ProbeHit { number, ..ProbeHit::default() }))
    }

    fn returned(number: u32) -> ProbeNews {
        ProbeNews::Returned(Box::new(ProbeReturn { number, ..ProbeReturn::default() }))
    }

    #[test]
    fn a_return_finds_its_call_however_many_calls_came_meanwhile() {
        let mut events = vec![event(1, 0, hit(1)), event(2, 1, hit(1))];
        events.extend((2..10_000).map(|number| event(u64::from(number), 0, hit(number))));
        // A second return of a call does not count, and neither does the return of an unknown call.
        for number in [1, 1, 20_000] {
            events.push(event(10_000 + u64::from(number), 0, returned(number)));
        }
        let log = ProbeLog::of(&events);
        assert_eq!((log.probes.len(), log.probes[0].calls.len()), (2, 9_999));
        assert_eq!(log.probes[0].calls[0].took_ns(), Some(10_000));
        let back = |probe: &ProbeSeen| probe.calls.iter().filter(|call| call.returned.is_some()).count();
        assert_eq!(log.probes.iter().map(back).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(log.probes[0].function(), "f");
    }

    #[test]
    fn what_there_is_beside_a_function_is_said_with_what_was_dropped() {
        let armed = |place: &str| ProbeNews::Armed { at: 1, place: place.to_owned(), names: Vec::new() };
        let dropped = |place: &str| ProbeLog::of(&[event(1, 0, armed(place))]).probes[0].dropped();
        assert_eq!(dropped("f"), None);
        let said = dropped("f, beside f.constprop.0, f.part.0\u{1b}").expect("words");
        assert!(said.starts_with("the compiler has made f.constprop.0, f.part.0"), "{said}");
        assert!(!said.contains('\u{1b}'), "{said}");
    }

    #[test]
    fn a_trace_with_a_probe_in_each_event_is_read_in_time() {
        let events: Vec<Event> = (0..100_000).map(|probe| event(1, probe, hit(1))).collect();
        assert_eq!(ProbeLog::of(&events).probes.len(), events.len());
    }

    #[test]
    fn the_function_is_what_stands_before_its_arguments() {
        for target in ["f", " f ( p )", "f\t(p) returns", "\"f\"()"] {
            let seen = ProbeSeen { target: target.to_owned(), ..ProbeSeen::default() };
            assert_eq!(seen.function(), "f", "{target:?}");
        }
    }
}
