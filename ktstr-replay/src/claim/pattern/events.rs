//! What the patterns over events share: the time that they judge, and which events of it may be missing.

use crate::claim::Judgement;
use crate::path::EventPath;
use crate::series::{Column, Point};
use crate::text::{counted, seconds};
use crate::timeline::{Doubt, Happened, Matches, Timeline};
use crate::units::GuestNs;
use crate::verdict::Outcome;

/// Doubts that are told of.
const TOLD: usize = 4;

/// A time, both ends included.
pub(super) type Window = (GuestNs, GuestNs);

/// The events of a path, and what may be missing of them.
pub(super) struct Events<'t> {
    pub matches: Matches<'t>,
    pub doubts: Vec<Doubt>,
    /// Where the run was looked at, the doubts by their beginnings, each with the position of the one that reaches farthest of those up to it.
    gaps: Vec<(Doubt, usize)>,
    /// From when on the run was not looked at any more.
    tail: Option<GuestNs>,
    /// When the body ran.
    pub body: Window,
}

impl<'t> Events<'t> {
    /// Those of `path`; or what the claim comes to without them.
    pub(super) fn find(timeline: &'t Timeline, path: &EventPath) -> Result<Self, Judgement> {
        // A name that does not exist is an error also where nothing ran.
        let matches = timeline
            .matching(path)
            .map_err(|error| Judgement::new(Outcome::Fail, format!("error: {error}")))?;
        let body = timeline.body().ok_or_else(body_never_began)?;
        let doubts = timeline.doubts(path);
        let tail = doubts.iter().filter(|doubt| doubt.is_tail).map(|doubt| doubt.from).min();
        let mut gaps: Vec<(Doubt, usize)> =
            doubts.iter().filter(|doubt| !doubt.is_tail).map(|doubt| (doubt.clone(), 0)).collect();
        gaps.sort_by_key(|(doubt, _)| doubt.from);
        let mut farthest = 0;
        for nth in 0..gaps.len() {
            if gaps[nth].0.until > gaps[farthest].0.until {
                farthest = nth;
            }
            gaps[nth].1 = farthest;
        }
        Ok(Self { matches, doubts, gaps, tail, body })
    }

    /// A gap that reaches into a time.
    pub(super) fn gap_in(&self, window: Window) -> Option<&Doubt> {
        let begun = self.gaps.partition_point(|(doubt, _)| doubt.from <= window.1);
        let (_, farthest) = self.gaps.get(begun.checked_sub(1)?)?;
        self.gaps.get(*farthest).map(|(doubt, _)| doubt).filter(|doubt| doubt.is_within(window))
    }

    /// Whether the run was not looked at any more when that time was over.
    pub(super) fn ends_before(&self, until: GuestNs) -> bool {
        self.tail.is_some_and(|tail| tail < until)
    }

    /// Those in the body.
    pub(super) fn in_body(&self) -> &[Happened<'t>] {
        self.matches.within(self.body)
    }

    /// What may be missing in a time: that the run was not looked at, or that an event cannot be told.
    pub(super) fn doubts_in(&self, timeline: &Timeline, window: Window) -> Reasons {
        let mut reasons = Reasons::default();
        for doubt in self.doubts.iter().filter(|doubt| doubt.is_within(window)) {
            reasons.push(|| doubt.why.clone());
        }
        if let Some((event, why)) = self.matches.unsure_within(window) {
            reasons.push(|| format!("of the event at {}: {why}", seconds(timeline.since_start_ns(event.at))));
        }
        reasons
    }

    /// A note on events that are not looked at, as they are before the body began or after it ended.
    pub(super) fn note_outside(&self) -> Vec<String> {
        let (from, until) = self.body;
        let before = self.matches.sure.iter().filter(|event| event.at < from).count();
        let after = self.matches.sure.iter().filter(|event| event.at > until).count();
        let parts = [(before, "before the test's body began"), (after, "after it ended")];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, when)| format!("{count} {when}"))
            .collect();
        match parts.as_slice() {
            [] => Vec::new(),
            parts => vec![format!("not looked at: {}", parts.join(", "))],
        }
    }

    /// `none of 12 events`.
    pub(super) fn looked_at(&self) -> String {
        format!("{} of its kind", events(self.matches.looked_at))
    }
}

/// The samples of a column by their times, each with its position in the column: a trace may have any number of them, in any order, and
/// each of any number of events asks for those next to it.
pub(super) struct ByTime<'c>(Vec<(usize, &'c Point)>);

impl<'c> ByTime<'c> {
    pub(super) fn of(column: &'c Column) -> Self {
        let mut all: Vec<(usize, &Point)> = column.points.iter().enumerate().collect();
        // Stable: those of one time stay in the order of the trace.
        all.sort_by_key(|(_, point)| point.at_ns);
        Self(all)
    }

    /// Where those that are not before a time begin.
    pub(super) fn since(&self, at: GuestNs) -> usize {
        self.0.partition_point(|(_, point)| point.at_ns < at)
    }

