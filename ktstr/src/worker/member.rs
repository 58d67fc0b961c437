//! A worker as its own loop sees it: what it counts, where it stands in its gang, and how it sleeps and wakes others.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ktstr_replay::units::nanos;
use rustix::io::Errno;
use rustix::thread::futex;

use super::clock::{monotonic_ns, timespec};
use super::latency::Random;
use super::links::Links;
use super::meter::Meter;
use super::shared::Header;
use super::slot::{MAX_NODES, Mailbox, WorkerSlot};
use super::sys;

/// How long a worker sleeps on a word before it looks whether it is to end, or its gang has lost a member.
const LOOK: Duration = Duration::from_millis(100);
/// Pages whose node is asked for at once.
const PAGES: usize = 128;
/// x86-64's.
pub const PAGE: usize = 4096;

/// How a worker's loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Told,
    /// A worker that it works with has gone.
    PeerGone,
    /// A system call failed.
    Failed(Errno),
    /// The author's loop panicked.
    Panicked,
}

/// A worker, as its own loop sees it: see [`Custom`](super::kinds::Custom).
///
/// ```
/// use ktstr::prelude::*;
/// use std::time::Duration;
///
/// /// Every second worker computes; the others sleep for 1 ms, and note by how much that was too long as if they had been woken.
/// fn odd(worker: &mut Worker<'_>) -> std::io::Result<()> {
///     while worker.turn(worker.group_size() as u64) {
///         if worker.index() % 2 == 1 {
///             worker.compute(Duration::from_millis(2));
///             continue;
///         }
///         let due_ns = worker.now_ns() + 1_000_000;
///         while worker.now_ns() < due_ns && !worker.stopping() {
///             std::thread::yield_now();
///         }
///         worker.note_wake(due_ns);
///         worker.note_timer(due_ns);
///     }
///     Ok(())
/// }
///
/// let def = CgroupDef::named("cg_0").workers(4).work_type(Custom(odd));
/// # let _ = def;
/// ```
#[derive(Debug)]
pub struct Worker<'a> {
    pub(super) header: &'a Header,
    pub(super) meter: Meter<'a>,
    /// The slots of its gang, which are next to each other.
    pub(super) gang: &'a [WorkerSlot],
    /// Its number among them.
    pub(super) member: usize,
    /// Its number in its group.
    pub(super) index: usize,
    /// Workers of its group.
    pub(super) count: usize,
    /// Its ends of the gang's pipes.
    pub(super) links: Option<&'a Links>,
    /// The gang's events.
    pub(super) events: &'a [OwnedFd],
    /// Where the cgroup hierarchy is mounted.
    pub(super) cgroup_mount: Option<&'a CStr>,
    /// When the work that it does now is to end, `CLOCK_MONOTONIC` ns.
    pub(super) until_ns: u64,
}

impl<'a> Worker<'a> {
    /// Count a turn of the loop that did `units` of work. Returns whether to go on.
    ///
    /// The longest time between two turns is the report's `max_gap_ns`.
    pub fn turn(&mut self, units: u64) -> bool {
        let now_ns = self.meter.turn(units);
        !self.header.stopping() && now_ns < self.until_ns
    }

    /// Whether the worker is to end.
    pub fn stopping(&self) -> bool {
        self.header.stopping() || (self.until_ns != u64::MAX && monotonic_ns() >= self.until_ns)
    }

    /// Sleep for so long, less when the worker is told to end. By how much it was too long is noted as a timer latency.
    pub fn rest(&mut self, duration: Duration) {
        let due_ns = monotonic_ns().saturating_add(nanos(duration)).min(self.until_ns);
        if self.header.rest_until(due_ns) {
            self.meter.note_timer(due_ns);
        }
    }

    /// Compute for so long, by the wall clock. Returns the units done, of 1024 rounds of arithmetic.
    pub fn compute(&self, duration: Duration) -> u64 {
        let until_ns = monotonic_ns().saturating_add(nanos(duration));
        let mut units = 0;
        while monotonic_ns() < until_ns {
            burn(1024);
            units += 1;
        }
        units
    }

