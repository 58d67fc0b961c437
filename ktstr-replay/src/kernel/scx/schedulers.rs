//! The schedulers of sched_ext with their event counters: the root, those below it, and one that was ejected and whose
//! loader is still there.

use std::collections::HashSet;

use serde::Serialize;

use crate::kernel::maps::struct_ops_maps;
use crate::kernel::mirror::{Text, mirror};
use crate::kernel::scx::state::{ExitInfo, exit_kind_name, exit_text, held_schedulers, state_name};
use crate::kernel::{FieldMissing, Gaps, Jiffies, KernelError, KernelView, bytes, list_entries};
use crate::trace::record::SchedulerMaps;
use crate::units::KernelVirt;
use crate::value::Value;

mirror! {
    /// `struct scx_sched`.
    struct RawSched, RawSchedLayout = "scx_sched" {
        ops_name: Result<Text, FieldMissing> = "ops.name",
        ops_flags: Result<u64, FieldMissing> = "ops.flags",
        exit_kind: u64,
        exit_info: KernelVirt,
        level: Result<i64, FieldMissing>,
        cgrp_path: Result<KernelVirt, FieldMissing>,
        slice_dfl: Result<u64, FieldMissing>,
        bypass_depth: Result<i64, FieldMissing>,
        aborting: Result<u64, FieldMissing>,
        watchdog_timeout: Result<u64, FieldMissing>,
    }
}

mirror! {
    /// `struct scx_exit_info`, as far as its backtrace goes.
    struct Backtrace, BacktraceLayout = "scx_exit_info" {
        bt: KernelVirt,
        bt_len: u64,
    }
}

/// Most schedulers that are looked at.
pub(super) const MAX_SCHEDULERS: usize = 256;
/// Most entries of a backtrace (`SCX_EXIT_BT_LEN` is 64).
const MAX_BACKTRACE: u64 = 256;
/// Longest path of a scheduler's cgroup, in bytes.
const MAX_PATH_BYTES: usize = 4096;

/// sched_ext at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SchedExt {
    /// `enabled`, `disabled`, ...
    pub state: Option<String>,
    /// How many times a scheduler was enabled since boot.
    pub enable_seq: Option<u64>,
    /// How many times a CPU came or went since boot.
    pub hotplug_seq: Option<u64>,
    /// Tasks that asked for SCHED_EXT and were refused.
    pub nr_rejected: Option<u64>,
    /// How long ago the watchdog last looked at the runnable tasks, in ns.
    pub watchdog_age_ns: Option<i64>,
    /// The schedulers, the root first.
    pub schedulers: Vec<Scheduler>,
    /// What could not be read.
    pub gaps: Gaps,
}

/// A scheduler: `struct scx_sched`.
#[derive(Clone, Debug, Serialize)]
pub struct Scheduler {
    /// `ops.name`.
    pub name: Option<String>,
    /// `ops.flags`, by the names of `enum scx_ops_flags`.
    pub flags: Vec<String>,
    /// How deep below the root it is; 0 for the root.
    pub level: Option<i64>,
    /// The cgroup that it schedules.
    pub cgroup: Option<String>,
    /// The slice that a task gets where the scheduler says none, in ns.
    pub slice_dfl_ns: Option<u64>,
    /// Depth of bypass mode, in which the kernel schedules in its place.
    pub bypass_depth: Option<i64>,
    /// Whether it is being ejected.
    pub aborting: Option<bool>,
    /// How long a runnable task may wait, in ns.
    pub watchdog_timeout_ns: Option<u64>,
    /// How it ended; 0 while it runs.
    pub exit_kind: u64,
    /// Name of that kind.
    pub exit_kind_name: Option<String>,
    /// `scx_exit_info.exit_code`.
    pub exit_code: Option<i64>,
    /// The kernel's reason.
    pub exit_reason: Option<String>,
    /// The kernel's, or its own, message.
    pub exit_message: Option<String>,
    /// Where the exit was triggered, the innermost function first.
    pub exit_backtrace: Vec<String>,
    /// The kernel's dump.
    pub exit_dump: Option<String>,
    /// Its event counters.
    pub events: Vec<EventCounter>,
    /// Where it is.
    #[serde(skip)]
    pub at: KernelVirt,
}

