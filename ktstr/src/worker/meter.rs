//! How a worker counts its turns.

use std::sync::atomic::Ordering::Relaxed;

use rustix::fs::{Mode, OFlags, open};
use rustix::io;
use rustix::thread::sched_getcpu;

use super::clock::{monotonic_ns, thread_cpu_ns};
use super::latency::Random;
use super::shared::Header;
use super::slot::{MAX_CPUS, SlotState, WorkerSlot};
use super::sys::{self, Usage};

/// Time between two looks at the thread's CPU clock, which takes a system call: its turns may be much shorter.
const LOOK_NS: u64 = 1_000_000;

/// A worker's counters. Every turn is written to the shared slot at once, so that the numbers of a worker that
/// is killed are there up to its last turn.
#[derive(Debug)]
pub struct Meter<'a> {
    slot: &'a WorkerSlot,
    started_ns: u64,
    last_turn_ns: u64,
    last_cpu: usize,
    cpu_start_ns: u64,
    /// The last look at both clocks: `CLOCK_MONOTONIC`, CPU time.
    look: (u64, u64),
    max_off_cpu_ns: u64,
    work_units: u64,
    iterations: u64,
    max_gap_ns: u64,
    migrations: u64,
    last_node: u32,
    cross_node_migrations: u64,
    usage: Usage,
    /// For the samples of latencies, and for work that wants chance.
    pub random: Random,
}

impl<'a> Meter<'a> {
    /// Sleep until the common start, then begin to count.
    ///
    /// The first turn's gap is counted from the common start, so that it shows when a worker is not scheduled at first.
    pub fn begin(header: &Header, slot: &'a WorkerSlot, seed: u64) -> Self {
        let started_ns = header.wait_for_start();
        let cpu_start_ns = thread_cpu_ns();
        slot.set_state(SlotState::Running);
        let last_cpu = sched_getcpu();
        let meter = Self {
            slot,
            started_ns,
            last_turn_ns: started_ns,
            last_cpu,
            cpu_start_ns,
            look: (started_ns, cpu_start_ns),
            max_off_cpu_ns: 0,
            work_units: 0,
            iterations: 0,
            max_gap_ns: 0,
            migrations: 0,
            last_node: sys::node(),
            cross_node_migrations: 0,
            usage: sys::usage(),
            random: Random::new(seed),
        };
        meter.note_cpu(last_cpu);
        meter
    }

    /// Count a turn of the loop that did `units` of work. Returns the time, `CLOCK_MONOTONIC` ns.
    pub fn turn(&mut self, units: u64) -> u64 {
        self.iterations += 1;
        self.work_units += units;
        self.slot.iterations.store(self.iterations, Relaxed);
        self.slot.work_units.store(self.work_units, Relaxed);
        let cpu = sched_getcpu();
        if cpu != self.last_cpu {
            self.last_cpu = cpu;
            self.migrations += 1;
            self.slot.migrations.store(self.migrations, Relaxed);
            self.note_node();
            self.note_cpu(cpu);
        }
        let now_ns = self.note_time();
        if now_ns.saturating_sub(self.look.0) >= LOOK_NS {
            self.look(now_ns, thread_cpu_ns());
        }
        now_ns
    }

    fn note_node(&mut self) {
        let node = sys::node();
        if node != self.last_node {
            self.last_node = node;
            self.cross_node_migrations += 1;
            self.slot.cross_node_migrations.store(self.cross_node_migrations, Relaxed);
        }
    }

    /// Note how long it took from the waker's `stamp_ns` until now.
    pub fn note_wake(&mut self, stamp_ns: u64) {
        self.slot.wakes.note(monotonic_ns().saturating_sub(stamp_ns), &mut self.random);
    }

    /// Note how long after `due_ns`, the time that a timer was set to, it is now.
    pub fn note_timer(&mut self, due_ns: u64) {
        self.slot.timers.note(monotonic_ns().saturating_sub(due_ns), &mut self.random);
    }

    /// Write the last numbers and how the worker ended.
    pub fn end(mut self, state: SlotState) {
        // CPU time first, so that it is never more than wall time.
        let cpu_ns = thread_cpu_ns();
        let now_ns = self.note_time();
        self.look(now_ns, cpu_ns);
        let (first, last) = (self.usage, sys::usage());
        for (counter, last, first) in [
            (&self.slot.minor_faults, last.minor_faults, first.minor_faults),
            (&self.slot.major_faults, last.major_faults, first.major_faults),
            (&self.slot.voluntary_switches, last.voluntary_switches, first.voluntary_switches),
            (&self.slot.involuntary_switches, last.involuntary_switches, first.involuntary_switches),
        ] {
            counter.store(last.saturating_sub(first), Relaxed);
        }
        self.slot.run_delay_ns.store(run_delay_ns().unwrap_or_default(), Relaxed);
        self.slot.set_state(state);
    }

    fn look(&mut self, now_ns: u64, cpu_ns: u64) {
        let (wall, cpu) = (now_ns.saturating_sub(self.look.0), cpu_ns.saturating_sub(self.look.1));
        self.look = (now_ns, cpu_ns);
        self.slot.cpu_ns.store(cpu_ns.saturating_sub(self.cpu_start_ns), Relaxed);
        self.max_off_cpu_ns = self.max_off_cpu_ns.max(wall.saturating_sub(cpu));
        self.slot.max_off_cpu_ns.store(self.max_off_cpu_ns, Relaxed);
    }

    fn note_time(&mut self) -> u64 {
        let now_ns = monotonic_ns();
        let gap_ns = now_ns.saturating_sub(self.last_turn_ns);
        let wall_ns = now_ns.saturating_sub(self.started_ns);
        self.last_turn_ns = now_ns;
        self.slot.wall_ns.store(wall_ns, Relaxed);
        if gap_ns > self.max_gap_ns {
            self.max_gap_ns = gap_ns;
            self.slot.max_gap_ns.store(gap_ns, Relaxed);
            self.slot.max_gap_at_ns.store(wall_ns, Relaxed);
        }
        now_ns
    }

    fn note_cpu(&self, cpu: usize) {
        if let Some(word) = self.slot.cpus.get(cpu / 64).filter(|_| cpu < MAX_CPUS) {
            word.fetch_or(1 << (cpu % 64), Relaxed);
        }
    }
}

/// The calling thread's run delay, ns: the second number of its schedstat. A thread's file is gone when the thread is.
fn run_delay_ns() -> Option<u64> {
    let file = open(c"/proc/thread-self/schedstat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0_u8; 96];
    let length = io::read(&file, &mut text).ok()?;
    let text = str::from_utf8(text.get(..length)?).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}
