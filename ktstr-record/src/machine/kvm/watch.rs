//! What is watched, and by which means.
//!
//! ```text
//! Execute   a debug register: at most four
//! Write     a debug register, where a probe showed that it fires; else the page is taken out of the guest's hands:
//!           KVM has it read-only, every store to it comes to us, is carried out here and compared with the watch
//! ```
//!
//! A read-only page costs each store to it an exit, watched or not. It is the physical page that the address had when the watch was
//! armed, atomic instructions on it are two accesses, and KVM itself cannot write to it (the clock page of kvmclock, a
//! ring of asynchronous faults).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::vcpu::Debugging;
use crate::machine::error::MachineError;
use crate::machine::interface::WatchId;
use crate::machine::ram::PAGE_BYTES;

/// Debug registers for breakpoints that a CPU has.
pub(super) const REGISTERS: usize = 4;
/// In DR7: the breakpoints' exact detection, and the bit that always reads as one.
const DR7_BASE: u64 = 0x0700;

/// What is watched.
#[derive(Debug, Default)]
pub(super) struct Watches {
    /// By the register that has it.
    registers: [Option<Armed>; REGISTERS],
    /// Ranges of guest-physical memory that are watched by read-only pages.
    ranges: BTreeMap<WatchId, Vec<Range<u64>>>,
}

/// A watch in a debug register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Armed {
    id: WatchId,
    at: u64,
    kind: Kind,
}

/// What a debug register stops at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The execution of the instruction there.
    Execute,
    /// Stores to this many bytes there: 1, 2, 4 or 8, and aligned to that.
    Write(u64),
}

impl Watches {
    /// Whether `id` is armed.
    pub(super) fn has(&self, id: WatchId) -> bool {
        self.ranges.contains_key(&id) || self.registers.iter().flatten().any(|armed| armed.id == id)
    }

    /// How many are armed.
    pub(super) fn count(&self) -> usize {
        self.ranges.len() + self.registers.iter().flatten().count()
    }

    /// Take a debug register for `id`.
    ///
    /// # Errors
    /// [`MachineError::Unsupported`] when all are taken.
    pub(super) fn take_register(&mut self, id: WatchId, at: u64, kind: Kind) -> Result<(), MachineError> {
        let Some(free) = self.registers.iter_mut().find(|register| register.is_none()) else {
            let what = format!("have more than {REGISTERS} watches in debug registers");
            return Err(MachineError::Unsupported { what });
        };
        *free = Some(Armed { id, at, kind });
        Ok(())
    }

    /// Watch these ranges of guest-physical memory for `id`.
    pub(super) fn take_ranges(&mut self, id: WatchId, ranges: Vec<Range<u64>>) {
        self.ranges.insert(id, ranges);
    }

    /// Watch nothing for `id`.
    pub(super) fn remove(&mut self, id: WatchId) {
        self.ranges.remove(&id);
        for register in &mut self.registers {
            *register = register.filter(|armed| armed.id != id);
        }
    }

