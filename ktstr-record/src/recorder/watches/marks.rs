//! What targets move with: pointers on the way to them, and what the kernel stores to when a scheduler comes or goes. They are watched as
//! well, as far as the machine has room; what it has none for is compared at each stop, and told.

use ktstr_replay::kernel::query::Located;

use crate::machine::{Machine, Watch, WatchId};
use crate::recorder::asked::{MakeRoom, arm, disarm};

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Marks(Vec<Mark>);

/// A place that targets move with.
#[derive(Debug)]
pub(super) struct Mark {
    /// Its watch; `None` where the machine has no room for it.
    id: Option<WatchId>,
    place: Located,
    /// What was there when the targets were looked for.
    value: Option<i128>,
    /// Positions of the watches of these targets.
    of: Vec<usize>,
}

impl Mark {
    /// A place with this value, with which these watches move.
    pub(super) fn new(place: Located, value: Option<i128>, of: Vec<usize>) -> Self {
        Self { id: None, place, value, of }
    }
}

impl Marks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Watch these, with an id of `next_id` each. For what does not fit, `make_room` is asked.
    pub(super) fn arm(
        &mut self,
        wanted: Vec<Mark>,
        machine: &mut dyn Machine,
        mut next_id: impl FnMut() -> WatchId,
        make_room: &mut MakeRoom<'_>,
    ) {
        for mut mark in wanted {
            let id = next_id();
            mark.id = arm(machine, id, of_place(mark.place), make_room).is_ok().then_some(id);
            self.0.push(mark);
        }
    }

    /// Forget all of them: they make room, if need be, for what is wanted itself.
    pub(super) fn take_away(&mut self, machine: &mut dyn Machine) {
        for id in std::mem::take(&mut self.0).into_iter().filter_map(|mark| mark.id) {
            disarm(machine, id);
        }
    }

    /// The place that `id` watches.
    pub(super) fn place_of(&self, id: WatchId) -> Option<Located> {
        self.0.iter().find(|mark| mark.id == Some(id)).map(|mark| mark.place)
    }

    /// The watches whose targets move with what has a byte of `place`.
    pub(super) fn moved_with(&self, place: Located) -> Vec<usize> {
        let moved = self.0.iter().filter(|mark| mark.place.overlaps(place.at, place.bytes));
        moved.flat_map(|mark| mark.of.iter().copied()).collect()
    }

    /// Whether one was stored to since the targets were looked for, as `read` has it: also one without a watch.
    pub(super) fn have_moved(&self, mut read: impl FnMut(Located) -> Option<i128>) -> bool {
        self.0.iter().any(|mark| read(mark.place) != mark.value)
    }

    /// The watches of which the machine has no room for something that their targets move with, each once.
    pub(super) fn without_room(&self) -> Vec<usize> {
        let without = self.0.iter().filter(|mark| mark.id.is_none());
        let mut of: Vec<usize> = without.flat_map(|mark| mark.of.iter().copied()).collect();
        of.sort_unstable();
        of.dedup();
        of
    }
}

/// Each store to a number.
pub(super) fn of_place(place: Located) -> Watch {
    Watch::Write { at: place.at.0, bytes: u64::from(place.bytes) }
}

#[cfg(test)]
mod tests {
    use ktstr_replay::units::KernelVirt;

    use super::*;
    use crate::machine::testing::Stub;

    fn place(at: u64) -> Located {
        Located { at: KernelVirt(at), bytes: 8, signed: false }
    }

    fn mark(at: u64, of: usize) -> Mark {
        Mark::new(place(at), Some(1), vec![of])
    }

    fn ids() -> impl FnMut() -> WatchId {
        let mut ids = 100..;
        move || WatchId(ids.next().unwrap_or_default())
    }

    /// It was left out without a word, and what it would have shown was never looked at.
    #[test]
    fn what_has_no_room_is_told_and_compared_at_each_stop() {
        let mut machine = Stub::with_room(2);
        let mut marks = Marks::default();
        marks.arm(vec![mark(0x10, 0), mark(0x20, 1), mark(0x30, 1)], &mut machine, ids(), &mut |_| false);
        assert_eq!(machine.armed(), [100, 101]);
        assert_eq!(marks.without_room(), [1]);
        assert_eq!(marks.place_of(WatchId(101)), Some(place(0x20)));
        assert_eq!(marks.moved_with(place(0x30)), [1]);
        assert!(!marks.have_moved(|_| Some(1)));
        assert!(marks.have_moved(|at| Some(if at.at.0 == 0x30 { 2 } else { 1 })), "nothing watches it");
        // Where it has gone there is nothing to be read.
        assert!(marks.have_moved(|at| (at.at.0 != 0x30).then_some(1)));
        marks.take_away(&mut machine);
        assert!(machine.armed().is_empty() && marks.is_empty());
    }

    #[test]
    fn room_is_made_by_what_is_less_needed_and_no_more_than_is_needed() {
        let mut machine = Stub::with_room(4);
        let others = [1, 2, 3].map(WatchId);
        for id in others {
            machine.arm(id, of_place(place(8))).expect("there is room");
        }
        let mut less_needed = others.to_vec();
        let mut marks = Marks::default();
        let mut make_room =
            |machine: &mut dyn Machine| less_needed.pop().is_some_and(|id| machine.disarm(id).is_ok());
        marks.arm(vec![mark(0x10, 0), mark(0x20, 0), mark(0x30, 1)], &mut machine, ids(), &mut make_room);
        assert_eq!(machine.armed(), [1, 100, 101, 102]);
        assert!(marks.without_room().is_empty());
    }
}