    /// Where those that are behind a time begin.
    pub(super) fn behind(&self, at: GuestNs) -> usize {
        self.0.partition_point(|(_, point)| point.at_ns <= at)
    }

    pub(super) fn get(&self, nth: usize) -> Option<(usize, &'c Point)> {
        self.0.get(nth).copied()
    }

    /// For each place where the next one is, from there on, that `is` takes; that place is no sample where there is none.
    pub(super) fn next_where(&self, is: impl Fn(&Point) -> bool) -> Vec<usize> {
        let mut next = self.0.len();
        let mut all = vec![next];
        for (nth, (_, point)) in self.0.iter().enumerate().rev() {
            if is(point) {
                next = nth;
            }
            all.push(next);
        }
        all.reverse();
        all
    }
}

pub(super) fn body_never_began() -> Judgement {
    Judgement::inconclusive("the test's body never began")
}

/// Why something cannot be told: the first reasons, and how many there are.
#[derive(Default)]
pub(super) struct Reasons {
    first: Vec<String>,
    count: usize,
}

impl Reasons {
    pub(super) fn push(&mut self, reason: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < TOLD {
            self.first.push(reason());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn extend(&mut self, other: Self) {
        let more = other.count - other.first.len();
        for reason in other.first {
            self.push(|| reason);
        }
        self.count += more;
    }
}

/// It cannot be told, for these reasons; the first is in the line.
pub(super) fn untold(what: &str, reasons: Reasons) -> Judgement {
    let Reasons { first, count } = reasons;
    let more = count - first.len();
    let mut first = first.into_iter();
    let summary = format!("{what}; {}", first.next().unwrap_or_default());
    let mut notes: Vec<String> = first.collect();
    if more > 0 {
        notes.push(format!("and {more} more such reasons"));
    }
    Judgement::inconclusive(summary).noting(notes)
}

/// `1 event`, `2 events`.
pub(super) fn events(count: usize) -> String {
    counted(count, "event")
}

/// A time of the run.
pub(super) fn at(timeline: &Timeline, event: &Happened<'_>) -> String {
    format!("{:.6}s", timeline.since_start_ns(event.at) as f64 / 1e9)
}

#[cfg(test)]
pub(crate) mod fixture {
    //! Runs with a history, for the patterns' tests.

    use crate::claim::{Claim, Judgement};
    use crate::run::Run;
    use crate::testing::{BODY_MS, TraceBuilder};
    use crate::trace::record::{EventBody, History, HistoryStep, HistoryTask, HistoryWhat};
    use crate::units::{Cpu, GuestNs};

    /// Tasks by their places: idle, a hog, a victim.
    pub const IDLE: u32 = 0;
    pub const HOG: u32 = 1;
    pub const VICTIM: u32 = 2;

    /// What a CPU noted, with times in us since the body began.
    pub fn history(cpu: u32, missing: u64, steps: &[(i64, HistoryWhat)]) -> EventBody {
        let ns = |us: i64| (BODY_MS as i64 * 1000 + us) as u64 * 1000;
        let mut before = 0;
        let steps = steps.iter().map(|(us, what)| {
            let step = HistoryStep { after_ns: ns(*us) - before, what: *what };
            before = ns(*us);
            step
        });
        let task = |(pid, comm): (u32, &str)| HistoryTask { pid, prio: 120, comm: comm.to_owned() };
        EventBody::History(Box::new(History {
            cpu: Cpu(cpu),
            overwritten: missing,
            tasks: [(0, "swapper/1"), (8, "hog"), (9, "victim")].map(task).to_vec(),
            names: vec!["SCX_EV_ENQ_SKIP_EXITING".to_owned()],
            first_ns: GuestNs(0),
            steps: steps.collect(),
            ..History::default()
        }))
    }

    /// It runs `next` in the place of `prev`, which sleeps.
    pub fn switch(prev: u32, next: u32) -> HistoryWhat {
        HistoryWhat::Switch { prev, state: 1, next }
    }

    /// A task is woken to a CPU.
    pub fn wakeup(task: u32, to: u32) -> HistoryWhat {
        HistoryWhat::Wakeup { task, by: 8, to: Cpu(to), is_new: false }
    }

    /// A run to its end, of which these were read at that end.
    pub fn run_of(histories: Vec<EventBody>) -> TraceBuilder {
        let run = TraceBuilder::begun().periodic(&[1, 2]);
        // The capture of the end is after the body's.
        let ended = histories.into_iter().fold(run, |run, history| run.event(5020, history));
        ended.ended()
    }

    /// What a claim comes to in a run.
    pub fn judged(run: &TraceBuilder, text: &str) -> Judgement {
        let claim: Claim = text.parse().expect("the test's claim parses");
        assert_eq!(claim.to_string(), text, "the text form is the one that prints");
        let trace = run.trace();
        let run = Run::load(&trace);
        let columns = run.captures().columns_with(&trace, &claim.projections());
        claim.judge_by(&columns.iter().collect::<Vec<_>>(), run.timeline())
    }
}
