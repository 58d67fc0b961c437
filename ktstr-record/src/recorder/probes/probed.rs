//! One probe.

use std::sync::Arc;

use guest_init::message::ProbeOrder;
use ktstr_replay::path::SyntaxError;
use ktstr_replay::probe::{ProbeSite, ProbeTarget};
use ktstr_replay::trace::record::{EventBody, ProbeEvent, ProbeNews, ProbeTotals};

use crate::recorder::asked::{Asked, Kind, Pauses};

/// A probe that was asked for.
pub(super) type Probed = Asked<OfProbe>;

#[derive(Debug)]
pub(in crate::recorder) struct OfProbe;

#[derive(Debug, Default)]
pub(in crate::recorder) struct Own {
    /// Where it was armed last, as was told; `None` since it was told that the function is not there.
    pub told: Option<Arc<ProbeSite>>,
}

impl Kind for OfProbe {
    type Order = ProbeOrder;
    type What = ProbeTarget;
    type Site = Arc<ProbeSite>;
    type News = ProbeNews;
    type Totals = ProbeTotals;
    type Own = Own;

    const MOST: usize = 128;
    const NAME: &'static str = "probes";
    // Those of watches are lower.
    const IDS_ABOVE: u32 = 1 << 31;

    fn read(order: &ProbeOrder) -> Result<ProbeTarget, SyntaxError> {
        order.target.parse()
    }

    fn is_same(one: &Arc<ProbeSite>, other: &Arc<ProbeSite>) -> bool {
        one == other
    }

    fn asked(order: &ProbeOrder, by_body: bool) -> ProbeNews {
        ProbeNews::Asked { max_hits: order.max_hits, by_body }
    }

    fn totals(totals: ProbeTotals, pauses: Pauses) -> ProbeNews {
        let Pauses { backed_off, blind_ns, longest_stop_us } = pauses;
        ProbeNews::Totals(ProbeTotals { backed_off, blind_ns, longest_stop_us, ..totals })
    }

    fn event(nth: u32, order: &ProbeOrder, what: ProbeNews) -> EventBody {
        EventBody::Probe(Box::new(ProbeEvent { probe: nth, target: order.target.clone(), what }))
    }
}

impl Probed {
    /// It was called as often as it may be.
    pub(super) fn is_spent(&self) -> bool {
        self.totals.hits >= u64::from(self.order.max_hits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::asked::State;

    #[test]
    fn an_order_that_cannot_be_read_is_refused_with_a_caret() {
        let (probed, fault) = Probed::new(ProbeOrder::of("f(p->)"));
        assert_eq!(probed.state, State::Refused);
        assert!(fault.is_some_and(|fault| fault.contains('^')));
    }
}