/// The `struct scx_sched`s of the kernel, the root first; none where no scheduler is loaded, or the kernel is older than
/// that struct.
pub(in crate::kernel) fn scheduler_addresses(view: &KernelView<'_>, gaps: &mut Gaps) -> Vec<KernelVirt> {
    let mut found = linked(view, gaps);
    // Taken off both, but held by the map that its loader has made.
    let held = struct_ops_maps(view).and_then(|maps| held_schedulers(view, &maps));
    found.extend(gaps.read("the schedulers that struct_ops maps hold", held).unwrap_or_default());
    let mut seen = HashSet::new();
    found.retain(|at| seen.insert(*at));
    found
}

/// Those that are not on their way out, or not far: the root, and the kernel's list of all.
pub(super) fn linked(view: &KernelView<'_>, gaps: &mut Gaps) -> Vec<KernelVirt> {
    let symbols = view.profile().symbols();
    let mut found = Vec::new();
    if let Some(Some(root)) =
        symbols.address("scx_root").and_then(|at| gaps.read("scx_root", view.pointer(at)))
    {
        found.push(root);
    }
    if let Some(all) = symbols.address("scx_sched_all") {
        found.extend(list_entries(view, all, ("scx_sched", "all"), MAX_SCHEDULERS, gaps));
    }
    found
}

mirror! {
    /// `struct scx_sched`, as far as naming it goes.
    struct SchedName, SchedNameLayout = "scx_sched" {
        ops_name: Result<Text, FieldMissing> = "ops.name",
        level: Result<i64, FieldMissing>,
        cgrp_path: Result<KernelVirt, FieldMissing>,
    }
}

/// Which scheduler the one at `at` is; of what it has, nothing.
///
/// # Errors
/// Those of [`KernelView::mirror`].
pub(in crate::kernel) fn identity(
    view: &KernelView<'_>,
    at: KernelVirt,
) -> Result<SchedulerMaps, KernelError> {
    let sched: SchedName = view.mirror(at)?;
    let path = sched.cgrp_path.ok().filter(|path| path.0 != 0);
    Ok(SchedulerMaps {
        scheduler: sched.ops_name.map_or_else(|_| "a scheduler".to_owned(), |name| name.0),
        level: sched.level.ok().and_then(|level| u32::try_from(level).ok()).unwrap_or(0),
        cgroup: path.and_then(|path| view.text(path, MAX_PATH_BYTES).ok()).unwrap_or_default(),
        maps: Vec::new(),
    })
}

/// What the scheduler at `at` is called: `qmap`, or `qmap on /below` of one below the root.
///
/// # Errors
/// Those of [`KernelView::mirror`].
pub(in crate::kernel) fn scheduler_name(
    view: &KernelView<'_>,
    at: KernelVirt,
) -> Result<String, KernelError> {
    Ok(identity(view, at)?.in_words())
}

/// Read sched_ext and its schedulers; `None` where the kernel is built without it.
#[must_use]
pub fn read_schedulers(view: &KernelView<'_>) -> Option<SchedExt> {
    let symbols = view.profile().symbols();
    let state = ["scx_enable_state_var", "scx_ops_enable_state_var"];
    let state = state.iter().find_map(|name| symbols.address(name))?;
    let mut all = SchedExt::default();
    let gaps = &mut all.gaps;
    all.state = gaps.read("sched_ext's state", view.u32(state)).map(|value| state_name(view, value));
    let number = |name: &str| symbols.address(name).and_then(|at| view.u64(at).ok());
    all.enable_seq = number("scx_enable_seq");
    all.hotplug_seq = number("scx_hotplug_seq");
    all.nr_rejected = number("scx_nr_rejected");
    let jiffies = gaps.read("ages", Jiffies::read(view));
    let looked = number("scx_watchdog_timestamp");
    all.watchdog_age_ns = jiffies.zip(looked).map(|(jiffies, then)| jiffies.age_ns(then));
    for at in scheduler_addresses(view, gaps) {
        let one = scheduler(view, at, jiffies, gaps);
        all.schedulers.extend(gaps.read(format_args!("the scheduler at {at}"), one));
    }
    Some(all)
}

