//! The kernel's clocks and where each CPU's time went.
//!
//! Sources: `kernel/time/jiffies.c`, `include/linux/jiffies.h`, `include/linux/kernel_stat.h` of Linux. `/proc/stat` is made of
//! `kernel_cpustat`; with a tickless kernel, time that a CPU has been idle since its tick stopped is not in it yet.

use serde::Serialize;

use crate::btf::Kind;
use crate::kernel::mirror::{At, mirror};
use crate::kernel::{Gaps, KernelError, KernelView, bytes};
use crate::units::Cpu;

mirror! {
    /// `struct clocksource`, of which `clocksource_jiffies` tells how long a jiffy is.
    struct Clocksource, ClocksourceLayout = "clocksource" {
        mult: u64,
        shift: u64,
    }
}

/// The clock that sched_ext and much of the kernel count in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jiffies {
    /// Now, as `jiffies` has it: since a little before boot.
    pub now: u64,
    /// Length of one, in ns.
    pub each_ns: u64,
}

impl Jiffies {
    /// Read it.
    ///
    /// # Errors
    /// [`KernelError`] when the kernel has no such symbols.
    pub fn read(view: &KernelView<'_>) -> Result<Self, KernelError> {
        let symbols = view.profile().symbols();
        let now = match symbols.address("jiffies_64") {
            Some(at) => view.u64(at)?,
            None => view.u64(view.symbol("jiffies")?)?,
        };
        let each_ns = jiffy_ns(view).ok_or_else(|| KernelError::NoSymbol {
            name: "clocksource_jiffies".to_owned(),
            release: view.profile().release().to_owned(),
        })?;
        Ok(Self { now, each_ns })
    }

    /// How long ago `then` was, in ns; negative for what is yet to come.
    #[must_use]
    pub fn age_ns(&self, then: u64) -> i64 {
        let jiffies = self.now.wrapping_sub(then).cast_signed();
        jiffies.saturating_mul(i64::try_from(self.each_ns).unwrap_or(i64::MAX))
    }

    /// The kernel's uptime in ns, to a jiffy: `jiffies` began at `INITIAL_JIFFIES`, five minutes before it wraps as
    /// a 32-bit number.
    #[must_use]
    pub fn uptime_ns(&self) -> u64 {
        let hz = 1_000_000_000u64.checked_div(self.each_ns).unwrap_or_default();
        let initial = u64::from((hz * 300).wrapping_neg() as u32);
        self.now.wrapping_sub(initial).saturating_mul(self.each_ns)
    }
}

/// Length of a jiffy. `clocksource_jiffies` is `TICK_NSEC` shifted; it is how the kernel keeps `HZ` in its memory.
pub(super) fn jiffy_ns(view: &KernelView<'_>) -> Option<u64> {
    let at = view.profile().symbols().address("clocksource_jiffies")?;
    let clock: Clocksource = view.mirror(at).ok()?;
    let tick_ns = clock.mult.checked_shr(u32::try_from(clock.shift).ok()?).filter(|&ns| ns > 0)?;
    // TICK_NSEC is rounded; the jiffy itself is a whole part of a second.
    let hz = (1_000_000_000 + tick_ns / 2).checked_div(tick_ns)?;
    1_000_000_000u64.checked_div(hz)
}

mirror! {
    /// `struct kernel_cpustat`.
    struct CpuStat, CpuStatLayout = "kernel_cpustat" {
        cpustat: At,
    }
}

/// Most kinds of time.
const MAX_KINDS: u64 = 64;

/// The time of one CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpuTime {
    /// CPU number.
    pub cpu: Cpu,
    /// Whether the CPU runs.
    pub online: bool,
    /// For each kind of [`CpuTimes::kinds`], in ns.
    pub ns: Vec<u64>,
}

/// Where the time of all CPUs went.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CpuTimes {
    /// The kernel's uptime in ns, to a jiffy.
    pub uptime_ns: Option<u64>,
    /// Kinds of time by `enum cpu_usage_stat`: `user`, `nice`, `system`, ...
    pub kinds: Vec<String>,
    /// The CPUs.
    pub cpus: Vec<CpuTime>,
    /// What could not be read.
    pub gaps: Gaps,
}

/// Read them.
///
/// # Errors
/// [`KernelError`] when the kernel has no such statistics, or its types do not describe them.
pub fn read_cpu_times(view: &KernelView<'_>) -> Result<CpuTimes, KernelError> {
    let mut times = CpuTimes::default();
    times.uptime_ns = times.gaps.read("uptime", Jiffies::read(view)).map(|jiffies| jiffies.uptime_ns());
    let types = view.types();
    let no_kinds =
        || crate::btf::BtfError::NoSuchName { kind: Kind::Enum, name: "cpu_usage_stat".to_owned() };
    let kinds = types.enumerators(types.find(Kind::Enum, "cpu_usage_stat").ok_or_else(no_kinds)?)?;
    let named = kinds.iter().filter_map(|kind| kind.name.strip_prefix("CPUTIME_"));
    times.kinds = named.take(MAX_KINDS as usize).map(str::to_lowercase).collect();
    let (cpus, stats) = (view.cpus()?, view.symbol("kernel_cpustat")?);
    for &cpu in cpus.possible() {
        let Some(at) = cpus.place(stats, cpu) else { continue };
        let read =
            view.mirror::<CpuStat>(at).and_then(|stat| view.bytes(stat.cpustat.0, times.kinds.len() * 8));
        if let Some(raw) = times.gaps.read(format_args!("time of CPU {cpu}"), read) {
            times.cpus.push(CpuTime { cpu, online: cpus.is_online(cpu), ns: bytes::u64s(&raw).collect() });
        }
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_uptime_are_counted_in_jiffies() {
        // 250 Hz, ten seconds after boot: INITIAL_JIFFIES is (unsigned int)(-300 * HZ).
        let jiffies = Jiffies { now: 0xffff_ffff - 75_000 + 1 + 2500, each_ns: 4_000_000 };
        assert_eq!(jiffies.uptime_ns(), 10_000_000_000);
        assert_eq!(jiffies.age_ns(jiffies.now - 500), 2_000_000_000);
        assert_eq!(jiffies.age_ns(jiffies.now + 1), -4_000_000);
    }
}
