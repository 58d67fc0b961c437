//! How a worker counts its turns.

use std::sync::atomic::Ordering::Relaxed;

use rustix::thread::sched_getcpu;

use super::shared::{Header, MAX_CPUS, SlotState, WorkerSlot, monotonic_ns, process_cpu_ns};

/// A worker's counters. Every turn is written to the shared slot at once, so that the numbers of a worker that
/// is killed are there up to its last turn.
#[derive(Debug)]
pub struct Meter<'a> {
    header: &'a Header,
    slot: &'a WorkerSlot,
    started_ns: u64,
    last_turn_ns: u64,
    last_cpu: usize,
    cpu_start_ns: u64,
    work_units: u64,
    iterations: u64,
    max_gap_ns: u64,
    migrations: u64,
}

impl<'a> Meter<'a> {
    /// Sleep until the common start, then begin to count.
    ///
    /// The first turn's gap is counted from the common start, so that it shows when a worker is not scheduled at first.
    pub fn begin(header: &'a Header, slot: &'a WorkerSlot) -> Self {
        let started_ns = header.wait_for_start();
        let cpu_start_ns = process_cpu_ns();
        slot.set_state(SlotState::Running);
        let last_cpu = sched_getcpu();
        let meter = Self {
            header,
            slot,
            started_ns,
            last_turn_ns: started_ns,
            last_cpu,
            cpu_start_ns,
            work_units: 0,
            iterations: 0,
            max_gap_ns: 0,
            migrations: 0,
        };
        meter.note_cpu(last_cpu);
        meter
    }

    /// Count a turn of the loop that did `units` of work. Returns whether to go on.
    pub fn turn(&mut self, units: u64) -> bool {
        self.iterations += 1;
        self.work_units += units;
        self.slot.iterations.store(self.iterations, Relaxed);
        self.slot.work_units.store(self.work_units, Relaxed);
        let cpu = sched_getcpu();
        if cpu != self.last_cpu {
            self.last_cpu = cpu;
            self.migrations += 1;
            self.slot.migrations.store(self.migrations, Relaxed);
            self.note_cpu(cpu);
        }
        self.note_time();
        !self.stopping()
    }

    /// Whether the worker is to end.
    pub fn stopping(&self) -> bool {
        self.header.stopping()
    }

    /// Sleep for `ns`, less when the worker is told to end.
    pub fn rest(&self, ns: u64) {
        self.header.rest(ns);
    }

    /// Write the last numbers and how the worker ended.
    pub fn end(mut self, state: SlotState) {
        // CPU time first, so that it is never more than wall time.
        let cpu_ns = process_cpu_ns().saturating_sub(self.cpu_start_ns);
        self.note_time();
        self.slot.cpu_ns.store(cpu_ns, Relaxed);
        self.slot.set_state(state);
    }

    fn note_time(&mut self) {
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
    }

    fn note_cpu(&self, cpu: usize) {
        if let Some(word) = self.slot.cpus.get(cpu / 64).filter(|_| cpu < MAX_CPUS) {
            word.fetch_or(1 << (cpu % 64), Relaxed);
        }
    }
}
