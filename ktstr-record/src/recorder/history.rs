//! The history of a run, read at captures, and how much of it a trace keeps.
//!
//! The kernel's buffers drop what is oldest by themselves. What is new at a capture is copied while the machine is stopped, and decoded
//! when it goes on. A trace keeps so much of each CPU for each second of guest time, so that a run with many captures and many
//! switches has no trace without end; the captures of an end, which the history is for, have an allowance of their own.

use std::collections::BTreeMap;

use ktstr_replay::kernel::history::{HistoryReader, Undecoded, pack};
use ktstr_replay::kernel::{Gaps, KernelView};
use ktstr_replay::trace::record::{CaptureKind, EventBody, History};
use ktstr_replay::units::{Cpu, GuestNs};

/// Steps of a CPU that are kept for each second of guest time, in captures that are of no end.
const PER_SECOND: u64 = 3000;
/// Such steps that may be saved up, and that there are at first.
const SAVED_UP: u64 = 6000;
/// Steps of a CPU that the capture of an end keeps at least, as far as the run has room.
const AT_AN_END: u64 = 12_000;
/// Steps that a run has room for: some 128 MiB of events, of the 256 MiB that are read of a trace.
const OF_A_RUN: u64 = 4 << 20;
/// The part of them that only captures of an end may use. Each of them uses at most half of what is left.
const FOR_ENDS: u64 = 2 << 20;
/// A task or a name in the tables of a record takes as much as so many steps.
const ROW: u64 = 3;
/// Faults of one capture that are told in full.
const FAULTS: usize = 4;

/// Reads the history of one machine.
pub(super) struct HistoryKeeper {
    reader: HistoryReader,
    allowance: Allowance,
    /// Steps that the run has room for yet.
    room: u64,
    /// Why it is missing or incomplete, until that is recorded.
    fault: Option<String>,
    /// What was told last, which each capture may find again.
    told: String,
    /// There is none, and it is not looked for again.
    given_up: bool,
}

impl HistoryKeeper {
    pub(super) fn new() -> Self {
        let (reader, allowance) = (HistoryReader::new(), Allowance::default());
        Self { reader, allowance, room: OF_A_RUN, fault: None, told: String::new(), given_up: false }
    }

    /// Copy what is new. The machine is stopped.
    pub(super) fn take(&mut self, view: &KernelView<'_>) -> Option<Undecoded> {
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
    pub(super) fn events(&mut self, mut taken: Undecoded, kind: CaptureKind, at: GuestNs) -> Vec<EventBody> {
        let mut gaps = std::mem::take(&mut taken.gaps);
        // Where a CPU could not be read, that is what is told.
        if gaps.is_empty() && taken.is_of_none() {
            self.given_up = true;
            gaps.fault("the guest's kernel has noted nothing; init's line on the console says why");
        }
        let all = self.reader.decode(taken, &mut gaps);
        let fault = said(gaps);
        if !fault.is_empty() && fault != self.told {
            self.told.clone_from(&fault);
            self.fault = Some(fault);
        }
        let mut events = Vec::new();
        let share = share(self.room, kind.is_of_an_end(), all.len() as u64);
        for news in all {
            let wanted = share.min(news.noted.len() as u64);
            let keep = self.allowance.spend(news.cpu, wanted, kind.is_of_an_end(), at);
            let records = pack(&news, usize::try_from(keep).unwrap_or(usize::MAX));
            let takes = |record: &History| {
                record.steps.len() as u64 + ROW * (record.tasks.len() + record.names.len()) as u64
            };
            self.room = self.room.saturating_sub(records.iter().map(takes).sum());
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

/// How many steps of each of `cpus` CPUs a run keeps that has `room` for so many.
fn share(room: u64, of_an_end: bool, cpus: u64) -> u64 {
    let all = if of_an_end { room / 2 } else { room.saturating_sub(FOR_ENDS) };
    all / cpus.max(1)
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
        assert_eq!(spend(2, SAVED_UP, false, SECOND), SAVED_UP);
        let kept: u64 = (1..=100).map(|nth| spend(2, 10, false, SECOND + nth * SECOND / 10_000)).sum();
        assert_eq!(kept, 25, "captures every 100 us keep a step at each fourth of them");
    }

    #[test]
    fn a_run_has_room_for_so_many_steps_and_an_end_always_has_some() {
        assert!(share(OF_A_RUN, true, 128) >= AT_AN_END, "of this many CPUs nothing is cut");
        assert_eq!(share(OF_A_RUN, false, 0), OF_A_RUN - FOR_ENDS);
        assert_eq!(share(FOR_ENDS, false, 4), 0);
        assert_eq!(share(FOR_ENDS, true, 4), FOR_ENDS / 8);
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