fn scheduler(
    view: &KernelView<'_>,
    at: KernelVirt,
    jiffies: Option<Jiffies>,
    gaps: &mut Gaps,
) -> Result<Scheduler, KernelError> {
    let raw: RawSched = view.mirror(at)?;
    let path = gaps.field(raw.cgrp_path).filter(|path| path.0 != 0);
    let timeout = gaps.field(raw.watchdog_timeout).or_else(|| {
        view.profile().symbols().address("scx_watchdog_timeout").and_then(|at| view.u64(at).ok())
    });
    let flags = gaps.field(raw.ops_flags).unwrap_or_default();
    let mut found = Scheduler {
        name: gaps.field(raw.ops_name).map(|name| name.0),
        flags: crate::kernel::task::named_flags(view.types(), "scx_ops_flags", "SCX_OPS_", flags, 0),
        level: gaps.field(raw.level),
        cgroup: path.and_then(|path| gaps.read("a scheduler's cgroup", view.text(path, MAX_PATH_BYTES))),
        slice_dfl_ns: gaps.field(raw.slice_dfl),
        bypass_depth: gaps.field(raw.bypass_depth),
        aborting: gaps.field(raw.aborting).map(|aborting| aborting != 0),
        watchdog_timeout_ns: timeout
            .zip(jiffies)
            .and_then(|(count, jiffies)| count.checked_mul(jiffies.each_ns)),
        exit_kind: raw.exit_kind,
        exit_kind_name: None,
        exit_code: None,
        exit_reason: None,
        exit_message: None,
        exit_backtrace: Vec::new(),
        exit_dump: None,
        events: Vec::new(),
        at,
    };
    if raw.exit_info.0 != 0
        && let Some(info) = gaps.read("a scheduler's exit", view.mirror::<ExitInfo>(raw.exit_info))
    {
        // The scheduler's own kind becomes SCX_EXIT_DONE at the end; the cause stays in its exit information.
        if info.kind != 0 {
            found.exit_kind = info.kind;
        }
        found.exit_code = Some(info.exit_code);
        [found.exit_reason, found.exit_message, found.exit_dump] = exit_text(view, &info, |what, error| {
            gaps.fault(format_args!("a scheduler's exit {what}: {error}"))
        });
        let trace = backtrace(view, raw.exit_info);
        found.exit_backtrace = gaps.read("the backtrace of a scheduler's exit", trace).unwrap_or_default();
    }
    found.exit_kind_name = exit_kind_name(view, found.exit_kind);
    let events = read_events(view, at, gaps);
    found.events = gaps.read("event counters", events).unwrap_or_default();
    Ok(found)
}

/// The functions of an exit's backtrace, as the kernel prints them but for their sizes.
fn backtrace(view: &KernelView<'_>, info: KernelVirt) -> Result<Vec<String>, KernelError> {
    let trace: Backtrace = view.mirror(info)?;
    if trace.bt.0 == 0 {
        return Ok(Vec::new());
    }
    let raw = view.bytes(trace.bt, trace.bt_len.min(MAX_BACKTRACE) as usize * 8)?;
    let name = |address| match view.profile().symbols().at(KernelVirt(address)) {
        Some((symbol, offset)) => format!("{}+{offset:#x}", symbol.name),
        None => KernelVirt(address).to_string(),
    };
    Ok(bytes::u64s(&raw).map(name).collect())
}

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
fn read_events(
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
