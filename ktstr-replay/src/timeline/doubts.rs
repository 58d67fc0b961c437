//! What may have happened that a trace does not have.

use super::Timeline;
use crate::history::why_none;
use crate::path::{Bound, EventCondition, EventKind, EventPath, EventSource, MeasurePath, Test};
use crate::probe::ProbeSeen;
use crate::text::seconds;
use crate::units::{Cpu, GuestNs};
use crate::watch::WatchSeen;

/// A time in which events may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// They are after this time, or at it.
    pub from: GuestNs,
    /// They are before this time, or at it.
    pub until: GuestNs,
    /// They are of this CPU; `None`: of any.
    pub cpu: Option<Cpu>,
    /// There are at most so many; `None`: that is not known.
    pub most: Option<u64>,
    /// The run was not looked at any more then: it had ended, or soon did.
    pub is_tail: bool,
    /// Why they are missing.
    pub why: String,
}

/// The first release that notes events of sched_ext (`trace_sched_ext_event`, `kernel/sched/ext.c`).
const NOTES_SCX_EVENTS: (u32, u32) = (6, 15);

/// Of a watch or a probe of which the trace has no totals.
const NO_TOTALS: &str = "what it missed is told at the end of the run, which the trace does not have";

impl Doubt {
    /// Of all CPUs and the whole run.
    fn of_all(why: impl Into<String>) -> Self {
        let (from, until) = (GuestNs(0), GuestNs(u64::MAX));
        Self { from, until, cpu: None, most: None, is_tail: false, why: why.into() }
    }

    /// Whether some of that may be between two times, both included.
    #[must_use]
    pub fn is_within(&self, (from, until): (GuestNs, GuestNs)) -> bool {
        let begins = if self.is_tail { self.from < until } else { self.from <= until };
        begins && self.until >= from
    }
}

impl Timeline {
    /// What may have happened of what `path` names, and is not in the trace. Where its conditions say that it cannot be of a CPU, a time or a
    /// phase, what is missing there is none.
    #[must_use]
    pub fn doubts(&self, path: &EventPath) -> Vec<Doubt> {
        let mut doubts = match &path.source {
            EventSource::Kind(kind) if kind.is_of_history() => self.of_history(Some(*kind)),
            EventSource::Kind(_) => self.of_the_end(),
            EventSource::Watch(target) => {
                let watches = self.watches_of(target).unwrap_or_default();
                let mut doubts: Vec<Doubt> =
                    watches.into_iter().flat_map(|watch| self.of_watch(watch)).collect();
                doubts.extend(self.of_the_end());
                doubts
            }
            EventSource::Probe(target) => {
                let probes = self.probes_of(target, &[]).unwrap_or_default();
                let mut doubts: Vec<Doubt> = probes.into_iter().flat_map(of_probe).collect();
                doubts.extend(self.of_the_end());
                doubts
            }
        };
        doubts.extend(self.damage.iter().map(Doubt::of_all));
        self.retain(&mut doubts, self.of_all_events(path));
        doubts
    }

    /// What may be missing of measured times.
    #[must_use]
    pub(crate) fn doubts_of(&self, path: &MeasurePath) -> Vec<Doubt> {
        let mut doubts = self.of_history(None);
        doubts.extend(self.damage.iter().map(Doubt::of_all));
        // A wait on one CPU may have been over on another.
        self.retain(&mut doubts, path.filter.iter().filter(|condition| condition.field != "cpu"));
        doubts
    }

