//! When a test had its scheduler detached, by the operations that say so.

use std::ops::RangeInclusive;

use super::Run;
use crate::trace::record::{EventBody, Sample};
use crate::units::GuestNs;

/// The times in which a test had its scheduler detached: nothing is wrong with it then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DetachedTimes(Vec<(GuestNs, GuestNs)>);

impl DetachedTimes {
    /// Name of the operation that is told before a scheduler is detached.
    pub const DETACH: &str = "detach_scheduler";
    /// Name of the operation that is told after one was attached.
    pub const ATTACH: &str = "attach_scheduler";

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// A capture was taken in one of them.
    pub(crate) fn contain(&self, sample: &Sample) -> bool {
        self.0.iter().any(|(from, until)| (*from..=*until).contains(&sample.guest_ns))
    }

    /// The last one.
    pub(crate) fn last(&self) -> Option<RangeInclusive<GuestNs>> {
        self.0.last().map(|(from, until)| RangeInclusive::new(*from, *until))
    }

    /// How many ended before a capture was taken.
    pub(crate) fn before(&self, sample: &Sample) -> usize {
        self.0.iter().filter(|(_, until)| *until < sample.guest_ns).count()
    }
}

impl Run<'_> {
    /// When the test had its scheduler detached. One that was not attached again is so to the end.
    pub(crate) fn detached_times(&self) -> DetachedTimes {
        let mut times: Vec<(GuestNs, GuestNs)> = Vec::new();
        for event in &self.events {
            let EventBody::Op { name, .. } = &event.body else { continue };
            match (name.as_str(), times.last_mut()) {
                (DetachedTimes::DETACH, _) => times.push((event.guest_ns, GuestNs(u64::MAX))),
                (DetachedTimes::ATTACH, Some((_, until))) => *until = event.guest_ns,
                _ => {}
            }
        }
        DetachedTimes(times)
    }
}
