//! sched_ext's event counters: `struct scx_event_stats`, one for each CPU.

use serde::Serialize;

use crate::kernel::mirror::mirror;
use crate::kernel::{FieldMissing, Gaps, KernelError, KernelView};
use crate::units::KernelVirt;
use crate::value::Value;

mirror! {
    /// `struct scx_sched`, as far as its counters go.
    struct Counted, CountedLayout = "scx_sched" {
        pcpu: Result<KernelVirt, FieldMissing>,
        event_stats_cpu: Result<KernelVirt, FieldMissing>,
    }
}

/// An event and how often it happened, on all CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventCounter {
    /// `SCX_EV_...`, as in `/sys/kernel/sched_ext/root/events`.
    pub name: String,
    /// How often; for some, how many ns.
    pub count: i64,
}

/// The counters of the scheduler at `at`, in the kernel's order.
///
/// # Errors
/// [`KernelError`] when this kernel does not count events, or keeps them elsewhere.
pub fn read_events(
    view: &KernelView<'_>,
    at: KernelVirt,
    gaps: &mut Gaps,
) -> Result<Vec<EventCounter>, KernelError> {
    let counted: Counted = view.mirror(at)?;
    let place = match (counted.event_stats_cpu, counted.pcpu) {
        (Ok(stats), _) => stats,
        (Err(_), Ok(pcpu)) => {
            KernelVirt(pcpu.0.wrapping_add(view.offset_of("scx_sched_pcpu", "event_stats")?))
        }
        (Err(missing), Err(_)) => return Err(missing.into()),
    };
    let types = view.types();
    let id = types.struct_named("scx_event_stats")?;
    let len = usize::try_from(types.size_of(id)?).unwrap_or(usize::MAX);
    let mut counters: Vec<EventCounter> = Vec::new();
    let cpus = view.cpus()?;
    for &cpu in cpus.possible() {
        let Some(place) = cpus.place(place, cpu) else { continue };
        let Some(raw) = gaps.read(format_args!("event counters of CPU {cpu}"), view.bytes(place, len)) else {
            continue;
        };
        let parts =
            Value::new(types, id, &raw).and_then(|value| value.parts()?.into_iter().map(counter).collect());
        let Some(parts) = gaps.read("event counters", parts) else { continue };
        let parts: Vec<(String, i64)> = parts;
        for (position, (name, count)) in parts.into_iter().enumerate() {
            match counters.get_mut(position) {
                Some(all) => all.count = all.count.wrapping_add(count),
                None => counters.push(EventCounter { name, count }),
            }
        }
    }
    Ok(counters)
}

fn counter((name, value): (&str, Value<'_>)) -> Result<(String, i64), crate::value::ValueError> {
    Ok((name.to_owned(), value.as_i64()?))
}
