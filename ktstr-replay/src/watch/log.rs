//! What a trace says of its watches.

use std::collections::HashMap;

use super::AskedEnd;
use crate::trace::record::{Event, EventBody, WatchFire, WatchNews, WatchTotals};
use crate::units::GuestNs;

/// The watches of a run, in the order in which they were asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchLog {
    /// The watches.
    pub watches: Vec<WatchSeen>,
}

/// One watch, from when it was asked for to the end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchSeen {
    /// Its number.
    pub number: u32,
    /// What it is of, as its author wrote it.
    pub target: String,
    /// The condition under which a store counts.
    pub when: Option<String>,
    /// After how many fires it is taken away.
    pub max_fires: u32,
    /// The test's body asked for it, at this time.
    pub by_body: bool,
    /// When it was asked for.
    pub asked_ns: GuestNs,
    /// Every time that it was armed: when, and what was there.
    pub armed: Vec<(GuestNs, i128)>,
    /// Every fire, with its time.
    pub fires: Vec<(GuestNs, WatchFire)>,
    /// What it waits for, or why it was taken away last; `None` while it is armed.
    pub away: Option<String>,
    /// Why it was given up.
    pub refused: Option<String>,
    /// Its totals; `None` in a trace that was cut off.
    pub totals: Option<WatchTotals>,
}

impl WatchLog {
    /// The watches that `events` tell of.
    #[must_use]
    pub fn of(events: &[Event]) -> Self {
        let mut watches: Vec<WatchSeen> = Vec::new();
        // Where each is, by number.
        let mut known: HashMap<u32, usize> = HashMap::new();
        for event in events {
            let EventBody::Watch(news) = &event.body else { continue };
            let at = *known.entry(news.watch).or_insert_with(|| {
                let (number, target) = (news.watch, news.target.clone());
                watches.push(WatchSeen { number, target, asked_ns: event.guest_ns, ..WatchSeen::default() });
                watches.len() - 1
            });
            if let Some(watch) = watches.get_mut(at) {
                watch.hear(event.guest_ns, &news.what);
            }
        }
        Self { watches }
    }

    /// The watches of what is called `target`.
    pub fn named<'l>(&'l self, target: &'l str) -> impl Iterator<Item = &'l WatchSeen> {
        self.watches.iter().filter(move |watch| watch.target == target)
    }
}

impl WatchSeen {
    fn hear(&mut self, at: GuestNs, news: &WatchNews) {
        match news {
            WatchNews::Asked { when, max_fires, by_body, min_interval_ns: _ } => {
                self.asked_ns = at;
                (self.when, self.max_fires, self.by_body) = (when.clone(), *max_fires, *by_body);
            }
            WatchNews::Waiting { why } | WatchNews::Disarmed { why } => self.away = Some(why.clone()),
            WatchNews::Armed { value, .. } => {
                self.armed.push((at, *value));
                self.away = None;
            }
            WatchNews::Refused { why } => self.refused = Some(why.clone()),
            WatchNews::Fired(fire) => self.fires.push((at, (**fire).clone())),
            WatchNews::Totals(totals) => self.totals = Some(*totals),
        }
    }

    /// What became of it.
    #[must_use]
    pub fn end(&self) -> AskedEnd {
        let (refused, away) = (self.refused.as_deref(), self.away.as_deref());
        AskedEnd::of(refused, away, !self.armed.is_empty(), !self.fires.is_empty())
    }

    /// What was dropped of it, in words; `None` where it was watched all the time.
    #[must_use]
    pub fn dropped(&self) -> Option<String> {
        let totals = self.totals?;
        let parts = [
            (totals.excluded, "stores that its condition excluded".to_owned()),
            (totals.too_soon, "stores too soon after a fire".to_owned()),
            (
                totals.backed_off,
                format!(
                    "times that it was taken away, for {:.0} ms in all, as its stores, or those to a pointer on the way, took too much of the guest's time",
                    totals.blind_ns as f64 / 1e6
                ),
            ),
            (totals.unseen, "changes that no store was seen to make".to_owned()),
        ];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::WatchEvent;
    use crate::units::HostNs;

    #[test]
    fn a_trace_with_a_watch_in_each_event_is_read_in_time() {
        let event = |watch| {
            let news = WatchEvent {
                watch,
                target: "bss.x".to_owned(),
                what: WatchNews::Totals(WatchTotals::default()),
            };
            Event { guest_ns: GuestNs(1), host_ns: HostNs(1), body: EventBody::Watch(Box::new(news)) }
        };
        let events: Vec<Event> = (0..200_000).map(event).collect();
        assert_eq!(WatchLog::of(&events).watches.len(), events.len());
    }
}
