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
    /// Running time of the last fire.
    pub last_fire: Option<Duration>,
    pub pacing: Pacing,
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
    /// Taken away until the machine has run that long.
    Resting { since: Duration, until: Duration, place: Located, value: i128 },
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

    /// Count a store at this running time, which made `new` of `old`.
    pub(super) fn store(&mut self, running: Duration, old: i128, new: i128) -> Store {
        self.totals.stores += 1;
        let when = self.what.as_ref().and_then(|what| what.when.as_ref());
        let least = Duration::from_nanos(self.order.min_interval_ns);
        if when.is_some_and(|when| !when.holds(old, new)) {
            self.totals.excluded += 1;
            return Store::Excluded;
        }
        if self.last_fire.is_some_and(|last| running.saturating_sub(last) < least) {
            self.totals.too_soon += 1;
            return Store::TooSoon;
        }
        self.totals.fires += 1;
        self.last_fire = Some(running);
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
