//! Events as claims name them: `event(sched_switch where next_comm == "victim")`, `probe(enqueue_task_scx where p->pid == 5)`,
//! `watch("scx_root->exit_kind" where new > 0)`, and what is measured between events: `wakeup_latency where comm ~ worker`.
//!
//! What fields an event has is a table here, so that a misspelt one is a fault of the text. What a probe reads at each call is known
//! only to the run that had the probe.

use std::fmt;
use std::str::FromStr;

use super::error::{SyntaxError, SyntaxFault};
use super::lex::{TokenKind, is_word};
use super::number::{Bound, Cmp};
use super::parse::{Parser, names};
use super::rows::{Test, word};
use crate::text::{SpanNs, nearest};

names! {
    /// A kind of event: what the kernel's tracepoints note, and what the scenario does.
    EventKind {
        /// A CPU runs another task.
        SchedSwitch = "sched_switch",
        /// A task is woken.
        SchedWakeup = "sched_wakeup",
        /// A task that was just made is woken for the first time.
        SchedWakeupNew = "sched_wakeup_new",
        /// A task goes to another CPU.
        SchedMigrateTask = "sched_migrate_task",
        /// sched_ext counted one of its events.
        SchedExtEvent = "sched_ext_event",
        /// The scenario did something to the guest.
        Op = "op",
        /// A phase of the scenario began.
        PhaseBegin = "phase_begin",
        /// A phase of the scenario ended.
        PhaseEnd = "phase_end",
    }
}

names! {
    /// A time that is measured between events of the history.
    Measure {
        /// From the wakeup of a task until it runs.
        WakeupLatency = "wakeup_latency",
        /// How long a task is runnable and does not run, woken or with its CPU taken from it.
        RunDelay = "run_delay",
        /// How long a task runs at a stretch.
        OnCpu = "on_cpu",
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldType {
    Number,
    Text,
}

/// Fields with what they hold.
pub(crate) type Fields = &'static [(&'static str, FieldType)];

use FieldType::{Number as N, Text as T};

impl EventKind {
    /// The fields of such an event.
    pub(crate) fn fields(self) -> Fields {
        match self {
            Self::SchedSwitch => &[
                ("cpu", N),
                ("prev_pid", N),
                ("prev_comm", T),
                ("prev_prio", N),
                ("prev_state", T),
                ("next_pid", N),
                ("next_comm", T),
                ("next_prio", N),
                ("at_ms", N),
                ("phase", T),
            ],
            Self::SchedWakeup | Self::SchedWakeupNew => &[
                ("cpu", N),
                ("pid", N),
                ("comm", T),
                ("prio", N),
                ("target_cpu", N),
                ("by", N),
                ("at_ms", N),
                ("phase", T),
            ],
            Self::SchedMigrateTask => &[
                ("cpu", N),
                ("pid", N),
                ("comm", T),
                ("prio", N),
                ("orig_cpu", N),
                ("dest_cpu", N),
                ("by", N),
                ("at_ms", N),
                ("phase", T),
            ],
            Self::SchedExtEvent => {
                &[("cpu", N), ("name", T), ("delta", N), ("by", N), ("at_ms", N), ("phase", T)]
            }
            Self::Op => &[("name", T), ("detail", T), ("at_ms", N), ("phase", T)],
            Self::PhaseBegin | Self::PhaseEnd => &[("index", N), ("name", T), ("at_ms", N)],
        }
    }

    /// Whether the history has such events: the others are the scenario's.
    pub(crate) fn is_of_history(self) -> bool {
        !matches!(self, Self::Op | Self::PhaseBegin | Self::PhaseEnd)
    }
}

/// The fields of a store to what is watched.
const WATCH_FIELDS: Fields = &[
    ("new", N),
    ("old", N),
    ("number", N),
    ("cpu", N),
    ("pid", N),
    ("comm", T),
    ("place", T),
    ("source", T),
    ("at_ms", N),
    ("phase", T),
];

/// The fields of every probed call, besides those that the probe reads.
pub(crate) const PROBE_FIELDS: Fields = &[
    ("number", N),
    ("cpu", N),
    ("pid", N),
    ("comm", T),
    ("caller", T),
    ("source", T),
    ("returned", N),
    ("took_ms", N),
    ("at_ms", N),
    ("phase", T),
];