    /// The time, `CLOCK_MONOTONIC` ns, in which the noted latencies are.
    pub fn now_ns(&self) -> u64 {
        monotonic_ns()
    }

    /// Note a wake latency: somebody woke this worker at `stamp_ns`, and it runs now.
    pub fn note_wake(&mut self, stamp_ns: u64) {
        self.meter.note_wake(stamp_ns);
    }

    /// Note a timer latency: a timer was set to `due_ns`, and the worker runs now.
    pub fn note_timer(&mut self, due_ns: u64) {
        self.meter.note_timer(due_ns);
    }

    /// Its number in its group, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Workers of its group.
    pub fn group_size(&self) -> usize {
        self.count
    }

    pub(super) fn random(&mut self) -> &mut Random {
        &mut self.meter.random
    }

    /// Workers of its gang.
    pub(super) fn gang_size(&self) -> usize {
        self.gang.len()
    }

    /// The mailbox of a member of its gang, by number, from the first after the last.
    pub(super) fn mailbox(&self, member: usize) -> Result<&'a Mailbox, Ended> {
        let slot = self.gang.get(member % self.gang.len().max(1));
        slot.map(|slot| &slot.mailbox).ok_or(Ended::PeerGone)
    }

    /// What the whole gang shares.
    pub(super) fn board(&self) -> Result<&'a Mailbox, Ended> {
        self.gang.first().map(|slot| &slot.board).ok_or(Ended::PeerGone)
    }

    /// Whether a member of the gang has died.
    pub(super) fn lost_peer(&self) -> bool {
        self.gang.iter().any(WorkerSlot::has_died)
    }

    /// Sleep while `word` holds `value`.
    ///
    /// # Errors
    /// Told to end, or a member of the gang was lost.
    pub(super) fn sleep_on(&self, word: &AtomicU32, value: u32) -> Result<(), Ended> {
        let look = timespec(nanos(LOOK));
        while word.load(Ordering::Acquire) == value {
            if self.stopping() {
                return Err(Ended::Told);
            }
            match futex::wait(word, futex::Flags::empty(), value, Some(&look)) {
                // A member that was told to end may be gone before this worker has seen the flag.
                Err(Errno::TIMEDOUT) if self.lost_peer() && !self.stopping() => return Err(Ended::PeerGone),
                // Woken, timed out, interrupted or too late to sleep: the word decides.
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Note the NUMA nodes of the pages of its work's memory, in place of those noted before.
    pub(super) fn note_pages(&self, memory: &[u8]) {
        let Some(slot) = self.gang.get(self.member) else {
            return;
        };
        let mut counts = [0_u64; MAX_NODES];
        for chunk in memory.chunks(PAGES * PAGE) {
            let mut pages = [chunk.as_ptr(); PAGES];
            let mut count = 0;
            for (page, part) in pages.iter_mut().zip(chunk.chunks(PAGE)) {
                *page = part.as_ptr();
                count += 1;
            }
            let Ok(nodes) = sys::nodes_of(&pages, count) else {
                return;
            };
            for node in nodes.into_iter().take(count).filter_map(|node| usize::try_from(node).ok()) {
                if let Some(count) = counts.get_mut(node) {
                    *count += 1;
                }
            }
        }
        for (pages, count) in slot.node_pages.iter().zip(counts) {
            pages.store(count, Ordering::Relaxed);
        }
    }
}

/// Wake at most so many workers that sleep on the word.
pub fn wake(word: &AtomicU32, workers: u32) {
    // Fails only for an address that is not mapped; having no waiter is not an error.
    let _ = futex::wake(word, futex::Flags::empty(), workers);
}

/// Burn CPU for so many rounds of arithmetic (an LCG), a few ns each.
///
/// Not `spin_loop`: an emulator leaves its translated code at every PAUSE.
pub fn burn(rounds: u32) {
    let mut value = 1_u64;
    for _ in 0..rounds {
        value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    std::hint::black_box(value);
}
