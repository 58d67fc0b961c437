//! Times in which the host did not run the machine: its process was stopped, a thread of it got no CPU, or neither it
//! nor the recorder did.
//!
//! The guest's clock goes on meanwhile, so that its watchdogs and its workers' gaps count what nobody in the guest did.

use std::time::Duration;

use ktstr_replay::trace::record::LossKind;
use ktstr_replay::units::{HostNs, nanos};

use super::outbox::Outbox;
use crate::machine::Look;

/// Gaps that are shorter are part of how hosts are.
pub(super) const GAP: Duration = Duration::from_millis(300);
/// A thread that waits for so much of the time between two looks is not run by the host.
const WAITED: f64 = 0.9;

/// Finds gaps in what the host gives to a machine.
#[derive(Debug, Default)]
pub(super) struct HostTime {
    /// Time of a gap that is not over.
    gap: Duration,
    why: &'static str,
}

/// A time in which the machine did not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostGap {
    pub length: Duration,
    pub why: &'static str,
}

impl HostGap {
    /// Have the trace tell of it, which was over at `at`.
    pub(super) fn tell(&self, outbox: &mut Outbox, at: HostNs) {
        let detail =
            format!("the host did not run the machine for {} ms: {}", self.length.as_millis(), self.why);
        outbox.loss(at, LossKind::HostTime, nanos(self.length), detail);
    }
}

impl HostTime {
    /// Take in what there was since the last look. Returns a gap that is over.
    pub(super) fn note(&mut self, look: &Look) -> Option<HostGap> {
        match why(look) {
            Some(why) => {
                self.gap += look.passed;
                self.why = why;
                None
            }
            None => self.over(),
        }
    }

    /// Whether a gap is on, of which nothing was told yet.
    pub(super) fn is_in_gap(&self) -> bool {
        self.gap >= GAP
    }

    /// The gap that is on, at the end of a run.
    pub(super) fn over(&mut self) -> Option<HostGap> {
        let length = std::mem::take(&mut self.gap);
        (length >= GAP).then_some(HostGap { length, why: self.why })
    }
}

/// Why the machine did not run; `None`: it ran, or did not want to.
fn why(look: &Look) -> Option<&'static str> {
    if look.stopped {
        return Some("its process was stopped");
    }
    // One of many busy vCPUs waits as long for the others, which is the guest's own doing: a CPU has to be lacking, too.
    let least = look.passed.mul_f64(WAITED);
    if look.passed > Duration::ZERO && look.had.most_waited >= least && look.had.lacked >= least {
        return Some("one of its threads got no CPU of the host");
    }
    // The recorder did not run either, or waited for the machine to stop.
    look.is_late().then_some("it hardly ran while the recorder could not look")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::machine::{CpuUse, Lateness, ThreadUse, Withheld};

    const MS: Duration = Duration::from_millis(1);

    /// Accounts of two threads, in ms.
    fn used(ran: [u32; 2], waited: [u32; 2], stopped: bool) -> CpuUse {
        let thread = |i: usize| ThreadUse { id: i as u32 + 1, ran: MS * ran[i], waited: MS * waited[i] };
        CpuUse { threads: vec![thread(0), thread(1)], stopped }
    }

    /// What is found of looks at these times, in ms.
    fn gaps(looks: &[(u32, CpuUse)]) -> Vec<(u128, &'static str)> {
        let begin = Instant::now();
        let (mut host, mut accounts) = (HostTime::default(), Withheld::on(2));
        let found = looks.iter().filter_map(|(at, used)| {
            let (now, used) = (begin + MS * *at, Some(used.clone()));
            host.note(&accounts.look(now, Duration::ZERO, used, Lateness::OfHost)?)
        });
        let mut found: Vec<_> = found.collect();
        found.extend(host.over());
        found.iter().map(|gap| (gap.length.as_millis(), gap.why)).collect()
    }

    #[test]
    fn a_stopped_process_is_a_gap_from_the_last_look_before_to_the_first_after() {
        let mut looks = vec![(0, used([0, 0], [0, 0], false))];
        looks.extend((1..=8).map(|i| (i * 100, used([5, 5], [0, 0], true))));
        looks.push((900, used([6, 6], [0, 0], false)));
        looks.push((1000, used([90, 90], [0, 0], false)));
        assert_eq!(gaps(&looks), [(900, "its process was stopped")]);
    }

    #[test]
    fn a_thread_that_waits_all_the_time_is_a_gap_and_one_that_shares_is_not() {
        let starved = |i: u32| (i * 100, used([i * 100, 0], [0, i * 98], false));
        let shares = |i: u32| (i * 100, used([i * 50, i * 50], [i * 50, i * 50], false));
        assert_eq!(gaps(&(0..8).map(starved).collect::<Vec<_>>()).len(), 1);
        assert_eq!(gaps(&(0..8).map(shares).collect::<Vec<_>>()), []);
    }

    #[test]
    fn vcpus_that_wait_for_each_other_make_no_gap() {
        // 20 busy ones on two CPUs: each has a tenth of one.
        let busy = |at: u32, ran: u32| {
            let thread =
                |id| ThreadUse { id, ran: MS * (at * ran / 100), waited: MS * (at * (100 - ran) / 100) };
            (at, CpuUse { threads: (1..=20).map(thread).collect(), stopped: false })
        };
        assert_eq!(gaps(&(0..8).map(|i| busy(i * 100, 10)).collect::<Vec<_>>()), []);
        // Others have the more of both.
        assert_eq!(gaps(&(0..8).map(|i| busy(i * 100, 2)).collect::<Vec<_>>()).len(), 1);
    }

    #[test]
    fn a_machine_that_sleeps_and_does_not_answer_was_not_kept_from_it() {
        let idle = used([1, 1], [0, 0], false);
        let of = |lateness| why(&Look::between(&idle, &idle, MS * 5000, 2, lateness));
        assert_eq!(of(Lateness::OfHost), Some("it hardly ran while the recorder could not look"));
        assert_eq!(of(Lateness::OfMachine), None);
    }

    #[test]
    fn an_idle_machine_has_no_gap_unless_the_recorder_has_one_too() {
        let idle = |at: u32| (at, used([1, 1], [0, 0], false));
        assert_eq!(gaps(&(0..20).map(|i| idle(i * 100)).collect::<Vec<_>>()), []);
        assert_eq!(
            gaps(&[idle(0), idle(5000), idle(5100)]),
            [(5000, "it hardly ran while the recorder could not look")]
        );
    }

    #[test]
    fn short_waits_are_no_gaps() {
        assert_eq!(
            gaps(&[
                (0, used([0, 0], [0, 0], false)),
                (100, used([0, 0], [0, 0], true)),
                (200, used([0, 0], [0, 0], false))
            ]),
            []
        );
    }
}
