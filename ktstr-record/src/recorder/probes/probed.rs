//! One probe.

use std::sync::Arc;
use std::time::Duration;

use guest_init::message::ProbeOrder;
use ktstr_replay::path::SyntaxError;
use ktstr_replay::probe::{ProbeSite, ProbeTarget};
use ktstr_replay::trace::record::{ProbeNews, ProbeTotals};

use crate::machine::WatchId;

/// A probe that was asked for.
#[derive(Debug)]
pub(super) struct Probed {
    pub order: ProbeOrder,
    pub by_body: bool,
    /// What is probed; `None` for an order that could not be read, which is refused.
    pub target: Option<ProbeTarget>,
    pub state: State,
    /// Where it was armed last, as was told; `None` since it was told that the function is not there.
    pub told: Option<Arc<ProbeSite>>,
    pub armed_ever: bool,
    pub totals: ProbeTotals,
}

/// How far a probe has come.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// The function is not there; the reason that was told.
    Waiting(String),
    /// Calls are seen.
    Armed(Armed),
    /// Taken away until the machine has run that long.
    Resting { since: Duration, until: Duration },
    /// It was called as often as it may.
    Spent,
    /// It cannot be had.
    Refused,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Armed {
    pub id: WatchId,
    pub site: Arc<ProbeSite>,
}

impl Probed {
    /// A probe, and why it cannot be one.
    pub(super) fn new(order: ProbeOrder, by_body: bool) -> (Self, Option<String>) {
        let target: Result<ProbeTarget, SyntaxError> = order.target.parse();
        let fault = target.as_ref().err().map(|error| error.render());
        let state = if fault.is_some() { State::Refused } else { State::Waiting(String::new()) };
        let target = target.ok();
        let totals = ProbeTotals::default();
        (Self { order, by_body, target, state, told: None, armed_ever: false, totals }, fault)
    }

    /// What is told of its being asked for.
    pub(super) fn asked(&self) -> ProbeNews {
        ProbeNews::Asked { max_hits: self.order.max_hits, by_body: self.by_body }
    }

    pub(super) fn armed(&self) -> Option<&Armed> {
        match &self.state {
            State::Armed(armed) => Some(armed),
            _ => None,
        }
    }

    /// It was taken away until now, when the machine has run for `running`.
    pub(super) fn has_rested(&self, running: Duration) -> bool {
        matches!(self.state, State::Resting { until, .. } if running >= until)
    }

    /// It rests no more: the machine has run for `running`.
    pub(super) fn wake(&mut self, running: Duration) {
        if let State::Resting { since, .. } = self.state {
            let away = u64::try_from(running.saturating_sub(since).as_nanos()).unwrap_or(u64::MAX);
            self.totals.blind_ns = self.totals.blind_ns.saturating_add(away);
            self.state = State::Waiting(String::new());
        }
    }

    /// It was called as often as it may be.
    pub(super) fn is_spent(&self) -> bool {
        self.totals.hits >= u64::from(self.order.max_hits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_rests_is_looked_for_when_it_has_rested_and_its_time_is_counted() {
        let (mut probed, fault) = Probed::new(ProbeOrder::of("f(p->pid) returns"), true);
        assert_eq!(fault, None);
        probed.state = State::Resting { since: MS, until: MS * 50 };
        assert!(!probed.has_rested(MS * 49) && probed.has_rested(MS * 50));
        probed.wake(MS * 60);
        assert_eq!(
            (probed.state.clone(), probed.totals.blind_ns),
            (State::Waiting(String::new()), 59_000_000)
        );
        probed.wake(MS * 70);
        assert_eq!(probed.totals.blind_ns, 59_000_000);
    }

    #[test]
    fn an_order_that_cannot_be_read_is_refused_with_a_caret() {
        let (probed, fault) = Probed::new(ProbeOrder::of("f(p->)"), false);
        assert_eq!(probed.state, State::Refused);
        assert!(fault.is_some_and(|fault| fault.contains('^')));
    }
}
