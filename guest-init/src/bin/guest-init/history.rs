//! The history: the kernel's own record of what its CPUs do, in a trace instance of its own. Nobody here reads it: the host reads its
//! pages out of guest memory.
//!
//! A test's own tracing uses the other buffers, and does not meet it.

use std::fs;
use std::path::Path;

use crate::Failure;

/// The instance. The host finds it by its name.
const INSTANCE: &str = "/sys/kernel/tracing/instances/ktstr";
/// Whether the kernel keeps a table of the names of tasks for the buffers.
const RECORD_CMD: &str = "/sys/kernel/tracing/options/record-cmd";
/// What is noted. A kernel that lacks one of the later ones does without.
const EVENTS: [&str; 5] = [
    "sched/sched_switch",
    "sched/sched_wakeup",
    "sched/sched_wakeup_new",
    "sched/sched_migrate_task",
    "sched_ext/sched_ext_event",
];
/// KiB of each CPU's buffer.
const BUFFER_KIB: u64 = 512;
/// What a new instance takes of each CPU at first, in KiB (`TRACE_BUF_SIZE_DEFAULT` of the kernel's trace.c).
const NEW_KIB: u64 = 1408;
/// The part of the free memory that it may take for that.
const PART: u64 = 4;

/// Begin it, from now to the end of the guest.
///
/// # Errors
/// Why there is none.
pub fn begin() -> Result<(), Failure> {
    if Path::new("/sys/kernel/tracing").read_dir().map_or(true, |mut entries| entries.next().is_none()) {
        return Err("this kernel has no tracing (CONFIG_FTRACE)".into());
    }
    let cpus = possible_cpus()?;
    let free = free_kib()?;
    if cpus.saturating_mul(NEW_KIB) > free / PART {
        return Err(format!(
            "{cpus} CPUs need more memory for it than a {PART}th of the {free} KiB that are free"
        ));
    }
    // What is noted has the names of tasks; a table of names besides costs time at each switch. An instance has this option from what
    // is set for all when it is made, and no file for it.
    let _kept_as_it_is = fs::write(RECORD_CMD, "0");
    let made = fs::create_dir(INSTANCE);
    let _kept_as_it_is = fs::write(RECORD_CMD, "1");
    made.map_err(|error| format!("making the trace instance {INSTANCE}: {error}"))?;
    set_up().inspect_err(|_| {
        // One that is half made would pass for one in which nothing was noted.
        let _stays_if_in_use = fs::remove_dir(INSTANCE);
    })
}

/// Set what the new instance notes, and have it begin.
fn set_up() -> Result<(), Failure> {
    write("tracing_on", "0")?;
    write("buffer_size_kb", &BUFFER_KIB.to_string())?;
    // The guest's CLOCK_MONOTONIC, in which all of a trace is told.
    write("trace_clock", "mono")?;
    let (first, rest) = EVENTS.split_first().ok_or("no event")?;
    write(&format!("events/{first}/enable"), "1")?;
    for event in rest.iter().filter(|event| Path::new(INSTANCE).join("events").join(event).exists()) {
        write(&format!("events/{event}/enable"), "1")?;
    }
    write("tracing_on", "1")
}

/// End it, where there is one: the test does without.
pub fn end() -> Result<(), Failure> {
    if !Path::new(INSTANCE).exists() {
        return Ok(());
    }
    write("events/enable", "0")?;
    write("tracing_on", "0")
}

fn write(file: &str, text: &str) -> Result<(), Failure> {
    let path = Path::new(INSTANCE).join(file);
    fs::write(&path, text).map_err(|error| format!("writing {text} to {}: {error}", path.display()))
}

/// How many CPUs have buffers.
fn possible_cpus() -> Result<u64, Failure> {
    const FILE: &str = "/sys/devices/system/cpu/possible";
    let list = fs::read_to_string(FILE).map_err(|error| format!("reading {FILE}: {error}"))?;
    let last = list.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<u64>().ok());
    last.map(|last| last + 1).ok_or_else(|| format!("{FILE} has no CPU: {list}"))
}

/// Memory that is free, in KiB.
fn free_kib() -> Result<u64, Failure> {
    const FILE: &str = "/proc/meminfo";
    let text = fs::read_to_string(FILE).map_err(|error| format!("reading {FILE}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemFree:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kib.ok_or_else(|| format!("{FILE} does not say how much is free"))
}
