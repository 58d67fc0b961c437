//! What watches saw, as values of captures and as a series of its own.

use crate::kernel::query::Reading;
use crate::path::{Projection, WatchField, WatchPath};
use crate::text::Candidates;
use crate::trace::Trace;
use crate::trace::record::{Event, EventBody, Stage, WatchFire};
use crate::units::GuestNs;
use crate::value::Scalar;
use crate::watch::WatchLog;

use super::{Absent, Column, Point};

/// The watches of a trace, as claims read them.
pub(super) struct Watches(WatchLog);

impl Watches {
    /// Those of `trace`, if any of `projections` is about them.
    pub(super) fn of(trace: &Trace, projections: &[&Projection]) -> Self {
        let wanted = projections.iter().any(|projection| matches!(projection, Projection::Watch(_)));
        Self(WatchLog::of(&if wanted { trace.events() } else { Vec::new() }))
    }

    /// The number at a capture of this time.
    pub(super) fn read(&self, path: &WatchPath, at_ns: GuestNs) -> Result<Reading, Absent> {
        let target = &path.target;
        if self.0.named(target).next().is_none() {
            let names = self.0.watches.iter().map(|watch| watch.target.as_str());
            return Err(Absent::Unreadable(match self.0.watches.as_slice() {
                [] => format!("`{target}` was not watched, and nothing else was"),
                _ => format!("`{target}` was not watched{}", Candidates::new(target, names)),
            }));
        }
        let fires = || self.0.named(target).flat_map(|watch| &watch.fires).filter(|(at, _)| *at <= at_ns);
        let number = |value: i128| Ok(Reading { scalar: Scalar::Int(value), bits: 64 });
        if path.field == WatchField::Fires {
            return number(fires().count() as i128);
        }
        // The watch that the test armed last counts, of several with one target.
        let Some((_, fire)) = fires().max_by_key(|(at, _)| *at) else {
            return Err(Absent::Unreadable(format!("the watch of `{target}` had not fired by then")));
        };
        number(match path.field {
            WatchField::Old => fire.old,
            WatchField::Cpu => i128::from(fire.cpu.0),
            WatchField::New | WatchField::Fires => fire.new,
        })
    }
}

impl Trace {
    /// The values that stores gave to what is watched as `target`, a point for each fire, in the order of time. No points where it
    /// was not watched or never fired.
    #[must_use]
    pub fn watch(&self, target: &str) -> Column {
        let events = self.events();
        let log = WatchLog::of(&events);
        let mut fires: Vec<_> = log.named(target).flat_map(|watch| &watch.fires).collect();
        fires.sort_by_key(|(at, fire)| (*at, fire.sample));
        let point = |(at_ns, fire): &(GuestNs, WatchFire)| Point {
            sample: fire.sample,
            tag: format!("watch:{target}"),
            at_ns: *at_ns,
            phase: fire.phase.as_ref().map(|(index, _)| *index),
            value: Ok(Scalar::Int(fire.new)),
        };
        let path = WatchPath { target: target.to_owned(), field: WatchField::New };
        Column {
            projection: Projection::Watch(path),
            origin_ns: body_began(&events),
            points: fires.into_iter().map(point).collect(),
            bits: 64,
        }
    }
}

fn body_began(events: &[Event]) -> GuestNs {
    let is_begin = |event: &&Event| matches!(event.body, EventBody::Stage { stage: Stage::BodyStarted, .. });
    events.iter().find(is_begin).map_or(GuestNs(0), |event| event.guest_ns)
}

#[cfg(test)]
mod tests {
    use crate::testing::TraceBuilder;
    use crate::trace::record::{CaptureKind, EventBody, WatchEvent, WatchFire, WatchNews};
    use crate::verdict::Outcome;

    fn news(what: WatchNews) -> EventBody {
        EventBody::Watch(Box::new(WatchEvent { watch: 0, target: "bss.x".to_owned(), what }))
    }

    fn fire(number: u32, old: i128, new: i128) -> EventBody {
        news(WatchNews::Fired(Box::new(WatchFire { number, old, new, ..WatchFire::default() })))
    }

    /// Fires at 1 s and 3 s, to 5 and 7.
    fn trace() -> TraceBuilder {
        let asked = WatchNews::Asked { when: None, max_fires: 64, min_interval_ns: 0, by_body: false };
        let armed = WatchNews::Armed { at: 0x1000, bytes: 8, value: 4 };
        TraceBuilder::begun()
            .event(100, news(asked))
            .event(200, news(armed))
            .event(1000, fire(1, 4, 5))
            .capture("one", CaptureKind::OnDemand, 2000, [1; 3])
            .event(3000, fire(2, 5, 7))
            .capture("two", CaptureKind::OnDemand, 3500, [1; 3])
            .ended()
    }

    fn judged(text: &str) -> (Outcome, String) {
        trace().judged_by(text)
    }

    #[test]
    fn a_capture_has_what_the_last_fire_before_it_stored() {
        assert_eq!(judged("eventually(watch(\"bss.x\").new == 5)").0, Outcome::Pass);
        assert_eq!(judged("eventually(watch(\"bss.x\").new == 6)").0, Outcome::Fail);
        assert_eq!(judged("each(watch(\"bss.x\").fires <= 2)").0, Outcome::Pass);
        assert_eq!(judged("each(watch(\"bss.x\").fires <= 1)").0, Outcome::Fail);
        assert_eq!(judged("final(watch(\"bss.x\").fires == 2)").0, Outcome::Pass);
        assert_eq!(judged("final(watch(\"bss.x\").old == 4)").0, Outcome::Fail);
        let (outcome, text) = judged("final(watch(\"bss.y\").fires == 0)");
        assert!(outcome == Outcome::Fail && text.contains("`bss.y` was not watched"), "{text}");
    }

    #[test]
    fn the_fires_are_a_series() {
        let column = trace().trace().watch("bss.x");
        let values: Vec<String> = column.usable().map(|(_, _, value)| value.to_string()).collect();
        assert_eq!(values, ["5", "7"]);
        assert!(trace().trace().watch("other").points.is_empty());
    }
}