    /// Keep those of which all conditions may hold.
    fn retain<'c>(&self, doubts: &mut Vec<Doubt>, conditions: impl Iterator<Item = &'c EventCondition>) {
        let conditions: Vec<_> = conditions.map(|condition| (condition, self.times_of(condition))).collect();
        doubts.retain(|doubt| {
            conditions.iter().all(|(condition, times)| self.may_hold(condition, times.as_deref(), doubt))
        });
    }

    /// When a phase was on that a condition asks for: the beginnings, each with the last end of those up to it. `None`: it asks for none, or
    /// phases may be missing.
    fn times_of(&self, condition: &EventCondition) -> Option<Vec<(GuestNs, GuestNs)>> {
        let name = asked_phase(condition).filter(|_| self.knows_phases())?;
        let mut last = GuestNs(0);
        let of = self.phases.iter().filter(|phase| phase.name == name);
        Some(
            of.map(|phase| {
                last = last.max(phase.until.unwrap_or(GuestNs(u64::MAX)));
                (phase.from, last)
            })
            .collect(),
        )
    }

    fn of_history(&self, kind: Option<EventKind>) -> Vec<Doubt> {
        let Some(read) = self.history_read else {
            let why = why_none(&self.history_losses);
            return vec![Doubt::of_all(format!("no history was recorded: {why}"))];
        };
        let time = |at| seconds(self.since_start_ns(at));
        let mut doubts: Vec<Doubt> = self
            .history
            .missing
            .iter()
            .map(|missing| {
                let (from, until) = missing.span();
                let (cpu, most) = (Some(missing.cpu), Some(missing.count()));
                Doubt { from, until, cpu, most, is_tail: false, why: missing.words(time) }
            })
            .collect();
        doubts.extend(self.history_losses.iter().map(|loss| Doubt {
            most: Some(loss.count).filter(|count| *count > 0),
            ..Doubt::of_all(format!("of the history: {}", loss.detail))
        }));
        if self.history.senseless > 0 {
            doubts.push(Doubt {
                most: Some(self.history.senseless),
                ..Doubt::of_all(format!("{} steps of the history make no sense", self.history.senseless))
            });
        }
        if kind == Some(EventKind::SchedExtEvent) && !notes_scx_events(&self.release) {
            let (major, minor) = NOTES_SCX_EVENTS;
            doubts.push(Doubt::of_all(format!(
                "the kernel {} does not note events of sched_ext: {major}.{minor} and later do",
                self.release
            )));
        }
        doubts.push(Doubt {
            from: read,
            is_tail: true,
            ..Doubt::of_all(format!("the history was read for the last time at {}", time(read)))
        });
        doubts
    }

    /// Stores that a watch may not have seen, since it was asked for.
    fn of_watch(&self, watch: &WatchSeen) -> Vec<Doubt> {
        let mut doubts = of_watch(watch);
        let time = |at| seconds(self.since_start_ns(at));
        doubts.extend(watch.gaps.iter().map(|gap| {
            let (from, until) = (time(gap.from), time(gap.until));
            let why = match &gap.why {
                Some(why) => format!("it was not armed from {from} to {until} ({why})"),
                None => format!("what it is of was another when it was armed anew at {until}"),
            };
            Doubt {
                from: gap.from,
                until: gap.until,
                ..Doubt::of_all(format!(
                    "the watch of `{}`: {why}, and what was stored there before is not known",
                    watch.target
                ))
            }
        }));
        // It was found elsewhere: since when it is there, nobody saw.
        if watch.armed.len() > 1 {
            let of_it = format!("watch {}: ", watch.target);
            let late = self.watch_losses.iter().filter(|detail| detail.starts_with(&of_it));
            doubts
                .extend(late.map(|detail| Doubt { from: watch.asked_ns, ..Doubt::of_all(detail.as_str()) }));
        }
        doubts
    }

    /// What comes after a trace that breaks off. One that has its end has all.
    fn of_the_end(&self) -> Vec<Doubt> {
        let why = match self.has_end {
            true => format!("the run ended at {}", seconds(self.since_start_ns(self.last))),
            false => format!("the trace breaks off at {}", seconds(self.since_start_ns(self.last))),
        };
        vec![Doubt { from: self.last, is_tail: true, ..Doubt::of_all(why) }]
    }

    /// Whether a condition may hold of what is missing; `times` are those of [`times_of`](Self::times_of).
    fn may_hold(
        &self,
        condition: &EventCondition,
        times: Option<&[(GuestNs, GuestNs)]>,
        doubt: &Doubt,
    ) -> bool {
        if let Some(times) = times {
            let begun = times.partition_point(|(from, _)| *from <= doubt.until);
            let last = begun.checked_sub(1).and_then(|nth| times.get(nth));
            return last.is_some_and(|(_, until)| doubt.is_within((GuestNs(0), *until)));
        }
        match (condition.field.as_str(), &condition.test, doubt.cpu) {
            ("cpu", Test::Number(bound), Some(cpu)) => bound.holds(cpu.0.into()),
            ("at_ms", Test::Number(bound), _) => {
                let ms = |at| self.since_start_ns(at) as f64 / 1e6;
                may_be_within(bound, ms(doubt.from), ms(doubt.until))
            }
            _ => true,
        }
    }
}

