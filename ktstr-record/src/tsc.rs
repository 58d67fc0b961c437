//! How fast the host's time stamp counter counts. An emulated guest reads that very counter (`cpu_get_host_ticks` of QEMU).
//!
//! A kernel that is not told compares it at boot with timers that the emulator makes, and on a busy host is wrong: with 32 vCPUs on two
//! CPUs it took 2596 MHz for 85. Its clock then ran 30 times too fast, and so did that of every machine that was restored from its template.

use std::arch::x86_64::_rdtsc;
use std::fs;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time between two readings. With readings that are right to 0.1 us it gives the rate to 0.002 %.
const BETWEEN: Duration = Duration::from_millis(5);
/// Readings of which the quickest counts: one that was interrupted is off by as long.
const TRIES: u32 = 64;
const KHZ_PER_MHZ: u64 = 1000;
/// No counter that is constant counts as slowly.
const SLOWEST_KHZ: u64 = 100_000;

/// The rate in kHz, to a whole MHz, so that all runs on a host say the same; `None` where it is not always one.
///
/// The kernel measures what the rounding leaves, half a MHz at most, in the first second that it runs.
pub(crate) fn host_khz() -> Option<u64> {
    static KHZ: OnceLock<Option<u64>> = OnceLock::new();
    *KHZ.get_or_init(|| is_constant().then(measure).flatten().map(to_mhz))
}

fn to_mhz(khz: u64) -> u64 {
    (khz + KHZ_PER_MHZ / 2) / KHZ_PER_MHZ * KHZ_PER_MHZ
}

/// Whether it counts alike at all speeds of the CPU.
fn is_constant() -> bool {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_ascii_whitespace().any(|flag| flag == "constant_tsc"))
}

fn measure() -> Option<u64> {
    let begin = reading();
    sleep(BETWEEN);
    let end = reading();
    let (ns, ticks) = (end.at_ns.checked_sub(begin.at_ns)?, end.ticks.checked_sub(begin.ticks)?);
    u64::try_from(u128::from(ticks) * 1_000_000 / u128::from(ns.max(1)))
        .ok()
        .filter(|&khz| khz >= SLOWEST_KHZ)
}

/// The counter, and the time when it was read.
#[derive(Clone, Copy)]
struct Reading {
    at_ns: u64,
    ticks: u64,
    took_ns: u64,
}

fn reading() -> Reading {
    let once = || {
        let before = now_ns();
        // SAFETY: every CPU of this architecture has the instruction, and the kernel lets programs use it unless they ask it not to.
        let ticks = unsafe { _rdtsc() };
        let took_ns = now_ns().saturating_sub(before);
        Reading { at_ns: before + took_ns / 2, ticks, took_ns }
    };
    (1..TRIES).fold(once(), |best, _| {
        let next = once();
        if next.took_ns < best.took_ns { next } else { best }
    })
}

/// A clock that nobody sets, and whose rate nobody mends.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::MonotonicRaw);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use kvm_ioctls::Kvm;

    use super::*;

    #[test]
    fn it_is_what_kvm_says_of_the_host() {
        let Some(khz) = host_khz() else { return eprintln!("not tested: the host's rate is not constant") };
        assert_eq!(khz % 1000, 0);
        let by_kvm = Kvm::new().and_then(|kvm| kvm.create_vm()?.create_vcpu(0)?.get_tsc_khz());
        match by_kvm {
            // The clock it is measured by is right to 0.1 %, where the host's kernel is.
            Ok(by_kvm) => assert!(khz.abs_diff(by_kvm.into()) <= khz / 500, "{khz} and {by_kvm} kHz"),
            Err(why) => eprintln!("not compared: {why}"),
        }
    }

    #[test]
    fn rates_are_rounded_to_whole_mhz() {
        assert_eq!([2_596_098, 2_596_500, 1_999_499, 400].map(to_mhz), [2_596_000, 2_597_000, 1_999_000, 0]);
    }
}
