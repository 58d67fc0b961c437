//! What the host gives to the machine: gaps are told when they are over, and limits do not count what is withheld.

use std::time::{Duration, Instant};

use ktstr_replay::trace::record::GuestEnd;

use super::{Ending, Session};
use crate::machine::{Lateness, Withheld};
use crate::recorder::host_time::{GAP, HostGap, HostTime};

/// What is known of the host's part in a run.
#[derive(Debug, Default)]
pub(super) struct Host {
    time: HostTime,
    withheld: Withheld,
    /// All gaps that were told.
    told: Duration,
    /// How many these are.
    gaps: usize,
    /// All pauses up to the last look.
    pauses: Duration,
    /// A limit of init's passed.
    limit_passed: bool,
}

impl Host {
    /// For how long it did not run the machine, in pieces that are too short to be gaps, too.
    pub(super) fn withheld(&self) -> &Withheld {
        &self.withheld
    }

    /// Whether a gap is on, of which nothing was told yet.
    pub(super) fn is_in_gap(&self) -> bool {
        self.time.is_in_gap()
    }

    /// How many gaps were told.
    pub(super) fn gaps(&self) -> usize {
        self.gaps
    }

    /// The scheduler was not enabled within its time.
    pub(super) fn limit_passed(&mut self) {
        self.limit_passed = true;
    }
}

impl Session<'_> {
    /// Notice that the host does not run the machine.
    pub(super) fn look_at_host_time(&mut self) {
        self.look_at_accounts(Lateness::OfHost);
    }

    fn look_at_accounts(&mut self, lateness: Lateness) {
        let now = Instant::now();
        if !self.host.withheld.is_due(now) {
            return;
        }
        let Some(used) = self.machine.cpu_use() else { return };
        let pauses = self.clock.all_pauses();
        let paused = pauses.saturating_sub(std::mem::replace(&mut self.host.pauses, pauses));
        let Some(look) = self.host.withheld.look(now, paused, Some(used), lateness) else { return };
        let gap = self.host.time.note(&look);
        self.tell_gap(gap);
    }

    fn tell_gap(&mut self, gap: Option<HostGap>) {
        let Some(gap) = gap else { return };
        self.host.told += gap.length;
        self.host.gaps += 1;
        gap.tell(&mut self.outbox, self.clock.host_ns());
    }

    /// At the end of a run: the gap that is on, and where a limit passed all else that was withheld, which can be why.
    pub(super) fn tell_host_time(&mut self, ending: &Ending) {
        // Of a machine that does not answer the loop heard no more: it waited for the answer, and noticed itself where the host ran neither.
        let died = ending.end == GuestEnd::MachineDied;
        self.look_at_accounts(if died { Lateness::OfMachine } else { Lateness::OfHost });
        let gap = self.host.time.over();
        self.tell_gap(gap);
        // Not of other runs: it is told as if it had been at the end, and would excuse a stall there.
        let is_late = matches!(ending.end, GuestEnd::TimedOut | GuestEnd::MachineDied);
        let length = self.host.withheld.total().saturating_sub(self.host.told);
        if (is_late || self.host.limit_passed) && length >= GAP {
            self.tell_gap(Some(HostGap { length, why: "others had its CPUs, a while at a time" }));
        }
    }
}
