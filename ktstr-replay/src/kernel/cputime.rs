//! Where each CPU's time went: `kernel_cpustat`, which `/proc/stat` is made of.
//!
//! Source: `include/linux/kernel_stat.h` of Linux. With a tickless kernel, time that a CPU has been idle since its tick
//! stopped is not in it yet.

use serde::Serialize;

use super::mirror::{At, mirror};
use super::{Gaps, Jiffies, KernelError, KernelView, bytes};
use crate::btf::Kind;

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
    pub cpu: u32,
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
    for &cpu in cpus.online() {
        let Some(at) = cpus.place(stats, cpu) else { continue };
        let read =
            view.mirror::<CpuStat>(at).and_then(|stat| view.bytes(stat.cpustat.0, times.kinds.len() * 8));
        if let Some(raw) = times.gaps.read(format_args!("time of CPU {cpu}"), read) {
            times.cpus.push(CpuTime { cpu, ns: bytes::u64s(&raw).collect() });
        }
    }
    Ok(times)
}
