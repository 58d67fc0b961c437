//! The events of the buffers: their ids, out of the kernel's `struct trace_event_call`, and their fields, out of its BTF
//! (`struct trace_event_raw_...`).

use std::collections::HashMap;

use crate::kernel::history::page::Header;
use crate::kernel::history::{Noted, NotedWhat};
use crate::kernel::mirror::{FieldOffset, find_field, mirror, number};
use crate::kernel::{Gaps, KernelError, KernelView, bytes};
use crate::trace::record::HistoryTask;
use crate::units::{Cpu, GuestNs};

/// Longest text of an event, in bytes.
const TEXT_BYTES: usize = 64;

mirror! {
    /// `struct trace_event_call`.
    struct EventCall, EventCallLayout = "trace_event_call" {
        id: u64 = "event.type",
    }
}

/// Where a text is: in the event, or at the place that a word of the event tells: bytes from its beginning in the low half, its
/// length in the high one.
#[derive(Debug)]
enum TextField {
    Here(FieldOffset),
    There(FieldOffset),
}

/// A task in an event.
#[derive(Debug)]
struct TaskFields {
    comm: TextField,
    pid: FieldOffset,
    prio: FieldOffset,
}

/// The fields of an event that are read.
#[derive(Debug)]
enum Format {
    Switch { prev: TaskFields, state: FieldOffset, next: TaskFields },
    Wakeup { task: TaskFields, to: FieldOffset, is_new: bool },
    Migrate { task: TaskFields, from: FieldOffset, to: FieldOffset },
    SchedExt { name: TextField, count: FieldOffset },
}

/// The events of one boot.
#[derive(Debug)]
pub(super) struct Formats {
    pub(super) header: Header,
    id: FieldOffset,
    by: FieldOffset,
    formats: HashMap<u64, Format>,
}

/// Finds the fields of one event.
struct Finder<'v, 'm> {
    view: &'v KernelView<'m>,
    of: &'static str,
}

impl Finder<'_, '_> {
    fn field(&self, name: &str) -> Result<FieldOffset, KernelError> {
        Ok(find_field(self.view.types(), self.view.profile().release(), self.of, &[name])??)
    }

    fn text(&self, name: &str) -> Result<TextField, KernelError> {
        let there = self.field(&format!("__data_loc_{name}"));
        there.map(TextField::There).or_else(|_| self.field(name).map(TextField::Here))
    }

    fn task(&self, prefix: &str) -> Result<TaskFields, KernelError> {
        let comm = self.text(&format!("{prefix}comm"))?;
        let [pid, prio] = ["pid", "prio"].map(|name| self.field(&format!("{prefix}{name}")));
        Ok(TaskFields { comm, pid: pid?, prio: prio? })
    }
}

impl Formats {
    /// What this kernel has of the events. Those that it lacks are in `gaps`.
    ///
    /// # Errors
    /// [`KernelError::Field`], [`KernelError::NoSymbol`]: not even a context switch can be read.
    pub(super) fn find(view: &KernelView<'_>, gaps: &mut Gaps) -> Result<Self, KernelError> {
        let header = Header::find(view)?;
        let entry = Finder { view, of: "trace_entry" };
        let (id, by) = (entry.field("type")?, entry.field("pid")?);
        let of = |of| Finder { view, of };
        let id_of =
            |call: &str| -> Result<u64, KernelError> { Ok(view.mirror::<EventCall>(view.symbol(call)?)?.id) };
        let mut formats = HashMap::new();
        let switch = of("trace_event_raw_sched_switch");
        let [prev, next] = ["prev_", "next_"].map(|prefix| switch.task(prefix));
        let format = Format::Switch { prev: prev?, state: switch.field("prev_state")?, next: next? };
        formats.insert(id_of("event_sched_switch")?, format);
        let mut also = |call: &str, format: Result<Format, KernelError>| {
            let found = id_of(call).and_then(|id| Ok((id, format?)));
            if let Some((id, format)) = gaps.read(call, found) {
                formats.insert(id, format);
            }
        };
        for (call, is_new) in [("event_sched_wakeup", false), ("event_sched_wakeup_new", true)] {
            let wakeup = of("trace_event_raw_sched_wakeup_template");
            also(
                call,
                wakeup
                    .task("")
                    .and_then(|task| Ok(Format::Wakeup { task, to: wakeup.field("target_cpu")?, is_new })),
            );
        }
        let migrate = of("trace_event_raw_sched_migrate_task");
        let format = || {
            let [from, to] = ["orig_cpu", "dest_cpu"].map(|name| migrate.field(name));
            Ok(Format::Migrate { task: migrate.task("")?, from: from?, to: to? })
        };
        also("event_sched_migrate_task", format());
        // Since Linux 6.15; its absence is no fault.
        if view.symbol("event_sched_ext_event").is_ok() {
            let event = of("trace_event_raw_sched_ext_event");
            also(
                "event_sched_ext_event",
                event
                    .text("name")
                    .and_then(|name| Ok(Format::SchedExt { name, count: event.field("delta")? })),
            );
        }
        Ok(Self { header, id, by, formats })
    }

    /// The event with this data; `None` for one that is not known, or is cut off.
    pub(super) fn decode(&self, at: GuestNs, data: &[u8]) -> Option<Noted> {
        let value = |field: &FieldOffset| number(field, data, 0);
        let small = |field: &FieldOffset| value(field).map(|value| value as u32);
        let by = small(&self.by)?;
        let what = match self.formats.get(&value(&self.id)?)? {
            Format::Switch { prev, state, next } => {
                NotedWhat::Switch { prev: task(prev, data)?, state: small(state)?, next: task(next, data)? }
            }
            Format::Wakeup { task: of, to, is_new } => {
                NotedWhat::Wakeup { task: task(of, data)?, by, to: Cpu(small(to)?), is_new: *is_new }
            }
            Format::Migrate { task: of, from, to } => {
                NotedWhat::Migrate { task: task(of, data)?, by, from: Cpu(small(from)?), to: Cpu(small(to)?) }
            }
            Format::SchedExt { name, count } => {
                NotedWhat::SchedExt { name: text(name, data)?, by, count: value(count)?.cast_signed() }
            }
        };
        Some(Noted { at, what })
    }
}

fn task(fields: &TaskFields, data: &[u8]) -> Option<HistoryTask> {
    let pid = number(&fields.pid, data, 0)? as u32;
    let prio = number(&fields.prio, data, 0)?.cast_signed();
    Some(HistoryTask { pid, prio, comm: text(&fields.comm, data)? })
}

fn text(field: &TextField, data: &[u8]) -> Option<String> {
    let (at, len) = match field {
        TextField::Here(field) => (field.offset, field.bytes),
        TextField::There(field) => {
            let place = number(field, data, 0)?;
            (place & 0xffff, place >> 16 & 0xffff)
        }
    };
    let (at, len) = (usize::try_from(at).ok()?, usize::try_from(len).ok()?.min(TEXT_BYTES));
    Some(bytes::text(data.get(at..at.checked_add(len)?)?))
}
