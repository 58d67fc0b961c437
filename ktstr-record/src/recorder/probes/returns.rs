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

/// An instruction that recorded calls return to.
#[derive(Debug)]
pub(super) struct ReturnSite {
    pub id: WatchId,
    pub at: KernelVirt,
    pub calls: Vec<Pending>,
}

/// All such instructions.
#[derive(Debug, Default)]
pub(super) struct Returns {
    places: Vec<ReturnSite>,
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
        self.places.push(ReturnSite { id, at, calls: Vec::new() });
    }

    /// Wait for a call to return to `at`. Gives the one that is given up for it, if there are too many.
    pub(super) fn wait(&mut self, at: KernelVirt, call: Pending) -> Option<Pending> {
        let place = self.places.iter_mut().find(|place| place.at == at)?;
        // A stack has one call at a place of it: the one before it will not return any more.
        let is_over =
            |other: &Pending| other.probe == call.probe && other.sp == call.sp && other.task == call.task;
        let oldest = (place.calls.len() >= MOST_CALLS).then_some(0);
        let over = place.calls.iter().position(is_over).or(oldest);
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

    /// The probes whose calls are to return to the place with the breakpoint `id`, each once.
    pub(super) fn probes_at(&self, id: WatchId) -> Vec<usize> {
        let calls = self.places.iter().filter(|place| place.id == id).flat_map(|place| &place.calls);
        let mut probes: Vec<usize> = calls.map(|call| call.probe).collect();
        probes.sort_unstable();
        probes.dedup();
        probes
    }

    /// Forget the place with the breakpoint `id`. The calls that will not be seen to return.
    pub(super) fn take(&mut self, id: WatchId) -> Vec<Pending> {
        let nth = self.places.iter().position(|place| place.id == id);
        nth.map(|nth| self.places.remove(nth).calls).unwrap_or_default()
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
    fn of_many_calls_the_one_that_is_over_is_given_up_and_not_the_oldest() {
        let mut returns = Returns::default();
        returns.add(WatchId(7), AT);
        for number in 0..MOST_CALLS as u32 {
            assert_eq!(returns.wait(AT, call(number, 10, u64::from(number) * 8)), None);
        }
        assert_eq!(returns.wait(AT, call(99, 10, 16)), Some(call(2, 10, 16)));
        assert_eq!(returns.returned(WatchId(7), 10, 16), Some(vec![call(99, 10, 16)]));
    }

    #[test]
    fn a_place_is_taken_away_with_its_calls_alone() {
        let mut returns = Returns::default();
        returns.add(WatchId(7), AT);
        returns.add(WatchId(8), KernelVirt(0x2000));
        let of = |probe, sp| Pending { probe, ..call(1, 10, sp) };
        for pending in [of(3, 0x100), of(1, 0x100), of(3, 0x200)] {
            assert_eq!(returns.wait(AT, pending), None);
        }
        assert_eq!(returns.wait(KernelVirt(0x2000), of(2, 0x100)), None);
        assert_eq!((returns.probes_at(WatchId(7)), returns.probes_at(WatchId(9))), (vec![1, 3], vec![]));
        assert_eq!(returns.take(WatchId(7)), [of(3, 0x100), of(1, 0x100), of(3, 0x200)]);
        assert_eq!((returns.take(WatchId(7)), returns.needs(AT)), (vec![], Wait::New));
        assert_eq!(returns.probes_at(WatchId(8)), [2]);
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
