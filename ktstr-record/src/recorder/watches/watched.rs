//! One watch.

use std::time::Duration;

use guest_init::message::WatchOrder;
use ktstr_replay::kernel::query::Located;
use ktstr_replay::path::SyntaxError;
use ktstr_replay::trace::record::{EventBody, WatchEvent, WatchNews, WatchTotals};
use ktstr_replay::watch::{WatchCondition, WatchTarget};

use super::pacing::Pacing;
use crate::recorder::asked::{Asked, Kind, Pauses};

/// A watch that was asked for.
pub(super) type Watched = Asked<OfWatch>;

#[derive(Debug)]
pub(in crate::recorder) struct OfWatch;

/// What is watched, and which stores count.
#[derive(Debug)]
pub(in crate::recorder) struct What {
    pub target: WatchTarget,
    pub when: Option<WatchCondition>,
}

/// Where a watch is armed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::recorder) struct Site {
    pub place: Located,
    /// What was there at the last look.
    pub value: i128,
}

#[derive(Debug, Default)]
pub(in crate::recorder) struct Own {
    /// Guest time of the last fire.
    pub(super) last_fire: Option<Duration>,
    pub(super) pacing: Pacing,
    /// How often a pointer on the way to it was seen to be stored to.
    pub(super) moves: u64,
    /// It was told that the machine has no room for something that it moves with.
    pub(super) is_without_room: bool,
}

/// What becomes of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    Record,
    Excluded,
    TooSoon,
}

impl Kind for OfWatch {
    type Order = WatchOrder;
    type What = What;
    type Site = Site;
    type News = WatchNews;
    type Totals = WatchTotals;
    type Own = Own;

    // Each costs a look at its value at every stop.
    const MOST: usize = 256;
    const NAME: &'static str = "watches";
    const IDS_ABOVE: u32 = 0;

    fn read(order: &WatchOrder) -> Result<What, SyntaxError> {
        let when = order.when.as_ref().map(|when| when.parse()).transpose()?;
        Ok(What { target: order.target.parse()?, when })
    }

    fn is_same(one: &Site, other: &Site) -> bool {
        one.place == other.place
    }

    fn asked(order: &WatchOrder, by_body: bool) -> WatchNews {
        let WatchOrder { when, max_fires, min_interval_ns, .. } = order.clone();
        WatchNews::Asked { when, max_fires, min_interval_ns, by_body }
    }

    fn totals(totals: WatchTotals, pauses: Pauses) -> WatchNews {
        let Pauses { backed_off, blind_ns, longest_stop_us } = pauses;
        WatchNews::Totals(WatchTotals { backed_off, blind_ns, longest_stop_us, ..totals })
    }

    fn event(nth: u32, order: &WatchOrder, what: WatchNews) -> EventBody {
        EventBody::Watch(Box::new(WatchEvent { watch: nth, target: order.target.clone(), what }))
    }
}

impl Watched {
    /// Count a store at this guest time, which made `new` of `old`.
    pub(super) fn store(&mut self, time: Duration, old: i128, new: i128) -> Store {
        self.totals.stores += 1;
        let when = self.what.as_ref().and_then(|what| what.when.as_ref());
        let least = Duration::from_nanos(self.order.min_interval_ns);
        if when.is_some_and(|when| !when.holds(old, new)) {
            self.totals.excluded += 1;
            return Store::Excluded;
        }
        if self.own.last_fire.is_some_and(|last| time.saturating_sub(last) < least) {
            self.totals.too_soon += 1;
            return Store::TooSoon;
        }
        self.totals.fires += 1;
        self.own.last_fire = Some(time);
        Store::Record
    }

    /// It has fired as often as it may.
    pub(super) fn is_spent(&self) -> bool {
        self.totals.fires >= u64::from(self.order.max_fires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::asked::State;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn every_store_is_counted_and_those_that_count_are_recorded() {
        let (mut watched, fault) = Watched::new(WatchOrder {
            target: "bss.x".to_owned(),
            when: Some("new > 10".to_owned()),
            max_fires: 2,
            min_interval_ns: 100_000_000,
        });
        assert_eq!(fault, None);
        assert_eq!(watched.store(MS, 1, 2), Store::Excluded);
        assert_eq!(watched.store(MS * 2, 2, 11), Store::Record);
        assert!(!watched.is_spent());
        assert_eq!(watched.store(MS * 3, 11, 12), Store::TooSoon);
        assert_eq!(watched.store(MS * 102, 12, 13), Store::Record);
        assert!(watched.is_spent());
        let WatchTotals { stores, fires, excluded, too_soon, .. } = watched.totals;
        assert_eq!((stores, fires, excluded, too_soon), (4, 2, 1, 1));
    }

    #[test]
    fn an_order_that_cannot_be_read_is_refused_with_a_caret() {
        let order = WatchOrder { when: Some("now > 1".to_owned()), ..WatchOrder::of("bss.x") };
        let (watched, fault) = Watched::new(order);
        assert_eq!(watched.state, State::Refused);
        assert!(fault.is_some_and(|fault| fault.contains("^^^")));
    }
}
