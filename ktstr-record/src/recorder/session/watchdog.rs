//! sched_ext's stall watchdog, whose time a test may set: how long a task may wait for a CPU until the kernel ejects the scheduler.
//!
//! The kernel takes it from the scheduler (`timeout_ms` of its ops) and has nothing by which others could change it, so it is changed in
//! the kernel's memory. Source: `scx_watchdog_workfn`, `scx_tick` and `refresh_watchdog` of `kernel/sched/ext/ext.c`:
//!
//! - The kernel looks at the waiting tasks when half of the shortest time has passed since it looked before (`scx_watchdog_interval`). The
//!   timer that is already set cannot be moved, so that the first look after a change is at the old time.
//! - Each tick ejects a scheduler when the kernel has not looked for the whole time since `scx_watchdog_timestamp`. Where the time becomes
//!   shorter, that look might come too late for it: it is counted from when it is due.

use ktstr_replay::kernel::KernelView;
use ktstr_replay::kernel::cputime::Jiffies;
use ktstr_replay::kernel::query::Located;
use ktstr_replay::path::SyntaxError;
use ktstr_replay::watch::WatchTarget;

use super::memory::write;
use crate::machine::GuestRam;

/// Longest time that the kernel takes from a scheduler, in ms: `SCX_WATCHDOG_MAX_TIMEOUT`.
const MAX_MS: i128 = 30_000;

/// Read the time, in ms, and set it to `wanted_ms` where that is given. Returns what it was. The machine is stopped.
///
/// # Errors
/// No scheduler is enabled, a kernel that has no such time, a time that the kernel would not take.
pub(super) fn work(wanted_ms: Option<i128>, view: &KernelView<'_>, ram: &GuestRam) -> Result<i128, String> {
    let jiffies = Jiffies::read(view).map_err(|error| error.to_string())?;
    let each_ns = i128::from(jiffies.each_ns.max(1));
    // Earlier kernels keep one for all schedulers.
    let timeout = number(view, "scx_root->watchdog_timeout")
        .or_else(|why| number(view, "kernel.scx_watchdog_timeout").map_err(|_| why))?;
    let before = value(timeout, view)?;
    let before_ms = before.saturating_mul(each_ns) / 1_000_000;
    let Some(wanted_ms) = wanted_ms else { return Ok(before_ms) };
    if !(1..=MAX_MS).contains(&wanted_ms) {
        return Err(format!("{wanted_ms} ms is no time of the watchdog, which is from 1 to {MAX_MS} ms"));
    }
    // At least two ticks, so that there can be a look between.
    let wanted = ((wanted_ms * 1_000_000 + each_ns - 1) / each_ns).max(2);
    if wanted < before
        && let Ok(stamp) = number(view, "kernel.scx_watchdog_timestamp")
    {
        let interval = number(view, "kernel.(u64)scx_watchdog_interval").ok();
        let between = match interval {
            Some(interval) => value(interval, view)?,
            None => before / 2,
        };
        let due = value(stamp, view)?.saturating_add(between).max(i128::from(jiffies.now));
        write(stamp, due, view, ram)?;
        if let Some(interval) = interval.filter(|_| wanted / 2 < between) {
            write(interval, wanted / 2, view, ram)?;
        }
    }
    write(timeout, wanted, view, ram)?;
    Ok(before_ms)
}

fn number(view: &KernelView<'_>, target: &str) -> Result<Located, String> {
    let target: WatchTarget = target.parse().map_err(|error: SyntaxError| error.render())?;
    target.find(view).map_err(|missing| missing.why().to_owned())
}

fn value(of: Located, view: &KernelView<'_>) -> Result<i128, String> {
    of.read(view).map_err(|error| error.to_string())
}
