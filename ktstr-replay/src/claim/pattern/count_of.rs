//! `count(event(sched_migrate_task where cpu == 1)) in 0..100`.

use std::fmt;

use super::events::{Events, untold};
use crate::claim::{Judgement, PatternInfo};
use crate::path::parse::Parser;
use crate::path::{Bound, EventPath, Projection, SyntaxError};
use crate::series::Column;
use crate::timeline::Timeline;
use crate::verdict::Outcome;

/// Events of the end that are shown.
const SHOWN: usize = 5;

/// How many events there are while the body runs.
#[derive(Clone, Debug, PartialEq)]
pub struct CountOf {
    /// Which.
    pub of: EventPath,
    /// What their number is held against.
    pub bound: Bound,
}

impl CountOf {
    pub(in crate::claim) const INFO: PatternInfo = PatternInfo {
        name: "count",
        example: "count(event(sched_migrate_task where cpu == 1)) in 0..100",
        holds: "the number of such events is in bounds",
    };

    pub(in crate::claim) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let of = EventPath::parse(p)?;
        p.named_args("count", &[], |_, _| Ok(()))?;
        Ok(Self { of, bound: p.bound()? })
    }

    pub(in crate::claim) fn projections(&self) -> Vec<&Projection> {
        Vec::new()
    }

    /// What is missing may be more of them: it leaves it open where it could decide.
    pub(in crate::claim) fn judge(&self, _: &[&Column], timeline: &Timeline) -> Judgement {
        let found = match Events::find(timeline, &self.of) {
            Ok(found) => found,
            Err(judgement) => return judgement,
        };
        let (all, (from, until)) = (found.in_body(), found.body);
        let unsure = found.matches.unsure.iter().filter(|(event, _)| (from..=until).contains(&event.at));
        let unsure = unsure.count() as i128;
        let missing = found.doubts.iter().filter(|doubt| doubt.is_within(found.body));
        let more = missing
            .map(|doubt| doubt.most.map(i128::from))
            .try_fold(unsure, |sum, most| Some(sum.saturating_add(most?)));
        let least = all.len() as i128;
        let most = more.map_or(i128::MAX, |more| least.saturating_add(more));
        let counted = format!("{} of {}", all.len(), found.looked_at());
        // Of a task that there never was it would hold whatever happened.
        let nobody = || if least == 0 { timeline.never_seen(&self.of) } else { None };
        let judgement = match self.bound.over(least, most) {
            Some(true) => match nobody() {
                Some(nobody) => Judgement::new(Outcome::Inconclusive, nobody),
                None => Judgement::new(Outcome::Pass, counted),
            },
            Some(false) => {
                let last = all.get(all.len().saturating_sub(SHOWN)..).unwrap_or_default();
                let lines = match last.last() {
                    Some(end) => timeline.around(end.at, |event| event.is_among(last)),
                    None => Vec::new(),
                };
                Judgement::new(Outcome::Fail, format!("{counted}: not {}", self.bound)).showing(lines)
            }
            None => {
                let up_to = more.map_or_else(|| "any number".to_owned(), |more| format!("up to {more}"));
                let what = format!("{counted}, and {up_to} more may be missing");
                untold(&what, found.doubts_in(timeline, found.body))
            }
        };
        judgement.noting_more(found.note_outside())
    }
}

impl fmt::Display for CountOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count({}) {}", self.of, self.bound)
    }
}

#[cfg(test)]
mod tests {
    use crate::claim::pattern::events::fixture::{HOG, IDLE, history, judged, run_of, switch};
    use crate::verdict::Outcome::{Fail, Inconclusive, Pass};

    #[test]
    fn the_number_is_held_against_the_bound() {
        let steps: Vec<_> = (0..4).map(|ms| (ms * 1000, switch(IDLE, HOG))).collect();
        let run = run_of(vec![history(1, 0, &steps)]);
        let of = |bound: &str| judged(&run, &format!("count(event(sched_switch)) {bound}"));
        for (bound, outcome) in [
            ("== 4", Pass),
            ("in 0..4", Fail),
            ("in 0..=4", Pass),
            (">= 5", Fail),
            ("!= 4", Fail),
            ("< 100", Pass),
        ] {
            assert_eq!(of(bound).outcome, outcome, "{bound}");
        }
        let failed = of(">= 5");
        assert_eq!(failed.summary, "4 of 4 events of its kind: not >= 5");
        assert_eq!(failed.events.iter().filter(|line| line.starts_with('>')).count(), 4, "{failed:?}");
    }

    #[test]
    fn what_is_missing_leaves_open_what_it_could_decide() {
        // Two, and three more steps that nobody has.
        let run = run_of(vec![
            history(1, 0, &[(1000, switch(IDLE, HOG))]),
            history(1, 3, &[(2000, switch(IDLE, HOG))]),
        ]);
        for (bound, outcome) in [
            ("<= 5", Pass),
            ("<= 4", Inconclusive),
            (">= 2", Pass),
            (">= 3", Inconclusive),
            (">= 6", Fail),
            ("in 2..=5", Pass),
            ("in 3..=5", Inconclusive),
            ("!= 6", Pass),
            ("== 1", Fail),
        ] {
            assert_eq!(
                judged(&run, &format!("count(event(sched_switch)) {bound}")).outcome,
                outcome,
                "{bound}"
            );
        }
        let nobody = judged(&run, "count(event(sched_switch where next_comm == hgo and cpu == 0)) <= 4");
        assert_eq!(nobody.outcome, Inconclusive);
        assert!(nobody.summary.contains("was called `hgo`; did you mean `hog`?"), "{}", nobody.summary);
        let open = judged(&run, "count(event(sched_switch)) <= 4");
        let said = "2 of 2 events of its kind, and up to 3 more may be missing; missing of CPU 1 between 0.001s and 0.002s";
        assert!(open.summary.starts_with(said), "{}", open.summary);
    }

    #[test]
    fn the_scenarios_own_events_are_counted_without_a_history() {
        let run = run_of(Vec::new()).op(700, "offline", "CPU 1").op(-100, "offline", "CPU 0");
        let judgement = judged(&run, "count(event(op where name == offline)) == 1");
        assert_eq!((judgement.outcome, judgement.notes.len()), (Pass, 1), "{judgement:?}");
    }
}