/// The fields of a measured time.
const MEASURE_FIELDS: Fields =
    &[("pid", N), ("comm", T), ("prio", N), ("cpu", N), ("at_ms", N), ("phase", T)];

/// Where events come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EventSource {
    /// Events of a kind.
    Kind(EventKind),
    /// The fires of the watches of this target.
    Watch(String),
    /// The calls of what this probe is of: its target as its author wrote it, or its function.
    Probe(String),
}

/// Some events.
///
/// ```
/// use ktstr_replay::path::{EventPath, SyntaxError};
///
/// let path: EventPath = "event(sched_switch where next_comm == victim and cpu == 1)".parse()?;
/// assert_eq!(path.filter.len(), 2);
/// let fault = "event(sched_switch where next_com == victim)".parse::<EventPath>().unwrap_err();
/// assert!(fault.render().contains("did you mean `next_comm`?"));
/// # Ok::<(), SyntaxError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct EventPath {
    /// Of which.
    pub source: EventSource,
    /// What has to hold of an event, all of it.
    pub filter: Vec<EventCondition>,
}

/// Some times that are measured between events.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasurePath {
    /// Which times.
    pub measure: Measure,
    /// What has to hold of one, all of it.
    pub filter: Vec<EventCondition>,
}

/// What has to hold of an event.
#[derive(Clone, Debug)]
pub struct EventCondition {
    /// The field: `next_comm`, `p->pid`.
    pub field: String,
    /// What its value is held against.
    pub test: Test,
}

// By its text, as a condition on a row.
impl PartialEq for EventCondition {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

/// A name that stands without quotes: words with points or arrows between them.
fn is_plain_field(field: &str) -> bool {
    field.replace("->", ".").split('.').enumerate().all(|(nth, part)| match nth {
        0 => is_word(part),
        _ => super::lex::is_name(part),
    })
}

impl EventCondition {
    /// `known`: the fields that there are; `None`: others are known only to the run.
    fn parse(p: &mut Parser<'_>, known: Fields, is_all: bool) -> Result<Self, SyntaxError> {
        let begin = p.span();
        let quoted = matches!(p.peek(), TokenKind::Quoted(_));
        let mut field = p.name("a field of the event")?;
        let mut end = begin.end;
        while !quoted && p.touches() {
            let TokenKind::Sign(sign @ ("." | "->")) = *p.peek() else { break };
            p.advance();
            field.push_str(sign);
            end = p.span().end;
            field.push_str(&p.ident("a member")?.0);
        }
        let found = known.iter().find(|(name, _)| *name == field).map(|(_, is)| *is);
        if found.is_none() && is_all {
            let known: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            let meant = nearest(&field, &known);
            let fault =
                SyntaxFault::UnknownName { what: "field of such an event", name: field, meant, known };
            return Err(p.fault(begin.start..end, fault));
        }
        let at = p.span();
        let test = Test::parse(p)?;
        let is = if matches!(test, Test::Number(_)) { N } else { T };
        // What a probe reads under the name of a field may be of the other type.
        if is_all && found.is_some_and(|wanted| wanted != is) {
            let (expected, found) = match is {
                N => (format!("a text, as `{field}` is one: in quotes if it is made of digits"), "a number"),
                T => (format!("a number, as `{field}` is one"), "a text"),
            };
            return Err(p.fault(at, SyntaxFault::Expected { expected, found: found.to_owned() }));
        }
        Ok(Self { field, test })
    }

    /// ` where ..`, if that follows.
    fn parse_all(p: &mut Parser<'_>, known: Fields, is_all: bool) -> Result<Vec<Self>, SyntaxError> {
        let mut filter = Vec::new();
        if p.eat_word("where") {
            filter.push(Self::parse(p, known, is_all)?);
            while p.eat_word("and") {
                filter.push(Self::parse(p, known, is_all)?);
            }
        }
        Ok(filter)
    }
}

impl fmt::Display for EventCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match is_plain_field(&self.field) {
            true => write!(f, "{} {}", self.field, self.test),
            false => write!(f, "{} {}", word(&self.field), self.test),
        }
    }
}

fn write_filter(f: &mut fmt::Formatter<'_>, filter: &[EventCondition]) -> fmt::Result {
    for (nth, condition) in filter.iter().enumerate() {
        write!(f, " {} {condition}", if nth == 0 { "where" } else { "and" })?;
    }
    Ok(())
}

