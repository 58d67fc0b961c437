//! `never(event(sched_switch where next_comm == victim))`, `never(EVENT while y == 0)`.

use std::fmt;

use super::events::{ByTime, Events, Reasons, at, events, untold};
use crate::claim::{Judgement, PatternInfo, Predicate};
use crate::path::parse::Parser;
use crate::path::{EventPath, Projection, SyntaxError};
use crate::series::Column;
use crate::timeline::{Happened, Timeline};
use crate::units::GuestNs;
use crate::verdict::Outcome;

/// No such event while the body runs.
#[derive(Clone, Debug, PartialEq)]
pub struct NeverHappens {
    /// Which.
    pub what: EventPath,
    /// Only those while this is true count.
    pub during: Option<Predicate>,
}

impl NeverHappens {
    pub(in crate::claim) const INFO: PatternInfo = PatternInfo {
        name: "never",
        example: "never(event(sched_switch where next_comm == victim))",
        holds: "there is no such event",
    };

    pub(in crate::claim) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let what = EventPath::parse(p)?;
        let during = if p.eat_word("while") { Some(Predicate::parse(p)?) } else { None };
        p.named_args("never", &[], |_, _| Ok(()))?;
        Ok(Self { what, during })
    }

    pub(in crate::claim) fn projections(&self) -> Vec<&Projection> {
        self.during.iter().map(|during| &during.of).collect()
    }

    /// What may be missing leaves it open. The condition counts as true at an event where it is true at the captures before and after it.
    pub(in crate::claim) fn judge(&self, columns: &[&Column], timeline: &Timeline) -> Judgement {
        let found = match Events::find(timeline, &self.what) {
            Ok(found) => found,
            Err(judgement) => return judgement,
        };
        let (mut broken, mut open): (Vec<Happened<'_>>, Reasons) = (Vec::new(), Reasons::default());
        let samples = columns.first().copied().map(ByTime::of);
        for event in found.in_body() {
            match self.is_on(samples.as_ref(), event.at) {
                Some(true) => broken.push(*event),
                Some(false) => {}
                None => open.push(|| {
                    let time = at(timeline, event);
                    format!("whether the condition was true at {time} cannot be told by the captures before and after")
                }),
            }
        }
        if let Some(first) = broken.first() {
            let summary = match broken.as_slice() {
                [_] => format!("happened at {}", at(timeline, first)),
                all => format!("happened {} times; the first at {}", all.len(), at(timeline, first)),
            };
            let lines = timeline.around(first.at, |event| event.is_among(&broken));
            return Judgement::new(Outcome::Fail, summary).showing(lines);
        }
        let mut doubts = found.doubts_in(timeline, found.body);
        doubts.extend(open);
        if !doubts.is_empty() {
            let of = format!("not seen, and it may have happened ({})", found.looked_at());
            return untold(&of, doubts).noting_more(found.note_outside());
        }
        // Of a task that there never was it would hold whatever happened.
        if let Some(nobody) = timeline.never_seen(&self.what) {
            return Judgement::new(Outcome::Inconclusive, nobody);
        }
        let summary = match self.during {
            None => format!("not one of {}", found.looked_at()),
            Some(_) => format!("not at one of {}", events(found.in_body().len())),
        };
        Judgement::new(Outcome::Pass, summary).noting(found.note_outside())
    }

    /// Whether the condition is true at a time; `None`: that cannot be told.
    fn is_on(&self, samples: Option<&ByTime<'_>>, at: GuestNs) -> Option<bool> {
        let (Some(during), Some(samples)) = (&self.during, samples) else { return Some(true) };
        let holds = |value: &Result<_, _>| value.as_ref().ok().map(|value| during.holds(*value));
        let (_, before) = samples.get(samples.behind(at).checked_sub(1)?)?;
        let (_, after) = samples.get(samples.since(at))?;
        let (before, after) = (holds(&before.value)?, holds(&after.value)?);
        (before == after).then_some(before)
    }
}

