//! Whose the maps of a run are, where its guest has several schedulers.

use std::collections::{BTreeMap, BTreeSet};

use crate::trace::record::{Event, EventBody, SchedulerMaps};

/// Most schedulers that one map is told to be of. A trace may name any number of them.
pub(crate) const MOST_OF_ONE_MAP: usize = 16;

/// The schedulers whose maps are known. Empty where there is only one: then nothing has to be told apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct MapOwners {
    schedulers: Vec<SchedulerMaps>,
    /// Which of them have a map, by its id: every variable and map that is named is looked up here.
    by_map: BTreeMap<u32, Vec<usize>>,
}

impl MapOwners {
    /// What was recorded.
    pub(crate) fn of_events(events: &[Event]) -> Self {
        let one = |event: &Event| match &event.body {
            EventBody::SchedulerMaps(maps) => Some((**maps).clone()),
            _ => None,
        };
        Self::new(events.iter().filter_map(one).collect())
    }

    /// What was read of a kernel.
    pub(crate) fn new(schedulers: Vec<SchedulerMaps>) -> Self {
        let mut by_map: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (at, one) in schedulers.iter().enumerate() {
            for id in &one.maps {
                let its = by_map.entry(*id).or_default();
                if its.len() < MOST_OF_ONE_MAP && its.last() != Some(&at) {
                    its.push(at);
                }
            }
        }
        Self { schedulers, by_map }
    }

    /// The schedulers that have one of these maps.
    pub(super) fn among(&self, maps: impl Iterator<Item = u32>) -> Vec<&SchedulerMaps> {
        let found: BTreeSet<usize> = maps.filter_map(|id| self.by_map.get(&id)).flatten().copied().collect();
        found.into_iter().filter_map(|at| self.schedulers.get(at)).collect()
    }

    /// Those that a map is of: several may use it.
    pub(super) fn of(&self, map: u32) -> impl Iterator<Item = &SchedulerMaps> {
        let its = self.by_map.get(&map).into_iter().flatten();
        its.filter_map(move |at| self.schedulers.get(*at))
    }
}
