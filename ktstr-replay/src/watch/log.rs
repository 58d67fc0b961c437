//! What a trace says of its watches.

use std::collections::HashMap;

use super::AskedEnd;
use crate::kernel::query::NULL_POINTER;
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
    /// When what is watched may have been there, and was not watched: its scheduler was attached anew.
    pub gaps: Vec<WatchGap>,
    /// Where it is armed, or was last.
    place: Option<u64>,
    /// Since when it is away, and why.
    gone: Option<(GuestNs, String)>,
}

/// A time in which a watch may have missed stores to what had come anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchGap {
    /// It was taken away then, as what it is of had gone; where that is not known, when it was armed again.
    pub from: GuestNs,
    /// It was armed again.
    pub until: GuestNs,
    /// Why it was taken away; `None`: it was elsewhere when it was looked for again.
    pub why: Option<String>,
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
            WatchNews::Waiting { why } => self.away = Some(why.clone()),
            WatchNews::Disarmed { why } => {
                self.away = Some(why.clone());
                self.gone = Some((at, why.clone()));
            }
            WatchNews::Armed { at: place, value, .. } => {
                self.armed.push((at, *value));
                self.away = None;
                self.note_gap(at, *place);
            }
            WatchNews::Refused { why } => self.refused = Some(why.clone()),
            WatchNews::Fired(fire) => self.fires.push((at, (**fire).clone())),
            WatchNews::Totals(totals) => self.totals = Some(*totals),
        }
    }

    /// It was armed at `at`, at `place`: of what came there before, nothing was seen.
    fn note_gap(&mut self, at: GuestNs, place: u64) {
        let before = self.place.replace(place);
        let gap = match self.gone.take() {
            // The store that makes it lead somewhere is seen, and the watch is armed at it.
            Some((_, why)) if is_null_pointer(&why) => None,
            Some((from, why)) => Some(WatchGap { from, until: at, why: Some(why) }),
            // Where a pointer leads it moves with each store to that, which is seen.
            None if self.target.contains("->") => None,
            None => {
                before.filter(|before| *before != place).map(|_| WatchGap { from: at, until: at, why: None })
            }
        };
        self.gaps.extend(gap);
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

/// Whether it was away as a pointer on the way led nowhere: `` `scx_root` is a null pointer ``. What the kernel's own structures lack is
/// told in like words, without a path in back quotes.
fn is_null_pointer(why: &str) -> bool {
    why.starts_with('`') && why.strip_suffix(NULL_POINTER).is_some_and(|path| path.ends_with("` "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::KernelError;
    use crate::kernel::query::QueryError;
    use crate::trace::record::WatchEvent;
    use crate::units::HostNs;

    #[test]
    fn what_came_anew_was_not_watched_before_it_was_found() {
        let armed = |at| WatchNews::Armed { at, bytes: 8, value: 0 };
        let disarmed = |why: &str| WatchNews::Disarmed { why: why.to_owned() };
        let gaps = |target: &str, news: &[WatchNews]| {
            let mut watch = WatchSeen { target: target.to_owned(), ..WatchSeen::default() };
            for (at, what) in (10..).step_by(10).zip(news) {
                watch.hear(GuestNs(at), what);
            }
            watch.gaps.iter().map(|gap| (gap.from.0, gap.until.0)).collect::<Vec<_>>()
        };
        let none = "there is no variable `x`";
        assert_eq!(gaps("bss.x", &[armed(1), disarmed(none), armed(2)]), [(20, 30)]);
        // The same place may be given again.
        assert_eq!(gaps("bss.x", &[armed(1), disarmed(none), armed(1)]), [(20, 30)]);
        // A scheduler that replaces another one is found at once, and had its variables before.
        assert_eq!(gaps("bss.x", &[armed(1), armed(2)]), [(20, 20)]);
        assert_eq!(gaps("bss.x", &[armed(1), armed(1)]), []);
        assert_eq!(gaps("bss.x", &[armed(1), disarmed(none)]), []);
        // Where a pointer leads is known at the store to it.
        assert_eq!(gaps("bss.p->x", &[armed(1), armed(2), disarmed("`p` is a null pointer"), armed(3)]), []);
        assert_eq!(gaps("bss.p->x", &[armed(1), disarmed(none), armed(3)]), [(20, 30)]);
        // That the kernel's own structures could not be walked is no pointer of the target's.
        let kernels = KernelError::Null { what: "map_idr".to_owned() }.to_string();
        assert_eq!(gaps("bss.x", &[armed(1), disarmed(&kernels), armed(2)]), [(20, 30)]);
        let of_path = QueryError::NullPointer { path: "p".to_owned() }.to_string();
        assert_eq!(gaps("bss.p->x", &[armed(1), disarmed(&of_path), armed(3)]), []);
    }

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
