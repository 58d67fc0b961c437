//! Whose the maps of a run are, where its guest has several schedulers.

use crate::trace::record::{Event, EventBody, SchedulerMaps};

/// The schedulers whose maps are known. Empty where there is only one: then nothing has to be told apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct MapOwners(Vec<SchedulerMaps>);

impl MapOwners {
    /// What was recorded.
    pub(crate) fn of_events(events: &[Event]) -> Self {
        let one = |event: &Event| match &event.body {
            EventBody::SchedulerMaps(maps) => Some((**maps).clone()),
            _ => None,
        };
        Self(events.iter().filter_map(one).collect())
    }

    /// What was read of a kernel.
    pub(crate) fn new(schedulers: Vec<SchedulerMaps>) -> Self {
        Self(schedulers)
    }

    /// The schedulers that have one of these maps.
    pub(super) fn among(&self, is_there: impl Fn(u32) -> bool) -> impl Iterator<Item = &SchedulerMaps> {
        self.0.iter().filter(move |one| one.maps.iter().any(|id| is_there(*id)))
    }

    /// Those that a map is of: several may use it.
    pub(super) fn of(&self, map: u32) -> impl Iterator<Item = &SchedulerMaps> {
        self.0.iter().filter(move |one| one.maps.contains(&map))
    }
}
