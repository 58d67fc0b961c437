//! `eventually(event(phase_end where name == settle), by=3s)`.

use std::fmt;

use super::deadline::{in_words, parse_deadline, write_eventually};
use super::events::{Events, at, untold};
use crate::claim::{Judgement, PatternInfo};
use crate::path::parse::Parser;
use crate::path::{EventPath, Projection, SyntaxError};
use crate::series::Column;
use crate::text::SpanNs;
use crate::timeline::Timeline;
use crate::verdict::Outcome;

/// Such an event happens while the body runs, before a deadline if there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Happens {
    /// Which.
    pub what: EventPath,
    /// The deadline, from the beginning of the body; an event at the deadline counts.
    pub by: Option<SpanNs>,
}

impl Happens {
    pub(in crate::claim) const INFO: PatternInfo = PatternInfo {
        name: "eventually",
        example: "eventually(watch(\"bss.nr_stalls\" where new > 0), by=3s)",
        holds: "there is such an event by the deadline",
    };

    pub(in crate::claim) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let what = EventPath::parse(p)?;
        Ok(Self { what, by: parse_deadline(p)? })
    }

    pub(in crate::claim) fn projections(&self) -> Vec<&Projection> {
        Vec::new()
    }

    /// One event is enough. What may be missing up to the deadline leaves it open.
    pub(in crate::claim) fn judge(&self, _: &[&Column], timeline: &Timeline) -> Judgement {
        let found = match Events::find(timeline, &self.what) {
            Ok(found) => found,
            Err(judgement) => return judgement,
        };
        let (from, ended) = found.body;
        let until = self.by.map_or(ended, |by| from.saturating_add(by.0).min(ended));
        let deadline = in_words(self.by);
        if let Some(first) = found.matches.within((from, until)).first() {
            return Judgement::new(Outcome::Pass, format!("happened at {}", at(timeline, first)));
        }
        let doubts = found.doubts_in(timeline, (from, until));
        if !doubts.is_empty() {
            let of = format!("not seen{deadline}, and it may have happened ({})", found.looked_at());
            return untold(&of, doubts);
        }
        let later = found.in_body().first().map(|event| format!("the first was at {}", at(timeline, event)));
        let notes = later.into_iter().chain(found.note_outside()).collect();
        let lines = timeline.around(until, |_| false);
        Judgement::new(Outcome::Fail, format!("did not happen{deadline}: none of {}", found.looked_at()))
            .showing(lines)
            .noting(notes)
    }
}

impl fmt::Display for Happens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_eventually(f, &self.what, self.by)
    }
}

#[cfg(test)]
mod tests {
    use crate::claim::pattern::events::fixture::{HOG, IDLE, VICTIM, history, judged, run_of, switch};
    use crate::verdict::Outcome::{Fail, Inconclusive, Pass};

    #[test]
    fn one_event_in_time_is_enough_and_a_gap_before_the_deadline_leaves_it_open() {
        let run = run_of(vec![
            history(1, 0, &[(1000, switch(IDLE, HOG))]),
            history(1, 7, &[(2000, switch(HOG, IDLE)), (3000, switch(IDLE, VICTIM))]),
        ]);
        let of = |by: &str| {
            judged(&run, &format!("eventually(event(sched_switch where next_comm == victim){by})"))
        };
        assert_eq!(of("").outcome, Pass);
        assert_eq!(of(", by=3ms").outcome, Pass);
        assert_eq!(of(", by=2500us").outcome, Inconclusive);
        let late = of(", by=900us");
        assert_eq!((late.outcome, late.notes.len()), (Fail, 1), "{late:?}");
        // The gap is of another kind of event's CPU only where the claim says so.
        let other = "eventually(event(sched_switch where next_comm == victim and cpu == 0), by=2500us)";
        assert_eq!(judged(&run, other).outcome, Fail);
    }
}
