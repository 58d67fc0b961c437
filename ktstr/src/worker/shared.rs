//! What workers share with the test: memory with a header and a slot for each worker.

use std::num::NonZeroU32;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::io::{self, Errno};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::thread::futex;

use super::clock::timespec;
use super::slot::WorkerSlot;

/// What all workers look at.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub struct Header {
    /// 1 once the workers are to apply their settings; they sleep on it.
    configure: AtomicU32,
    /// Workers that are to do so; written before `configure`.
    workers: AtomicU32,
    /// Workers that have applied theirs, or were refused one.
    configured: AtomicU32,
    /// 1 once the workers may begin; they sleep on it.
    go: AtomicU32,
    /// 1 once the workers are to end; resting workers sleep on it.
    stop: AtomicU32,
    /// The common start, `CLOCK_MONOTONIC` ns; written before `go`.
    started_ns: AtomicU64,
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
        let bytes = Self::bytes(slots).ok_or(Errno::NOMEM)?;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), bytes, protection, flags) }?;
        let base = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
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
    /// Tell all workers, so many, to apply their settings.
    pub fn configure(&self, workers: usize) {
        self.workers.store(u32::try_from(workers).unwrap_or(u32::MAX), Ordering::Relaxed);
        raise(&self.configure);
    }

    /// Sleep until the worker is to apply its settings.
    pub fn wait_to_configure(&self) {
        sleep_while_zero(&self.configure);
    }

    /// Say that a worker's settings are applied, or that one was refused; its slot says which.
    pub fn acknowledge(&self) {
        let before = self.configured.fetch_add(1, Ordering::AcqRel);
        // The test is woken once. What a worker was refused before it was told to begin is told with the others.
        if before + 1 == self.workers.load(Ordering::Acquire) {
            let _ = futex::wake(&self.configured, futex::Flags::empty(), i32::MAX.cast_unsigned());
        }
    }

    /// Sleep for at most `ns` while fewer than `workers` have acknowledged. Returns whether all have.
    pub fn wait_for_acknowledged(&self, workers: usize, ns: u64) -> bool {
        let seen = self.configured.load(Ordering::Acquire);
        if seen as usize >= workers {
            return true;
        }
        // Woken, timed out or interrupted: the counter decides.
        let _ = futex::wait(&self.configured, futex::Flags::empty(), seen, Some(&timespec(ns)));
        self.configured.load(Ordering::Acquire) as usize >= workers
    }

    /// Let all workers begin, at `now_ns` as they count it.
    pub fn start(&self, now_ns: u64) {
        self.started_ns.store(now_ns, Ordering::Relaxed);
        raise(&self.go);
    }

    /// Tell all workers to end.
    pub fn stop(&self) {
        raise(&self.stop);
    }

    /// Sleep until the common start; returns its time in ns.
    pub fn wait_for_start(&self) -> u64 {
        sleep_while_zero(&self.go);
        self.started_ns.load(Ordering::Relaxed)
    }

    /// Whether the workers are to end.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire) != 0
    }

    /// Sleep until `until_ns` of `CLOCK_MONOTONIC`, less when the workers are told to end. Returns whether it was the time
    /// that ended the sleep.
    pub fn rest_until(&self, until_ns: u64) -> bool {
        while !self.stopping() {
            let until = timespec(until_ns);
            match futex::wait_bitset(&self.stop, futex::Flags::empty(), 0, Some(&until), NonZeroU32::MAX) {
                Err(Errno::TIMEDOUT) => return true,
                // Woken, interrupted or too late to sleep: the flag decides.
                Ok(()) | Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => return false,
            }
        }
        false
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

fn sleep_while_zero(flag: &AtomicU32) {
    while flag.load(Ordering::Acquire) == 0 {
        // Woken, interrupted or too late to sleep: the flag decides.
        let _ = futex::wait(flag, futex::Flags::empty(), 0, None);
    }
}
