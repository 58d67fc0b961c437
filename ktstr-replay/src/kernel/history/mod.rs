//! The history: what each CPU did of late, out of the ring buffers of the kernel's tracepoints in guest memory.
//!
//! Nobody in the guest reads them: init has the kernel note context switches, wakeups, migrations and events of sched_ext in a trace
//! instance of its own, and their pages are read out of memory. [`HistoryReader::take`] copies what is new while the guest is
//! stopped, [`HistoryReader::decode`] makes [`Noted`] of it afterwards, and [`pack`] the records of a trace.
//!
//! ```text
//! ftrace_trace_arrays -> trace_array "ktstr" -> trace_buffer -> ring_buffer_per_cpu -> buffer_page -> buffer_data_page
//!    formats: event_sched_switch (trace_event_call) has the id, BTF's trace_event_raw_sched_switch the fields
//! ```
//!
//! Its clock is `mono`, the guest's `CLOCK_MONOTONIC`, so that no time is translated; another clock is refused by its name.

mod formats;
mod pack;
mod page;
mod ring;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::kernel::{Gaps, KernelError, KernelView};
use crate::trace::record::HistoryTask;
use crate::units::{Cpu, GuestNs, GuestPhys};

use formats::Formats;
pub use pack::pack;
pub(crate) use pack::place;
use ring::{Position, Room, UndecodedCpu};

/// Name of the trace instance that is read: init makes it.
pub const INSTANCE: &str = "ktstr";

/// Something that a CPU noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// When, guest `CLOCK_MONOTONIC`.
    pub at: GuestNs,
    /// What.
    pub what: NotedWhat,
}

/// What a CPU noted; see [`HistoryWhat`](crate::trace::record::HistoryWhat).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the record has the same fields, and says what they are")]
pub enum NotedWhat {
    /// It runs another task.
    Switch { prev: HistoryTask, state: u32, next: HistoryTask },
    /// A task was woken.
    Wakeup { task: HistoryTask, by: u32, to: Cpu, is_new: bool },
    /// A task goes to another CPU.
    Migrate { task: HistoryTask, by: u32, from: Cpu, to: Cpu },
    /// sched_ext counted one of its events.
    SchedExt { name: String, by: u32, count: i64 },
}

/// What is new on one CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuNews {
    /// The CPU.
    pub cpu: Cpu,
    /// How much was overwritten since it was read before, and so was never read.
    pub overwritten: u64,
    /// What is new, in order.
    pub noted: Vec<Noted>,
}

/// Copies of what is new, not decoded yet.
#[derive(Debug, Default)]
pub struct Undecoded {
    cpus: Vec<UndecodedCpu>,
    /// The pages of all of the buffers.
    pub pages: Vec<GuestPhys>,
    /// What could not be read.
    pub gaps: Gaps,
}

/// Reads the history of one boot, each part of it once.
#[derive(Debug, Default)]
pub struct HistoryReader {
    formats: Option<Formats>,
    known: BTreeMap<Cpu, Known>,
}

/// What was read of a CPU.
#[derive(Debug, Default)]
struct Known {
    position: Option<Position>,
    /// How many entries were read, or told to be overwritten.
    read: u64,
}

impl Undecoded {
    /// Whether no CPU has noted anything since the buffers were made.
    #[must_use]
    pub fn is_of_none(&self) -> bool {
        self.cpus.iter().all(|cpu| cpu.entries == 0)
    }
}

impl HistoryReader {
    /// A reader that has read nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Copy what is new. The guest must be stopped.
    ///
    /// # Errors
    /// [`KernelError::NoHistory`] when the guest keeps none; [`KernelError::Field`], [`KernelError::NoSymbol`] when this kernel's cannot
    /// be read; those of [`VirtualMemory::read`](crate::kernel::VirtualMemory::read). What cannot be read of single CPUs and events is in
    /// [`Undecoded::gaps`].
    pub fn take(&mut self, view: &KernelView<'_>) -> Result<Undecoded, KernelError> {
        let mut taken = Undecoded::default();
        let buffer = ring::buffer(view, &mut taken.gaps)?;
        if self.formats.is_none() {
            self.formats = Some(Formats::find(view, &mut taken.gaps)?);
        }
        let mut room = Room::new();
        for cpu in view.cpus()?.possible() {
            let position = self.known.get(cpu).and_then(|known| known.position);
            let found = buffer.take(view, *cpu, position, &mut taken.pages, &mut room);
            let what = format_args!("the history of CPU {cpu}");
            taken.cpus.extend(taken.gaps.read(what, found).flatten());
        }
        Ok(taken)
    }

    /// The copied buffers, decoded: one for each CPU that noted something. What cannot be decoded is added to `gaps`.
    pub fn decode(&mut self, taken: Undecoded, gaps: &mut Gaps) -> Vec<CpuNews> {
        let Some(formats) = &self.formats else { return Vec::new() };
        let mut news = Vec::new();
        for of_cpu in taken.cpus {
            let known = self.known.entry(of_cpu.cpu).or_default();
            let mut found = CpuNews { cpu: of_cpu.cpu, ..CpuNews::default() };
            let (mut entries, mut cut) = (0u64, 0u64);
            for page in &of_cpu.pages {
                let mut walk = page.entries(&formats.header);
                for (at_ns, data) in walk.by_ref() {
                    entries += 1;
                    match formats.decode(GuestNs(at_ns), data) {
                        Some(noted) => found.noted.push(noted),
                        None => cut += u64::from(formats.is_known(data)),
                    }
                }
                if let Some(fault) = walk.fault() {
                    gaps.fault(format_args!("the history of CPU {}: {fault}", of_cpu.cpu));
                }
                known.position = Some(walk.position(page));
            }
            if cut > 0 {
                gaps.fault(format_args!("the history of CPU {}: {cut} events make no sense", of_cpu.cpu));
            }
            known.read = known.read.saturating_add(entries);
            // Where it goes on from the place that was read last, nothing is missing.
            if !of_cpu.goes_on {
                found.overwritten = of_cpu.entries.saturating_sub(known.read);
                known.read = known.read.saturating_add(found.overwritten);
            }
            if !found.noted.is_empty() || found.overwritten > 0 {
                news.push(found);
            }
        }
        news
    }
}