    /// The pages that the guest must not write to by itself.
    pub(super) fn read_only(&self) -> BTreeSet<u64> {
        let ranges = self.ranges.values().flatten();
        ranges.flat_map(|range| range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES)).collect()
    }

    /// Whether `page` is one of them.
    pub(super) fn is_read_only(&self, page: u64) -> bool {
        let (start, end) = (page * PAGE_BYTES, (page + 1).saturating_mul(PAGE_BYTES));
        self.ranges.values().flatten().any(|range| range.start < end && start < range.end)
    }

    /// The watch that a store of `len` bytes at `at` fires.
    pub(super) fn stored(&self, at: u64, len: u64) -> Option<WatchId> {
        let hit = |range: &Range<u64>| range.start < at.saturating_add(len) && at < range.end;
        self.ranges.iter().find(|(_, ranges)| ranges.iter().any(hit)).map(|(id, _)| *id)
    }

    /// The watch of a debug exit at `pc` with these bits of DR6. A store comes first: it is over, while the breakpoint at the
    /// instruction that follows fires again.
    pub(super) fn at_breakpoint(&self, pc: u64, fired: u64) -> Option<WatchId> {
        let here = |armed: &Armed| armed.kind == Kind::Execute && armed.at == pc;
        self.by_store(fired).or_else(|| self.fired(fired, here))
    }

    /// The watch for stores of a debug exit with these bits of DR6.
    pub(super) fn by_store(&self, fired: u64) -> Option<WatchId> {
        self.fired(fired, |armed| armed.kind != Kind::Execute)
    }

    fn fired(&self, bits: u64, counts: impl Fn(&Armed) -> bool) -> Option<WatchId> {
        let mut registers = self.registers.iter().enumerate();
        registers.find_map(|(number, armed)| {
            let armed = (*armed)?;
            (bits >> number & 1 == 1 && counts(&armed)).then_some(armed.id)
        })
    }

    /// Whether there is a breakpoint at `pc`.
    pub(super) fn stops_at(&self, pc: u64) -> bool {
        self.registers.iter().flatten().any(|armed| armed.kind == Kind::Execute && armed.at == pc)
    }

    /// Whether `id` is a breakpoint at `pc`. What fires for a store stands where a breakpoint may be that has not fired yet.
    pub(super) fn is_breakpoint(&self, id: WatchId, pc: u64) -> bool {
        let mut armed = self.registers.iter().flatten();
        armed.any(|armed| armed.id == id && armed.kind == Kind::Execute && armed.at == pc)
    }

    /// The debug registers (Intel SDM 3B, 18.2.4).
    pub(super) fn debugging(&self) -> Debugging {
        self.encode(|_| true)
    }

    /// The same for a single step over a breakpoint: without breakpoints, but with what the instruction may store to.
    pub(super) fn stepping(&self) -> Debugging {
        Debugging { step: true, ..self.encode(|armed| armed.kind != Kind::Execute) }
    }

    fn encode(&self, counts: impl Fn(&Armed) -> bool) -> Debugging {
        let mut debugging = Debugging::default();
        for (number, armed) in self.registers.iter().enumerate() {
            let Some(armed) = armed.as_ref().filter(|armed| counts(armed)) else { continue };
            let (condition, length) = match armed.kind {
                Kind::Execute => (0, 0),
                Kind::Write(1) => (1, 0),
                Kind::Write(2) => (1, 1),
                Kind::Write(8) => (1, 2),
                Kind::Write(_) => (1, 3),
            };
            debugging.at[number] = armed.at;
            debugging.dr7 |= DR7_BASE | 2 << (number * 2) | (condition | length << 2) << (16 + number * 4);
        }
        debugging
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Watches};
    use crate::machine::interface::WatchId;

    #[test]
    fn registers_are_encoded_as_the_cpu_reads_them() {
        let mut watches = Watches::default();
        assert_eq!(watches.debugging().dr7, 0);
        watches.take_register(WatchId(1), 0x1000, Kind::Execute).unwrap();
        assert_eq!(watches.debugging().dr7, 0x702);
        watches.take_register(WatchId(2), 0x2000, Kind::Write(8)).unwrap();
        assert_eq!(watches.debugging().dr7, 0x90_070a);
        watches.take_register(WatchId(3), 0x3000, Kind::Write(4)).unwrap();
        watches.take_register(WatchId(4), 0x4000, Kind::Write(1)).unwrap();
        assert_eq!(watches.debugging().at, [0x1000, 0x2000, 0x3000, 0x4000]);
        assert_eq!(watches.debugging().dr7, 0x1d90_07aa);
        let full = watches.take_register(WatchId(5), 0, Kind::Execute).unwrap_err().to_string();
        assert!(full.contains("more than 4 watches"), "{full}");
        watches.remove(WatchId(2));
        assert_eq!((watches.count(), watches.has(WatchId(2)), watches.has(WatchId(3))), (3, false, true));
    }

    #[test]
    fn a_debug_exit_is_of_the_watch_whose_bit_is_set() {
        let mut watches = Watches::default();
        watches.take_register(WatchId(1), 0x1000, Kind::Execute).unwrap();
        watches.take_register(WatchId(2), 0x2000, Kind::Write(8)).unwrap();
        assert_eq!(watches.at_breakpoint(0x1000, 1), Some(WatchId(1)));
        assert_eq!(watches.at_breakpoint(0x1001, 1), None);
        assert_eq!(watches.at_breakpoint(0x7777, 2), Some(WatchId(2)));
        assert_eq!(watches.at_breakpoint(0x1000, 0), None);
        assert!(watches.stops_at(0x1000) && !watches.stops_at(0x2000));
    }

    #[test]
    fn a_store_right_before_a_breakpoint_does_not_hide_it() {
        let mut watches = Watches::default();
        watches.take_register(WatchId(1), 0x1000, Kind::Execute).unwrap();
        watches.take_register(WatchId(2), 0x2000, Kind::Write(8)).unwrap();
        watches.take_ranges(WatchId(3), std::iter::once(0x5000..0x5008).collect());
        assert_eq!(
            watches.at_breakpoint(0x1000, 3),
            Some(WatchId(2)),
            "the breakpoint comes again, the store not"
        );
        assert!(watches.is_breakpoint(WatchId(1), 0x1000));
        assert!(!watches.is_breakpoint(WatchId(1), 0x1001));
        for store in [WatchId(2), WatchId(3)] {
            assert!(!watches.is_breakpoint(store, 0x1000), "the breakpoint would be stepped over unreported");
        }
        // A step over the breakpoint still sees what its instruction stores.
        let step = watches.stepping();
        assert_eq!((step.step, step.dr7, step.at[1]), (true, 0x90_0708, 0x2000));
        assert_eq!((watches.by_store(3), watches.by_store(1)), (Some(WatchId(2)), None));
    }

    #[test]
    fn a_store_fires_the_watch_that_it_touches() {
        let mut watches = Watches::default();
        watches.take_ranges(WatchId(7), vec![0x1ff8..0x2000, 0x5000..0x5010]);
        assert_eq!(watches.read_only().into_iter().collect::<Vec<_>>(), [1, 5]);
        assert!(watches.is_read_only(1) && !watches.is_read_only(2));
        for (at, len, fires) in
            [(0x1ff0, 8, false), (0x1ff1, 8, true), (0x1fff, 1, true), (0x5000, 4, true), (0x5010, 8, false)]
        {
            assert_eq!(watches.stored(at, len).is_some(), fires, "{len} bytes at {at:#x}");
        }
    }
}