/// The words that events begin with.
const WORDS: [&str; 3] = ["event", "probe", "watch"];

impl EventPath {
    /// Whether events are named `ahead` words on. `watch("x")` alone is a number of captures: `alone_too` takes it all the same, where a
    /// parenthesis closes behind it.
    pub(crate) fn follows(p: &Parser<'_>, ahead: usize, alone_too: bool) -> bool {
        let TokenKind::Ident(word) = p.peek_at(ahead) else { return false };
        if !WORDS.contains(&word.as_str()) || *p.peek_at(ahead + 1) != TokenKind::Sign("(") {
            return false;
        }
        let has = |at: usize, text: &str| matches!(p.peek_at(at), TokenKind::Ident(word) if word == text);
        let ends = |at: usize| *p.peek_at(at) == TokenKind::Sign(")");
        word != "watch" || has(ahead + 3, "where") || (alone_too && ends(ahead + 3) && ends(ahead + 4))
    }

    pub(crate) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let what = "events: `event(sched_switch where ..)`, `probe(FUNCTION where ..)` or `watch(\"TARGET\" where ..)`";
        let word = match p.peek() {
            TokenKind::Ident(word) => WORDS.iter().find(|known| *known == word),
            _ => None,
        };
        let word = *word.ok_or_else(|| p.expected(what))?;
        p.advance();
        p.expect("(")?;
        let (source, known, is_all) = match word {
            "event" => {
                let kind = p.name_of("kind of event", EventKind::ALL)?;
                (EventSource::Kind(kind), kind.fields(), true)
            }
            "watch" => {
                let target = p.name("what is watched, in quotes, as `watch(\"bss.x\" where new > 0)`")?;
                (EventSource::Watch(target), WATCH_FIELDS, true)
            }
            _ => {
                let target = p.name("what is probed, as `probe(enqueue_task_scx)`")?;
                (EventSource::Probe(target), PROBE_FIELDS, false)
            }
        };
        let filter = EventCondition::parse_all(p, known, is_all)?;
        p.expect(")")?;
        Ok(Self { source, filter })
    }
}

impl FromStr for EventPath {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        Parser::whole(text, Self::parse)
    }
}

impl fmt::Display for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "event({}", kind.name()),
            Self::Watch(target) => write!(f, "watch(\"{target}\""),
            Self::Probe(target) => write!(f, "probe({}", word(target)),
        }
    }
}

impl fmt::Display for EventPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        write_filter(f, &self.filter)?;
        f.write_str(")")
    }
}

impl MeasurePath {
    pub(crate) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let measure = p.name_of("measure", Measure::ALL)?;
        Ok(Self { measure, filter: EventCondition::parse_all(p, MEASURE_FIELDS, true)? })
    }
}

impl FromStr for MeasurePath {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        Parser::whole(text, Self::parse)
    }
}

impl fmt::Display for MeasurePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.measure.name())?;
        write_filter(f, &self.filter)
    }
}

/// What a time is held against: `<= 20ms`, `in 1ms..20ms`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SpanBound {
    /// A comparison.
    Cmp(Cmp, SpanNs),
    /// A range with the meaning that it has in Rust.
    In {
        /// The least time in it; `None`: no lower end.
        start: Option<SpanNs>,
        /// The upper end, and whether it is itself in the range; `None`: no upper end.
        end: Option<(SpanNs, bool)>,
    },
}

impl SpanBound {
    pub(crate) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let what = "a bound on a time, such as `<= 20ms` or `in 1ms..20ms`";
        if p.eat_word("in") {
            let begin = p.span().start;
            let time = |p: &mut Parser<'_>| match p.peek() {
                TokenKind::Time(_) => p.time().map(Some),
                _ => Ok(None),
            };
            let start = time(p)?;
            let closed = p.eat("..=");
            if !closed && !p.eat("..") {
                return Err(p.expected("a range such as `1ms..20ms`"));
            }
            let finish = p.span();
            let end = time(p)?.map(|end| (end, closed));
            if end.is_none() && (closed || start.is_none()) {
                return Err(p.expected("a time such as `20ms`"));
            }
            if let (Some(from), Some((to, has))) = (start, end)
                && (from > to || (from == to && !has))
            {
                let text = format!("{from}..{}{to}", if has { "=" } else { "" });
                return Err(p.fault(begin..finish.end, SyntaxFault::EmptyRange { text }));
            }
            return Ok(Self::In { start, end });
        }
        let found = match p.peek() {
            TokenKind::Sign(sign) => Cmp::ALL.iter().find(|(name, _)| name == sign),
            _ => None,
        };
        let Some((_, cmp)) = found else { return Err(p.expected(what)) };
        p.advance();
        Ok(Self::Cmp(*cmp, p.time()?))
    }

    /// The same of a number of ns.
    pub(crate) fn in_ns(&self) -> Bound {
        let number = |time: SpanNs| super::Number::from(time.0);
        match *self {
            Self::Cmp(cmp, time) => Bound::Cmp(cmp, number(time)),
            Self::In { start, end } => Bound::In(super::Band {
                start: start.map(number),
                end: end.map(|(time, has)| (number(time), has)),
            }),
        }
    }
}