/// The name of the phase that a condition asks for, if it does.
pub(super) fn asked_phase(condition: &EventCondition) -> Option<&str> {
    match (condition.field.as_str(), &condition.test) {
        ("phase", Test::Is(true, name)) => Some(name),
        _ => None,
    }
}

/// Whether a bound may hold of some number from `lo` to `hi`.
fn may_be_within(bound: &Bound, lo: f64, hi: f64) -> bool {
    use crate::path::{Cmp, Number};
    let (lo, hi) = (Number::from(lo), Number::from(hi));
    match bound {
        Bound::Cmp(Cmp::AtLeast | Cmp::Above, _) => bound.holds(hi),
        Bound::Cmp(Cmp::AtMost | Cmp::Below, _) => bound.holds(lo),
        Bound::Cmp(Cmp::Equal, n) => {
            Bound::Cmp(Cmp::AtLeast, lo).holds(*n) && Bound::Cmp(Cmp::AtMost, hi).holds(*n)
        }
        Bound::Cmp(Cmp::NotEqual, _) => true,
        Bound::In(band) => {
            band.start.is_none_or(|start| Bound::Cmp(Cmp::AtLeast, start).holds(hi))
                && band.end.is_none_or(|(end, _)| Bound::Cmp(Cmp::AtMost, end).holds(lo))
        }
    }
}

/// Whether a kernel notes events of sched_ext. One whose release cannot be read is taken for a new one.
fn notes_scx_events(release: &str) -> bool {
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= NOTES_SCX_EVENTS,
        _ => true,
    }
}

/// Stores that a watch may not have seen, since it was asked for.
fn of_watch(watch: &WatchSeen) -> Vec<Doubt> {
    let of = |why: String| Doubt {
        from: watch.asked_ns,
        ..Doubt::of_all(format!("the watch of `{}`: {why}", watch.target))
    };
    let mut doubts = Vec::new();
    if let Some(why) = &watch.refused {
        doubts.push(of(format!("it could not be had: {why}")));
    } else if watch.armed.is_empty() {
        let why = watch.away.as_deref().unwrap_or("the run ended before it was looked at");
        doubts.push(of(format!("it was never armed: {why}")));
    }
    if watch.totals.is_none() && !watch.armed.is_empty() {
        doubts.push(of(NO_TOTALS.to_owned()));
    }
    // What the condition excluded was no fire by the author's own word.
    if watch.totals.is_some_and(|totals| (totals.too_soon | totals.backed_off | totals.unseen) > 0) {
        doubts.push(of(watch.dropped().unwrap_or_default()));
    }
    let last = watch.fires.last().filter(|_| watch.fires.len() >= watch.max_fires as usize);
    if let Some((at, _)) = last {
        doubts.push(Doubt { from: *at, ..of(format!("it was taken away after {} fires", watch.max_fires)) });
    }
    doubts
}

/// Calls that a probe may not have seen, since it was asked for.
fn of_probe(probe: &ProbeSeen) -> Vec<Doubt> {
    let of = |why: String| Doubt {
        from: probe.asked_ns,
        ..Doubt::of_all(format!("the probe of `{}`: {why}", probe.target))
    };
    let mut doubts = Vec::new();
    if let Some(why) = &probe.refused {
        doubts.push(of(format!("it could not be had: {why}")));
    } else if probe.armed.is_empty() {
        let why = probe.away.as_deref().unwrap_or("the run ended before it was looked at");
        doubts.push(of(format!("it was never armed: {why}")));
    }
    if probe.totals.is_none() && !probe.armed.is_empty() {
        doubts.push(of(NO_TOTALS.to_owned()));
    }
    if probe.totals.is_some_and(|totals| totals.backed_off > 0) {
        doubts.push(of(probe.dropped().unwrap_or_default()));
    }
    let last = probe.calls.last().filter(|_| probe.calls.len() >= probe.max_hits as usize);
    if let Some(call) = last {
        doubts
            .push(Doubt { from: call.at, ..of(format!("it was taken away after {} calls", probe.max_hits)) });
    }
    doubts
}