impl fmt::Display for NeverHappens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "never({}", self.what)?;
        if let Some(during) = &self.during {
            write!(f, " while {during}")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use crate::claim::pattern::events::fixture::{HOG, IDLE, VICTIM, history, judged, run_of, switch};
    use crate::verdict::Outcome::{Fail, Inconclusive, Pass};

    const CLAIM: &str = "never(event(sched_switch where next_comm == victim))";

    #[test]
    fn an_event_in_the_body_breaks_it_and_is_shown_with_its_neighbours() {
        let run = run_of(vec![history(
            1,
            0,
            &[(-5, switch(IDLE, VICTIM)), (10, switch(VICTIM, HOG)), (2500, switch(HOG, VICTIM))],
        )]);
        let judgement = judged(&run, CLAIM);
        assert_eq!((judgement.outcome, judgement.summary.as_str()), (Fail, "happened at 0.002500s"));
        let shown = judgement.events.join("\n");
        assert!(shown.contains("> 0.002500s     1  switch") && shown.contains("  0.000010s"), "{shown}");
        let before = judged(&run_of(vec![history(1, 0, &[(-5, switch(IDLE, VICTIM))])]), CLAIM);
        assert_eq!((before.outcome, before.notes.len()), (Pass, 1), "{before:?}");
    }

    #[test]
    fn a_gap_leaves_it_open_unless_the_conditions_exclude_it() {
        // Steps of CPU 1 are missing between 1 ms and 2 ms.
        let run = run_of(vec![
            history(0, 0, &[(100, switch(IDLE, HOG))]),
            history(1, 0, &[(1000, switch(IDLE, HOG))]),
            history(1, 7, &[(2000, switch(HOG, IDLE))]),
        ]);
        let of = |text: &str| judged(&run, text).outcome;
        let judgement = judged(&run, CLAIM);
        assert_eq!(judgement.outcome, Inconclusive);
        let gap = "missing of CPU 1 between 0.001s and 0.002s: 7 steps overwritten by the kernel";
        assert!(judgement.summary.ends_with(gap), "{}", judgement.summary);
        assert_eq!(of("never(event(sched_switch where next_comm == victim and cpu == 0))"), Pass);
        assert_eq!(of("never(event(sched_switch where next_comm == victim and at_ms > 3))"), Pass);
        assert_eq!(of("never(event(sched_switch where next_comm == victim and at_ms < 1.5))"), Inconclusive);
        // A breach beats doubt.
        assert_eq!(of("never(event(sched_switch where next_comm == hog))"), Fail);
    }

    #[test]
    fn of_a_task_that_there_never_was_nothing_is_claimed() {
        let run = run_of(vec![history(1, 0, &[(-5, switch(IDLE, VICTIM)), (10, switch(VICTIM, HOG))])]);
        let of = |condition: &str| judged(&run, &format!("never(event(sched_switch where {condition}))"));
        let misspelt = of("next_comm == victm");
        assert_eq!(misspelt.outcome, Inconclusive);
        let said = "no task of the run was called `victm`; did you mean `victim`?";
        assert!(misspelt.summary.starts_with(said), "{}", misspelt.summary);
        assert_eq!(of("next_comm == victm and cpu == 7").outcome, Inconclusive);
        // It was seen, if not in the body; and a part of a name is looked for, whoever has it.
        assert_eq!(of("next_comm == victim").outcome, Pass);
        assert_eq!(of("next_comm ~ victm").outcome, Pass);
        assert_eq!(of("next_comm != victm").outcome, Fail);
        assert_eq!(of("prev_comm == victm").outcome, Inconclusive);
    }

    #[test]
    fn without_a_history_nothing_is_known() {
        let judgement = judged(&run_of(Vec::new()), CLAIM);
        assert_eq!(judgement.outcome, Inconclusive);
        assert!(judgement.summary.contains("no history was recorded"), "{}", judgement.summary);
    }

    #[test]
    fn a_condition_counts_where_it_holds_on_both_sides() {
        // The periodic captures at 500 and 1000 ms have 1 and 2.
        let steps: Vec<_> = [(700_000, switch(IDLE, VICTIM))].to_vec();
        let run = run_of(vec![history(1, 0, &steps)]);
        let of = |condition: &str| {
            let text = format!("never(event(sched_switch where next_comm == victim) while {condition})");
            judged(&run, &text).outcome
        };
        assert_eq!(of("nr_dispatched >= 1"), Fail);
        assert_eq!(of("nr_dispatched > 5"), Pass);
        assert_eq!(of("nr_dispatched >= 2"), Inconclusive);
        // A misspelt variable is an error.
        assert_eq!(of("nr_dispatchd >= 2"), Fail);
    }
}