impl fmt::Display for SpanBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cmp(cmp, time) => write!(f, "{} {time}", cmp.name()),
            Self::In { start, end } => {
                f.write_str("in ")?;
                if let Some(start) = start {
                    write!(f, "{start}")?;
                }
                f.write_str("..")?;
                match end {
                    Some((time, true)) => write!(f, "={time}"),
                    Some((time, false)) => write!(f, "{time}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl From<std::ops::RangeToInclusive<std::time::Duration>> for SpanBound {
    fn from(range: std::ops::RangeToInclusive<std::time::Duration>) -> Self {
        Self::Cmp(Cmp::AtMost, range.end.into())
    }
}

impl From<std::ops::Range<std::time::Duration>> for SpanBound {
    fn from(range: std::ops::Range<std::time::Duration>) -> Self {
        Self::In { start: Some(range.start.into()), end: Some((range.end.into(), false)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_parses_and_prints() {
        for text in [
            "event(sched_switch)",
            "event(sched_switch where next_comm == victim)",
            "event(sched_switch where prev_state == \"R+\" and cpu in 0..2)",
            "event(sched_migrate_task where cpu == 1 and at_ms >= 1000)",
            "event(sched_ext_event where name ~ ENQ and delta > 1)",
            "event(op where name == offline)",
            "event(phase_begin where name == settle)",
            "probe(enqueue_task_scx where p->pid == 5)",
            "probe(enqueue_task_scx where p.scx.dsq_vtime > 5)",
            "probe(\"update_curr.isra.0\" where \"((struct foo *)p)->x\" != 0)",
            "probe(demo_enqueue where p->comm == worker)",
            "watch(\"scx_root->exit_kind\" where new > 0)",
        ] {
            let parsed: EventPath = text.parse().unwrap_or_else(|e: SyntaxError| panic!("{}", e.render()));
            assert_eq!(parsed.to_string(), text);
        }
        for text in ["wakeup_latency", "run_delay where comm ~ worker and cpu == 1", "on_cpu where pid == 7"]
        {
            let parsed: MeasurePath = text.parse().unwrap_or_else(|e: SyntaxError| panic!("{}", e.render()));
            assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn every_field_of_the_tables_can_be_asked_for() {
        let test = |is: FieldType| if is == N { "> 1" } else { "~ x" };
        for (name, kind) in EventKind::ALL {
            for (field, is) in kind.fields() {
                let text = format!("event({name} where {field} {})", test(*is));
                assert!(text.parse::<EventPath>().is_ok(), "{text}");
                let other = if *is == N { "~ x" } else { "> 1" };
                assert!(format!("event({name} where {field} {other})").parse::<EventPath>().is_err());
            }
        }
    }

    #[test]
    fn faults_are_pointed_at() {
        for (text, at) in [
            ("event(sched_swich)", 6..17),
            ("event(sched_switch where nxt_pid == 1)", 25..32),
            ("event(sched_switch where next_pid == victim)", 34..36),
            ("event(sched_switch where next_comm == 5)", 35..37),
            ("event(sched_switch where)", 24..25),
            ("watch(\"x\" where newer > 0)", 16..21),
            ("events(sched_switch)", 0..6),
            ("probe()", 6..7),
        ] {
            let error = text.parse::<EventPath>().expect_err(text);
            assert_eq!(error.span, at, "{}", error.render());
        }
        let error = "wakeup_latncy".parse::<MeasurePath>().expect_err("no such measure").render();
        assert!(error.contains("did you mean `wakeup_latency`?"), "{error}");
    }
}
