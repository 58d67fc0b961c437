//! `within(x == 0, 50ms, after=event(sched_switch where next_comm == victim))`.

use std::fmt;

use super::events::{Events, Reasons, Window, at, events, untold};
use crate::claim::{Judgement, Offender, PatternInfo, Predicate};
use crate::path::parse::Parser;
use crate::path::{EventPath, Projection, SyntaxError};
use crate::series::Column;
use crate::text::SpanNs;
use crate::timeline::{Happened, Timeline};
use crate::verdict::Outcome;

/// Something is true at a capture, or happens, within a time after each of some events.
#[derive(Clone, Debug, PartialEq)]
pub struct Within {
    /// What.
    pub what: Operand,
    /// The time.
    pub within: SpanNs,
    /// After each of these.
    pub after: EventPath,
}

/// What is to be true, or to happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// True at a capture.
    Is(Predicate),
    /// An event.
    Happens(EventPath),
}

/// What came of one of the events.
enum Came {
    InTime,
    /// With the position of the last sample that was looked at.
    Not(Option<usize>),
    /// The run ended before the time was over.
    Unfinished,
    Untold(String),
}

impl Within {
    pub(in crate::claim) const INFO: PatternInfo = PatternInfo {
        name: "within",
        example: "within(event(sched_switch where next_comm == victim), 50ms, after=event(sched_wakeup where comm == victim))",
        holds: "it is true, or happens, within that time after each",
    };

    pub(in crate::claim) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let what = match EventPath::follows(p, 0, false) {
            true => Operand::Happens(EventPath::parse(p)?),
            false => Operand::Is(Predicate::parse(p)?),
        };
        p.expect(",")?;
        let within = p.time()?;
        let mut after = None;
        p.named_args("within", &["after"], |p, _| {
            after = Some(EventPath::parse(p)?);
            Ok(())
        })?;
        let after =
            after.ok_or_else(|| p.missing("within", "after", "within(x == 0, 50ms, after=event(op))"))?;
        Ok(Self { what, within, after })
    }

    pub(in crate::claim) fn projections(&self) -> Vec<&Projection> {
        match &self.what {
            Operand::Is(predicate) => vec![&predicate.of],
            Operand::Happens(_) => Vec::new(),
        }
    }

    /// No such event at all is inconclusive. What may be missing leaves it open: of the events that begin it anywhere in the body, of the
    /// others in the time that it is about.
    pub(in crate::claim) fn judge(&self, columns: &[&Column], timeline: &Timeline) -> Judgement {
        let begins = match Events::find(timeline, &self.after) {
            Ok(found) => found,
            Err(judgement) => return judgement,
        };
        let happens = match &self.what {
            Operand::Is(_) => None,
            Operand::Happens(path) => match Events::find(timeline, path) {
                Ok(found) => Some(found),
                Err(judgement) => return judgement,
            },
        };
        let (mut broken, mut untold_of, mut unfinished) = (Vec::new(), Reasons::default(), 0);
        for event in begins.in_body() {
            let came = match (&self.what, &happens, columns.first()) {
                (Operand::Happens(_), Some(found), _) => self.came(found, event),
                (Operand::Is(predicate), _, Some(column)) => {
                    self.was_true(predicate, column, event, begins.body)
                }
                _ => Came::Untold("there are no captures".to_owned()),
            };
            match came {
                Came::InTime => {}
                Came::Not(sample) => broken.push((*event, sample)),
                Came::Unfinished => unfinished += 1,
                Came::Untold(why) => untold_of.push(|| format!("after {}: {why}", at(timeline, event))),
            }
        }
        let count = begins.in_body().len();
        let mut notes = begins.note_outside();
        if unfinished > 0 {
            notes.push(format!("after {} the run ended before the time was over", events(unfinished)));
        }
        if let Some((first, sample)) = broken.first() {
            let summary = format!(
                "not within {} after {} of {}; the first at {}",
                self.within,
                broken.len(),
                events(count),
                at(timeline, first)
            );
            let offenders =
                sample.map(|at| Offender::new(at, self.why_not(columns, at))).into_iter().collect();
            let lines = timeline.around(first.at, |event| broken.iter().any(|(one, _)| one.is_same(event)));
            return Judgement::broken(offenders, summary).showing(lines).noting(notes);
        }
        untold_of.extend(begins.doubts_in(timeline, begins.body));
        if !untold_of.is_empty() {
            let judged = count.saturating_sub(unfinished);
            return untold(&format!("cannot be told of all; {} seen", events(judged)), untold_of)
                .noting_more(notes);
        }
        match count {
            0 => Judgement::inconclusive(format!("there was no such event: none of {}", begins.looked_at())),
            count if count == unfinished => Judgement::inconclusive("the run ended before the time was over"),
            count => Judgement::new(Outcome::Pass, format!("after each of {}", events(count - unfinished))),
        }
        .noting(notes)
    }

    /// Whether an event of `found` came in time after `event`.
    fn came(&self, found: &Events<'_>, event: &Happened<'_>) -> Came {
        let window: Window = (event.at, event.at.saturating_add(self.within.0));
        if found.matches.within(window).iter().any(|other| other.is_behind(event)) {
            return Came::InTime;
        }
        match (found.gap_in(window), found.matches.unsure_within(window)) {
            (Some(gap), _) => Came::Untold(gap.why.clone()),
            (None, Some((_, why))) => Came::Untold(why.clone()),
            (None, None) if found.ends_before(window.1) => Came::Unfinished,
            (None, None) => Came::Not(None),
        }
    }

    /// Whether the predicate was true at a capture in time after `event`.
    fn was_true(
        &self,
        predicate: &Predicate,
        column: &Column,
        event: &Happened<'_>,
        (_, ended): Window,
    ) -> Came {
        let until = event.at.saturating_add(self.within.0);
        let due = || {
            let all = column.points.iter().enumerate();
            all.filter(|(_, point)| (event.at..=until).contains(&point.at_ns))
        };
        if due().any(|(_, point)| point.value.as_ref().is_ok_and(|value| predicate.holds(*value))) {
            return Came::InTime;
        }
        if let Some((_, point)) = due().find(|(_, point)| point.value.is_err()) {
            return Came::Untold(format!("`{}` has no value in {}", predicate.of, point.tag));
        }
        match due().next_back() {
            _ if until > ended => Came::Unfinished,
            Some((last, _)) => Came::Not(Some(last)),
            None => Came::Untold(format!("no capture was taken within {}", self.within)),
        }
    }

    fn why_not(&self, columns: &[&Column], at: usize) -> String {
        let value = columns.first().and_then(|column| column.points.get(at)?.value.as_ref().ok());
        match (&self.what, value) {
            (Operand::Is(predicate), Some(value)) => predicate.why_not(*value),
            _ => "no value".to_owned(),
        }
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(predicate) => write!(f, "{predicate}"),
            Self::Happens(path) => write!(f, "{path}"),
        }
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "within({}, {}, after={})", self.what, self.within, self.after)
    }
}

