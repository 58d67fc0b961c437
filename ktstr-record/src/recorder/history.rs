//! The history of a run, read at captures, and how much of it a trace keeps.
//!
//! The kernel's buffers drop what is oldest by themselves. What is new at a capture is copied while the machine is stopped, and decoded
//! when it goes on. A trace keeps so much of each CPU for each second of guest time, so that a run with many captures and many
//! switches has no trace without end; the captures of an end, which the history is for, have an allowance of their own.

use std::collections::BTreeMap;

use ktstr_replay::kernel::history::{HistoryReader, Taken, pack};
use ktstr_replay::kernel::{Gaps, KernelView};
use ktstr_replay::trace::record::{CaptureKind, EventBody};
use ktstr_replay::units::{Cpu, GuestNs};

/// Steps of a CPU that are kept for each second of guest time, in captures that are of no end.
const PER_SECOND: u64 = 3000;
/// Such steps that may be saved up, and that there are at first.
const SAVED_UP: u64 = 6000;
/// Steps of a CPU that the capture of an end keeps at least.
const AT_AN_END: u64 = 12_000;
/// Faults of one capture that are told in full.
const FAULTS: usize = 4;

/// Reads the history of one machine.
pub(super) struct HistoryKeeper {
    reader: HistoryReader,
    allowance: Allowance,
    /// Why there is none, or not all of it, until it is told.
    fault: Option<String>,
    /// What was told last, which each capture may find again.
    told: String,
    /// There is none, and it is not looked for again.
    given_up: bool,
}

impl HistoryKeeper {
    pub(super) fn new() -> Self {
        Self { reader: HistoryReader::new(), allowance: Allowance::default(), fault: None, told: String::new(), given_up: false }
    }

    /// Copy what is new. The machine is stopped.
    pub(super) fn take(&mut self, view: &KernelView<'_>) -> Option<Taken> {
        if self.given_up {
            return None;
        }
        let taken = self.reader.take(view);
        taken.map_err(|error| {
            self.given_up = true;
            self.fault = Some(error.to_string());
        })
        .ok()
    }

    /// The events of what was copied at a capture.
    pub(super) fn events(&mut self, mut taken: Taken, kind: CaptureKind, at: GuestNs) -> Vec<EventBody> {
        let mut gaps = std::mem::take(&mut taken.gaps);
        let all = self.reader.decode(taken, &mut gaps);
        let fault = said(gaps);
        if !fault.is_empty() && fault != self.told {
            self.told.clone_from(&fault);
            self.fault = Some(fault);
        }
        let mut events = Vec::new();
        for news in all {
            let keep = self.allowance.spend(news.cpu, news.noted.len() as u64, kind.is_of_an_end(), at);
            let records = pack(&news, usize::try_from(keep).unwrap_or(usize::MAX));
            events.extend(records.into_iter().map(|record| EventBody::History(Box::new(record))));
        }
        events
    }

    /// What could not be read, if that was not asked for yet.
    pub(super) fn fault(&mut self) -> Option<String> {
        self.fault.take()
    }
}

/// The faults of a capture in one text; empty: there are none.
fn said(mut gaps: Gaps) -> String {
    let more = gaps.faults.len().saturating_sub(FAULTS).saturating_add(gaps.more_faults);
    gaps.faults.truncate(FAULTS);
    if more > 0 {
        gaps.faults.push(format!("and {more} more"));
    }
    gaps.faults.join("; ")
}

/// How many steps of each CPU may be kept.
#[derive(Default)]
struct Allowance {
    /// What is left, and when that was.
    left: BTreeMap<Cpu, (u64, GuestNs)>,
}

impl Allowance {
    /// How many of `wanted` steps of `cpu` are kept.
    fn spend(&mut self, cpu: Cpu, wanted: u64, of_an_end: bool, at: GuestNs) -> u64 {
        let (left, since) = self.left.entry(cpu).or_insert((SAVED_UP, at));
        let earned = at.saturating_since(*since).saturating_mul(PER_SECOND) / 1_000_000_000;
        *left = left.saturating_add(earned).min(SAVED_UP);
        // Captures that are close to one another earn a part of a step each, which is theirs later.
        if earned > 0 {
            *since = at;
        }
        let kept = wanted.min(if of_an_end { (*left).max(AT_AN_END) } else { *left });
        *left = left.saturating_sub(kept);
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn steps_are_kept_by_the_second_and_an_end_has_its_own() {
        let mut allowance = Allowance::default();
        let mut spend = |cpu, wanted, of_an_end, at| allowance.spend(Cpu(cpu), wanted, of_an_end, GuestNs(at));
        assert_eq!(spend(0, 4000, false, SECOND), 4000);
        assert_eq!(spend(0, 4000, false, SECOND), 2000, "what was there at first is spent");
        assert_eq!(spend(1, 4000, false, SECOND), 4000, "another CPU has its own");
        assert_eq!(spend(0, 9999, false, 2 * SECOND), PER_SECOND);
        assert_eq!(spend(0, 9999, false, 3 * SECOND / 2), 0, "time that goes back gives nothing");
        assert_eq!(spend(0, 50_000, true, 2 * SECOND), AT_AN_END);
        assert_eq!(spend(0, 50_000, false, 100 * SECOND), SAVED_UP, "no more is saved up");
        assert_eq!(spend(0, 10, true, 100 * SECOND), 10);
        assert_eq!(spend(2, SAVED_UP, false, SECOND), SAVED_UP);
        let kept: u64 = (1..=100).map(|nth| spend(2, 10, false, SECOND + nth * SECOND / 10_000)).sum();
        assert_eq!(kept, 25, "captures every 100 us keep a step at each fourth of them");
    }

    #[test]
    fn faults_are_told_with_how_many_more_there_are() {
        let mut gaps = Gaps::default();
        assert_eq!(said(gaps.clone()), "");
        for nth in 0..FAULTS {
            gaps.fault(nth);
        }
        assert_eq!(said(gaps.clone()), "0; 1; 2; 3");
        gaps.fault("x");
        gaps.more_faults = 7;
        assert_eq!(said(gaps), "0; 1; 2; 3; and 8 more");
    }
}
