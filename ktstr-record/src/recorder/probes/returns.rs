//! Calls whose return is waited for: a breakpoint where they return to, for as long as one is to come.

use ktstr_replay::units::KernelVirt;

use crate::machine::WatchId;

/// Most places that are returned to at a time.
const MOST_PLACES: usize = 16;
/// Most calls that are to return to one place.
const MOST_CALLS: usize = 64;

/// A call that is to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    /// Position of the probe.
    pub probe: usize,
    /// The call's number.
    pub number: u32,
    /// The `task_struct` that called; 0 where it is not known.
    pub task: u64,
    /// The stack pointer after the return.
    pub sp: u64,
}

/// A place that calls return to.
#[derive(Debug)]
pub(super) struct Place {
    pub id: WatchId,
    pub at: KernelVirt,
    pub calls: Vec<Pending>,
}

/// All such places.
#[derive(Debug, Default)]
pub(super) struct Returns {
    places: Vec<Place>,
}

/// What is to be done for a call to be seen to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing: its place has a breakpoint.
    Known,
    /// Its place needs one.
    New,
    /// There are too many places.
    NoRoom,
}

impl Returns {
    /// What a call needs that returns to `at`.
    pub(super) fn needs(&self, at: KernelVirt) -> Wait {
        match self.places.iter().any(|place| place.at == at) {
            true => Wait::Known,
            false if self.places.len() < MOST_PLACES => Wait::New,
            false => Wait::NoRoom,
        }
    }

    /// There is a breakpoint at `at`, with this id.
    pub(super) fn add(&mut self, id: WatchId, at: KernelVirt) {
        self.places.push(Place { id, at, calls: Vec::new() });
    }

    /// Wait for a call to return to `at`. Gives the one that is given up for it, if there are too many.
    pub(super) fn wait(&mut self, at: KernelVirt, call: Pending) -> Option<Pending> {
        let place = self.places.iter_mut().find(|place| place.at == at)?;
        // A stack has one call at a place of it: the one before it will not return any more.
        let is_over = |other: &Pending| {
            other.probe == call.probe && other.sp == call.sp && other.task == call.task
                || place.calls.len() >= MOST_CALLS
        };
        let over = place.calls.iter().position(is_over);
        let lost = over.map(|nth| place.calls.remove(nth));
        place.calls.push(call);
        lost
    }

    /// The calls that have returned: the machine stopped at the breakpoint `id`, with this task and stack pointer. `None`: it is none
    /// of these breakpoints.
    pub(super) fn returned(&mut self, id: WatchId, task: u64, sp: u64) -> Option<Vec<Pending>> {
        let place = self.places.iter_mut().find(|place| place.id == id)?;
        let is_it = |call: &Pending| call.sp == sp && call.task == task;
        let back = place.calls.iter().copied().filter(is_it).collect();
        place.calls.retain(|call| !is_it(call));
        Some(back)
    }

    /// The places that no call returns to any more; they are forgotten.
    pub(super) fn take_done(&mut self) -> Vec<WatchId> {
        let done = self.places.iter().filter(|place| place.calls.is_empty()).map(|place| place.id).collect();
        self.places.retain(|place| !place.calls.is_empty());
        done
    }

    /// Forget all places. Their ids, and the calls that will not be seen to return.
    pub(super) fn take_all(&mut self) -> (Vec<WatchId>, Vec<Pending>) {
        let places = std::mem::take(&mut self.places);
        (
            places.iter().map(|place| place.id).collect(),
            places.into_iter().flat_map(|place| place.calls).collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: KernelVirt = KernelVirt(0x1000);

    fn call(number: u32, task: u64, sp: u64) -> Pending {
        Pending { probe: 0, number, task, sp }
    }

    #[test]
    fn a_call_returns_on_its_own_stack_alone() {
        let mut returns = Returns::default();
        assert_eq!(returns.needs(AT), Wait::New);
        returns.add(WatchId(7), AT);
        assert_eq!(returns.needs(AT), Wait::Known);
        assert_eq!(returns.wait(AT, call(1, 10, 0x100)), None);
        assert_eq!(returns.wait(AT, call(2, 20, 0x200)), None);
        assert_eq!(returns.returned(WatchId(8), 10, 0x100), None);
        assert_eq!(returns.returned(WatchId(7), 10, 0x200), Some(vec![]));
        assert!(returns.take_done().is_empty());
        assert_eq!(returns.returned(WatchId(7), 20, 0x200), Some(vec![call(2, 20, 0x200)]));
        assert_eq!(returns.returned(WatchId(7), 10, 0x100), Some(vec![call(1, 10, 0x100)]));
        assert_eq!(returns.take_done(), [WatchId(7)]);
        assert_eq!(returns.needs(AT), Wait::New);
    }

    #[test]
    fn what_does_not_return_is_given_up() {
        let mut returns = Returns::default();
        returns.add(WatchId(7), AT);
        assert_eq!(returns.wait(AT, call(1, 10, 0x100)), None);
        assert_eq!(returns.wait(AT, call(2, 10, 0x100)), Some(call(1, 10, 0x100)));
        for number in 0..MOST_CALLS as u32 - 1 {
            assert_eq!(returns.wait(AT, call(number, 11, u64::from(number))), None);
        }
        assert_eq!(returns.wait(AT, call(99, 12, 0x100)), Some(call(2, 10, 0x100)));
        for nth in 1..MOST_PLACES as u64 {
            returns.add(WatchId(nth as u32 + 100), KernelVirt(nth));
        }
        assert_eq!(returns.needs(KernelVirt(0x9999)), Wait::NoRoom);
        let (ids, calls) = returns.take_all();
        assert_eq!((ids.len(), calls.len()), (MOST_PLACES, MOST_CALLS));
    }
}
