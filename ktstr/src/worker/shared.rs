//! What workers share with the test: memory with a header and a slot for each worker, and the clocks.

use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::io;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::thread::futex;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// CPUs that a slot can note.
pub const MAX_CPUS: usize = 1024;

/// What all workers look at.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub struct Header {
    /// 1 once the workers may begin; they sleep on it.
    go: AtomicU32,
    /// 1 once the workers are to end; resting workers sleep on it.
    stop: AtomicU32,
    /// The common start, `CLOCK_MONOTONIC` ns; written before `go`.
    started_ns: AtomicU64,
}

/// What one worker says. Written by that worker alone, read by the test at the end.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct WorkerSlot {
    /// A [`SlotState`].
    pub state: AtomicU32,
    /// errno of a failed system call, for [`SlotState::Failed`].
    pub errno: AtomicU32,
    /// Units of work.
    pub work_units: AtomicU64,
    /// Turns of the outer loop.
    pub iterations: AtomicU64,
    /// CPU time, ns; valid once the state is not [`SlotState::Waiting`] or [`SlotState::Running`].
    pub cpu_ns: AtomicU64,
    /// From the common start to the last turn, ns.
    pub wall_ns: AtomicU64,
    /// Longest time between two turns, ns.
    pub max_gap_ns: AtomicU64,
    /// When that ended, ns since the common start.
    pub max_gap_at_ns: AtomicU64,
    /// Times it was seen on another CPU than before.
    pub migrations: AtomicU64,
    /// A bit for each CPU it was seen on.
    pub cpus: [AtomicU64; MAX_CPUS / 64],
}

/// How far a worker got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SlotState {
    /// It waits for the common start.
    Waiting = 0,
    /// It works.
    Running = 1,
    /// It ended because it was told to.
    Done = 2,
    /// A worker that it works with ended before it was told to.
    PeerGone = 3,
    /// A system call failed.
    Failed = 4,
}

/// The mapping: one header and `slots` slots, shared with every process forked after it was made.
#[derive(Debug)]
pub struct SharedMemory {
    base: NonNull<Header>,
    slots: usize,
}

// SAFETY: the mapping holds nothing but atomics, and lives as long as `SharedMemory` does.
unsafe impl Send for SharedMemory {}
// SAFETY: as above: shared references only reach atomics.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Map room for `slots` workers.
    ///
    /// # Errors
    /// The kernel's, when memory cannot be mapped.
    pub fn new(slots: usize) -> io::Result<Self> {
        let bytes = Self::bytes(slots).ok_or(io::Errno::NOMEM)?;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), bytes, protection, flags) }?;
        let base = NonNull::new(base.cast()).ok_or(io::Errno::NOMEM)?;
        Ok(Self { base, slots })
    }

    /// Every worker's slot, in the order of their numbers.
    pub fn slots(&self) -> &[WorkerSlot] {
        // SAFETY: `new` mapped room for the slots right behind the header; pages are aligned better than both.
        let first = unsafe { self.base.add(1) }.cast::<WorkerSlot>();
        // SAFETY: `slots` of them are mapped until `self` is dropped, zeroed bytes are valid atomics, and nobody
        // has a `&mut` to them.
        unsafe { slice::from_raw_parts(first.as_ptr(), self.slots) }
    }

    fn bytes(slots: usize) -> Option<usize> {
        slots.checked_mul(size_of::<WorkerSlot>())?.checked_add(size_of::<Header>())
    }
}

impl Deref for SharedMemory {
    type Target = Header;

    fn deref(&self) -> &Header {
        // SAFETY: `new` mapped a header at `base` that stays until `self` is dropped; it is only atomics.
        unsafe { self.base.as_ref() }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        let bytes = Self::bytes(self.slots).unwrap_or_default();
        // SAFETY: this mapping of that size was made by `new` and no reference outlives `self`.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), bytes) };
        debug_assert!(unmapped.is_ok(), "unmapping a mapping of ours: {unmapped:?}");
    }
}

impl Header {
    /// Let all workers begin.
    pub fn start(&self) {
        self.started_ns.store(monotonic_ns(), Ordering::Relaxed);
        raise(&self.go);
    }

    /// Tell all workers to end.
    pub fn stop(&self) {
        raise(&self.stop);
    }

    /// Sleep until the common start; returns its time in ns.
    pub fn wait_for_start(&self) -> u64 {
        while self.go.load(Ordering::Acquire) == 0 {
            // Woken, interrupted or too late to sleep: the flag decides.
            let _ = futex::wait(&self.go, futex::Flags::empty(), 0, None);
        }
        self.started_ns.load(Ordering::Relaxed)
    }

    /// Whether the workers are to end.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire) != 0
    }

    /// Sleep for `ns`, less when the workers are told to end.
    pub fn rest(&self, ns: u64) {
        // Woken, timed out or interrupted: all end the rest.
        let _ = futex::wait(&self.stop, futex::Flags::empty(), 0, Some(&timespec(ns)));
    }

    /// The common start, `CLOCK_MONOTONIC` ns; 0 before it.
    pub fn started_ns(&self) -> u64 {
        self.started_ns.load(Ordering::Relaxed)
    }
}

fn raise(flag: &AtomicU32) {
    flag.store(1, Ordering::Release);
    // Fails only for an address that is not mapped; having no waiter is not an error.
    let _ = futex::wake(flag, futex::Flags::empty(), i32::MAX.cast_unsigned());
}

impl WorkerSlot {
    /// How far the worker got.
    pub fn state(&self) -> SlotState {
        match self.state.load(Ordering::Acquire) {
            1 => SlotState::Running,
            2 => SlotState::Done,
            3 => SlotState::PeerGone,
            4 => SlotState::Failed,
            _ => SlotState::Waiting,
        }
    }

    /// Say how far the worker got.
    pub fn set_state(&self, state: SlotState) {
        self.state.store(state as u32, Ordering::Release);
    }

    /// CPUs that the worker was seen on, ascending.
    pub fn cpus_used(&self) -> Vec<u32> {
        let seen = |cpu: &u32| {
            let word = self.cpus.get(*cpu as usize / 64).map_or(0, |word| word.load(Ordering::Relaxed));
            word >> (cpu % 64) & 1 == 1
        };
        (0..MAX_CPUS as u32).filter(seen).collect()
    }
}

/// `CLOCK_MONOTONIC`, in ns.
pub fn monotonic_ns() -> u64 {
    to_ns(clock_gettime(ClockId::Monotonic))
}

/// CPU time of the calling process, in ns.
pub fn process_cpu_ns() -> u64 {
    to_ns(clock_gettime(ClockId::ProcessCPUTime))
}

/// A duration for system calls.
pub fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / 1_000_000_000).cast_signed(), tv_nsec: (ns % 1_000_000_000).cast_signed() }
}

fn to_ns(time: Timespec) -> u64 {
    time.tv_sec.cast_unsigned().saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timespecs_hold_ns_exactly() {
        let time = timespec(3_000_000_007);
        assert_eq!((time.tv_sec, time.tv_nsec, to_ns(time)), (3, 7, 3_000_000_007));
    }
}
