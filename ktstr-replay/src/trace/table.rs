//! The table of a guest's pages at one moment: what a checkpoint's runs add up to.

use std::collections::BTreeMap;

use super::record::{PageRun, PageState};

/// Pages that are not zero, by frame number, as runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageTable {
    /// First gfn of a run to its length and state. Runs are disjoint; none is of zero pages.
    runs: BTreeMap<u64, (u32, PageState)>,
}

/// A run that does not make sense: it is empty, or it ends past the last number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadRun;

impl PageTable {
    /// Lay a run over the table.
    pub(crate) fn set(&mut self, run: PageRun) -> Result<(), BadRun> {
        let end = run.gfn.checked_add(u64::from(run.count)).ok_or(BadRun)?;
        let last_is_known = match run.state {
            PageState::Stored(first) => first.checked_add(run.count).is_some(),
            PageState::Zero | PageState::LeftOut(_) => true,
        };
        if run.count == 0 || !last_is_known {
            return Err(BadRun);
        }
        self.clear(run.gfn, end);
        if run.state == PageState::Zero {
            return Ok(());
        }
        if let Some((gfn, (count, state))) = self.runs.range_mut(..run.gfn).next_back()
            && gfn + u64::from(*count) == run.gfn
            && continues(*state, *count, run.state)
            && let Some(joined) = count.checked_add(run.count)
        {
            *count = joined;
            return Ok(());
        }
        self.runs.insert(run.gfn, (run.count, run.state));
        Ok(())
    }

    /// Make the frames from `start` to before `end` zero.
    fn clear(&mut self, start: u64, end: u64) {
        let before = self.runs.range(..start).next_back().map(|(gfn, run)| (*gfn, *run));
        let inside: Vec<_> = self.runs.range(start..end).map(|(gfn, run)| (*gfn, *run)).collect();
        for (gfn, (count, state)) in before.into_iter().chain(inside) {
            let run_end = gfn + u64::from(count);
            if run_end <= start {
                continue;
            }
            self.runs.remove(&gfn);
            if gfn < start {
                self.runs.insert(gfn, ((start - gfn) as u32, state));
            }
            if run_end > end {
                self.runs.insert(end, ((run_end - end) as u32, advance(state, (end - gfn) as u32)));
            }
        }
    }

    /// The state of one page.
    pub(crate) fn get(&self, gfn: u64) -> PageState {
        match self.runs.range(..=gfn).next_back() {
            Some((first, (count, state))) if gfn - first < u64::from(*count) => {
                advance(*state, (gfn - first) as u32)
            }
            _ => PageState::Zero,
        }
    }

    /// All runs, ascending; none is of zero pages.
    pub(crate) fn runs(&self) -> impl Iterator<Item = PageRun> {
        self.runs.iter().map(|(gfn, (count, state))| PageRun { gfn: *gfn, count: *count, state: *state })
    }
}

/// The state `by` pages into a run that begins with `state`.
fn advance(state: PageState, by: u32) -> PageState {
    match state {
        PageState::Stored(first) => PageState::Stored(first + by),
        other => other,
    }
}

/// Whether a run of `count` pages from `state` goes on with `next`.
fn continues(state: PageState, count: u32, next: PageState) -> bool {
    match (state, next) {
        (PageState::Stored(first), PageState::Stored(next)) => first.checked_add(count) == Some(next),
        (state, next) => state == next,
    }
}

/// Joins pages that are given one by one, ascending, into runs.
#[derive(Default)]
pub(crate) struct RunBuilder {
    runs: Vec<PageRun>,
}

impl RunBuilder {
    /// Add a run that begins at or after the end of the last one.
    pub(crate) fn push(&mut self, run: PageRun) {
        if let Some(last) = self.runs.last_mut()
            && last.gfn + u64::from(last.count) == run.gfn
            && continues(last.state, last.count, run.state)
            && let Some(joined) = last.count.checked_add(run.count)
        {
            last.count = joined;
            return;
        }
        self.runs.push(run);
    }

    pub(crate) fn finish(self) -> Vec<PageRun> {
        self.runs
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::memory::LeftOut;

    fn run() -> impl Strategy<Value = PageRun> {
        let state = prop_oneof![
            Just(PageState::Zero),
            (0..50u32).prop_map(PageState::Stored),
            Just(PageState::LeftOut(LeftOut::Free)),
        ];
        (0..60u64, 1..20u32, state).prop_map(|(gfn, count, state)| PageRun { gfn, count, state })
    }

    proptest! {
        #[test]
        fn runs_over_runs_are_as_page_by_page(runs in proptest::collection::vec(run(), 0..40)) {
            let mut table = PageTable::default();
            let mut pages = BTreeMap::new();
            for run in runs {
                table.set(run).unwrap();
                for i in 0..run.count {
                    pages.insert(run.gfn + u64::from(i), advance(run.state, i));
                }
            }
            for gfn in 0..90 {
                prop_assert_eq!(table.get(gfn), pages.get(&gfn).copied().unwrap_or(PageState::Zero));
            }
            // The table's own runs make the same table again, and are disjoint.
            let mut again = PageTable::default();
            let mut end = 0;
            for run in table.runs() {
                prop_assert!(run.gfn >= end);
                end = run.gfn + u64::from(run.count);
                again.set(run).unwrap();
            }
            for gfn in 0..90 {
                prop_assert_eq!(again.get(gfn), table.get(gfn));
            }
        }
    }

    #[test]
    fn runs_past_the_last_number_are_refused() {
        let mut table = PageTable::default();
        for (gfn, count, state) in
            [(u64::MAX, 1, PageState::Zero), (0, u32::MAX, PageState::Stored(1)), (0, 0, PageState::Zero)]
        {
            assert_eq!(table.set(PageRun { gfn, count, state }), Err(BadRun));
        }
        table.set(PageRun { gfn: u64::MAX - 1, count: 1, state: PageState::Stored(u32::MAX - 1) }).unwrap();
        assert_eq!(table.get(u64::MAX - 1), PageState::Stored(u32::MAX - 1));
    }

    #[test]
    fn consecutive_pages_join() {
        let mut table = PageTable::default();
        for i in 0..100 {
            table.set(PageRun { gfn: 10 + i, count: 1, state: PageState::Stored(i as u32) }).unwrap();
        }
        assert_eq!(table.runs().count(), 1);
    }
}