#[cfg(test)]
mod tests {
    use crate::claim::Claim;
    use crate::claim::pattern::events::fixture::{
        HOG, IDLE, VICTIM, history, judged, run_of, switch, wakeup,
    };
    use crate::path::SyntaxError;
    use crate::verdict::Outcome::{Fail, Inconclusive, Pass};

    const CLAIM: &str = "within(event(sched_switch where next_comm == victim), 5ms, after=event(sched_wakeup where comm == victim))";

    #[test]
    fn each_event_has_its_answer_in_time() {
        let run = run_of(vec![history(
            1,
            0,
            &[
                (1000, wakeup(VICTIM, 1)),
                (6000, switch(IDLE, VICTIM)),
                (7000, switch(VICTIM, IDLE)),
                (8000, wakeup(VICTIM, 1)),
                (8001, switch(IDLE, VICTIM)),
            ],
        )]);
        let judgement = judged(&run, CLAIM);
        assert_eq!((judgement.outcome, judgement.summary.as_str()), (Pass, "after each of 2 events"));
        // It came a microsecond late.
        let late = judged(&run, &CLAIM.replace("5ms", "4999us"));
        assert_eq!((late.outcome, late.events.len()), (Fail, 6), "{late:?}");
        assert_eq!(late.summary, "not within 4999us after 1 of 2 events; the first at 0.001000s");
    }

    #[test]
    fn a_gap_that_covers_it_and_an_end_of_the_run_leave_it_open() {
        // The victim is woken at 1 ms; steps are missing from then to 3 ms.
        let steps = [(1000, wakeup(VICTIM, 1))];
        let run = run_of(vec![history(1, 0, &steps), history(1, 2, &[(3000, switch(IDLE, HOG))])]);
        assert_eq!(judged(&run, CLAIM).outcome, Inconclusive);
        // No such event.
        let calm = run_of(vec![history(1, 0, &[(3000, switch(IDLE, HOG))])]);
        assert_eq!(judged(&calm, CLAIM).outcome, Inconclusive);
        // 20 ms before the history ends; and more than that.
        let end = run_of(vec![history(1, 0, &[(4_999_000, wakeup(VICTIM, 1))])]);
        let of = |time: &str| judged(&end, &CLAIM.replace("5ms", time)).outcome;
        assert_eq!((of("100ms"), of("10ms")), (Inconclusive, Fail));
    }

    #[test]
    fn a_capture_in_time_has_to_say_so() {
        // Periodic captures at 500 and 1000 ms have 1 and 2.
        let run = run_of(vec![history(1, 0, &[(490_000, wakeup(VICTIM, 1))])]);
        let of = |what: &str, time: &str| {
            judged(&run, &format!("within({what}, {time}, after=event(sched_wakeup))")).outcome
        };
        assert_eq!(of("nr_dispatched == 1", "50ms"), Pass);
        assert_eq!(of("nr_dispatched == 2", "50ms"), Fail);
        assert_eq!(of("nr_dispatched == 2", "600ms"), Pass);
        assert_eq!(of("nr_dispatched == 1", "5ms"), Inconclusive);
        assert_eq!(of("nr_dispatched == 9", "10s"), Inconclusive);
        assert_eq!(of("nr_dispatchd == 1", "50ms"), Fail);
    }

    #[test]
    fn faults_are_pointed_at() {
        for (text, at) in [
            ("within(x == 0, 50ms)", 19..19),
            ("within(x == 0, after=event(op))", 15..20),
            ("within(x == 0, 50ms, after=x)", 27..28),
            ("within(x == 0, 50ms, before=event(op))", 21..27),
        ] {
            let error = text.parse::<Claim>().map_err(|e: SyntaxError| e).expect_err(text);
            assert_eq!(error.span, at, "{}", error.render());
        }
    }
}
