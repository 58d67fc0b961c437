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

/// Reads the history of one machine.
pub(super) struct HistoryKeeper {
    reader: HistoryReader,
    allowance: Allowance,
    /// Why there is none, until it is told; then it is not looked for again.
    fault: Option<String>,
    given_up: bool,
}

impl HistoryKeeper {
    pub(super) fn new() -> Self {
        Self { reader: HistoryReader::new(), allowance: Allowance::default(), fault: None, given_up: false }
    }

    /// Copy what is new. The machine is stopped.
    pub(super) fn take(&mut self, view: &KernelView<'_>) -> Option<Taken> {
        if self.given_up {
            return None;
        }
        let taken = self.reader.take(view);
        taken
            .map_err(|error| {
                self.given_up = true;
                self.fault = Some(error.to_string());
            })
            .ok()
    }

    /// The events of what was copied at a capture.
    pub(super) fn events(&mut self, taken: Taken, kind: CaptureKind, at: GuestNs) -> Vec<EventBody> {
        let mut gaps = Gaps { faults: taken.gaps.faults.clone(), ..Gaps::default() };
        if taken.is_of_none() {
            self.given_up = true;
            self.fault.get_or_insert(
                "the guest's kernel has noted nothing; init's line on the console says why".to_owned(),
            );
        }
        let all = self.reader.decode(taken, &mut gaps);
        if let Some(fault) = gaps.faults.into_iter().next() {
            self.fault.get_or_insert(fault);
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
        *since = at.max(*since);
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
        let mut spend =
            |cpu, wanted, of_an_end, at| allowance.spend(Cpu(cpu), wanted, of_an_end, GuestNs(at));
        assert_eq!(spend(0, 4000, false, SECOND), 4000);
        assert_eq!(spend(0, 4000, false, SECOND), 2000, "what was there at first is spent");
        assert_eq!(spend(1, 4000, false, SECOND), 4000, "another CPU has its own");
        assert_eq!(spend(0, 9999, false, 2 * SECOND), PER_SECOND);
        assert_eq!(spend(0, 9999, false, 3 * SECOND / 2), 0, "time that goes back gives nothing");
        assert_eq!(spend(0, 50_000, true, 2 * SECOND), AT_AN_END);
        assert_eq!(spend(0, 50_000, false, 100 * SECOND), SAVED_UP, "no more is saved up");
        assert_eq!(spend(0, 10, true, 100 * SECOND), 10);
    }
}
