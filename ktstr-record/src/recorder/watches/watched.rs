//! One watch.

use std::time::Duration;

use guest_init::message::WatchOrder;
use ktstr_replay::kernel::query::Located;
use ktstr_replay::path::SyntaxError;
use ktstr_replay::trace::record::{WatchNews, WatchTotals};
use ktstr_replay::watch::{WatchCondition, WatchTarget};

use super::pacing::Pacing;
use crate::machine::WatchId;

/// A watch that was asked for.
#[derive(Debug)]
pub(super) struct Watched {
    pub order: WatchOrder,
    pub by_body: bool,
    /// What is watched and when; `None` for an order that could not be read, which is refused.
    pub what: Option<What>,
    pub state: State,
    pub armed_ever: bool,
    pub totals: WatchTotals,
    /// Guest time of the last fire.
    pub last_fire: Option<Duration>,
    pub pacing: Pacing,
    /// How often a pointer on the way to it was seen to be stored to.
    pub moves: u64,
}

#[derive(Debug)]
pub(super) struct What {
    pub target: WatchTarget,
    pub when: Option<WatchCondition>,
}

/// How far a watch has come.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// What it is of is not there; the reason that was told.
    Waiting(String),
    /// Stores are seen.
    Armed(Armed),
    /// Taken away until the machine has run that long; where it was armed then, and what was there.
    Resting { since: Duration, until: Duration, was: Option<(Located, i128)> },
    /// It fired as often as it may.
    Spent,
    /// It cannot be had.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Armed {
    pub id: WatchId,
    pub place: Located,
    /// What was there at the last look.
    pub value: i128,
}

/// What becomes of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    Record,
    Excluded,
    TooSoon,
}

impl Watched {
    /// A watch, and why it cannot be one.
    pub(super) fn new(order: WatchOrder, by_body: bool) -> (Self, Option<String>) {
        let what = read(&order);
        let fault = what.as_ref().err().map(|error| error.render());
        let state = if fault.is_some() { State::Refused } else { State::Waiting(String::new()) };
        let watched = Self {
            order,
            by_body,
            what: what.ok(),
            state,
            armed_ever: false,
            totals: WatchTotals::default(),
            last_fire: None,
            pacing: Pacing::default(),
            moves: 0,
        };
        (watched, fault)
    }

    /// What is told of its being asked for.
    pub(super) fn asked(&self) -> WatchNews {
        WatchNews::Asked {
            when: self.order.when.clone(),
            max_fires: self.order.max_fires,
            min_interval_ns: self.order.min_interval_ns,
            by_body: self.by_body,
        }
    }

    pub(super) fn armed(&self) -> Option<Armed> {
        match self.state {
            State::Armed(armed) => Some(armed),
            _ => None,
        }
    }

    /// It is neither spent nor given up.
    pub(super) fn is_wanted(&self) -> bool {
        !matches!(self.state, State::Spent | State::Refused)
    }

    /// It is wanted now, wherever it is.
    pub(super) fn is_looked_for(&self) -> bool {
        matches!(self.state, State::Waiting(_) | State::Armed(_))
    }

    /// It was taken away until now, when the machine has run for `running`.
    pub(super) fn has_rested(&self, running: Duration) -> bool {
        matches!(self.state, State::Resting { until, .. } if running >= until)
    }

    /// Count a store at this guest time, which made `new` of `old`.
    pub(super) fn store(&mut self, time: Duration, old: i128, new: i128) -> Store {
        self.totals.stores += 1;
        let when = self.what.as_ref().and_then(|what| what.when.as_ref());
        let least = Duration::from_nanos(self.order.min_interval_ns);
        if when.is_some_and(|when| !when.holds(old, new)) {
            self.totals.excluded += 1;
            return Store::Excluded;
        }
        if self.last_fire.is_some_and(|last| time.saturating_sub(last) < least) {
            self.totals.too_soon += 1;
            return Store::TooSoon;
        }
        self.totals.fires += 1;
        self.last_fire = Some(time);
        Store::Record
    }

    /// It has fired as often as it may.
    pub(super) fn is_spent(&self) -> bool {
        self.totals.fires >= u64::from(self.order.max_fires)
    }
}

fn read(order: &WatchOrder) -> Result<What, SyntaxError> {
    let when = order.when.as_ref().map(|when| when.parse()).transpose()?;
    Ok(What { target: order.target.parse()?, when })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn watched(when: Option<&str>, max_fires: u32, interval: Duration) -> Watched {
        let order = WatchOrder {
            target: "bss.x".to_owned(),
            when: when.map(str::to_owned),
            max_fires,
            min_interval_ns: interval.as_nanos() as u64,
        };
        let (watched, fault) = Watched::new(order, true);
        assert_eq!(fault, None);
        watched
    }

    #[test]
    fn every_store_is_counted_and_those_that_count_are_recorded() {
        let mut watched = watched(Some("new > 10"), 2, MS * 100);
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
    fn what_rests_is_looked_for_when_it_has_rested() {
        let mut watched = watched(None, 2, MS);
        assert!(watched.is_looked_for() && !watched.has_rested(MS * 100));
        watched.state = State::Resting { since: MS, until: MS * 50, was: None };
        assert!(watched.is_wanted() && !watched.is_looked_for());
        assert!(!watched.has_rested(MS * 49) && watched.has_rested(MS * 50));
    }

    #[test]
    fn an_order_that_cannot_be_read_is_refused_with_a_caret() {
        let order = WatchOrder { when: Some("now > 1".to_owned()), ..WatchOrder::of("bss.x") };
        let (watched, fault) = Watched::new(order, false);
        assert_eq!(watched.state, State::Refused);
        assert!(fault.is_some_and(|fault| fault.contains("^^^")));
    }
}
