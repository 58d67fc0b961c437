//! `fail_on_stall`: the clock of a runqueue must move while its CPU is busy.

use std::collections::BTreeMap;

use super::limit::{Clock, time};
use super::monitor::place;
use crate::run::Run;
use crate::text::{counted, listed};
use crate::trace::record::{CpuState, Sample, Thresholds};
use crate::units::{Cpu, GuestNs};
use crate::verdict::{Finding, Origin, Outcome};

/// Guest time between two captures over which the clock of a busy CPU's runqueue must have moved, in ns: it ticks at least
/// 100 times a second. That of an idle CPU may stand for as long as it idles.
pub(in crate::judge) const BUSY_CLOCK_MOVES_NS: u64 = 250_000_000;

/// A CPU that something runs on, and whose clock is known.
pub(in crate::judge) fn is_busy(cpu: &CpuState) -> bool {
    cpu.curr_pid.is_some_and(|pid| pid != 0) && cpu.clock_ns.is_some()
}

pub(super) fn judge(run: &Run<'_>, limits: &Thresholds) -> Option<Finding> {
    if !limits.fail_on_stall {
        return None;
    }
    let row = limits.sustained_samples.unwrap_or(1).max(1) as usize;
    let finding = |outcome, found: String| Finding::new(Origin::Threshold, "fail_on_stall", outcome, found);
    let taken: Vec<&Sample> = run.taken().collect();
    // How often in a row the clock of a CPU stood, and since when.
    let mut standing: BTreeMap<Cpu, (usize, GuestNs)> = BTreeMap::new();
    let (mut looked, mut longest_ns, mut stalls) = (0_usize, 0_u64, Vec::new());
    for pair in taken.windows(2) {
        let [one, two] = pair else { continue };
        let mut before = std::mem::take(&mut standing);
        for (cpu, stands) in clocks(one, two) {
            looked += 1;
            if !stands {
                continue;
            }
            let (stood, since) = before.remove(&cpu).unwrap_or((0, one.guest_ns));
            let ns = two.guest_ns.0.saturating_sub(since.0);
            longest_ns = longest_ns.max(ns);
            if stood + 1 == row {
                stalls.push(format!(
                    "the clock of CPU {cpu} stood for {}, from {} to {}, while it ran {}",
                    time(ns),
                    place(run, one),
                    place(run, two),
                    task(two, cpu)
                ));
            }
            standing.insert(cpu, (stood + 1, since));
        }
    }
    let asked = match row {
        1 => "none allowed".to_owned(),
        _ => format!("{} in a row allowed", row - 1),
    };
    let mut lines: Vec<String> = Vec::new();
    Some(match stalls.len() {
        0 if looked == 0 => finding(
            Outcome::Inconclusive,
            format!(
                "no CPU was busy in two captures in a row that are at least {} apart",
                time(BUSY_CLOCK_MOVES_NS)
            ),
        ),
        0 => finding(
            Outcome::Pass,
            format!(
                "{} between captures looked at, longest stand {}; {asked}",
                counted(looked, "busy time"),
                time(longest_ns)
            ),
        ),
        count => {
            let found = match count {
                1 => stalls.remove(0),
                _ => format!("{count} clocks of busy CPUs stood still, the longest for {}", time(longest_ns)),
            };
            lines.extend(listed(stalls));
            lines.extend(Clock::of(run).map(Clock::said));
            finding(Outcome::Fail, format!("{found}; {asked}")).with_lines(lines)
        }
    })
}

/// The CPUs that were busy in both captures, and whether their clocks stood; none where these may stand.
fn clocks(one: &Sample, two: &Sample) -> Vec<(Cpu, bool)> {
    if two.guest_ns.0.checked_sub(one.guest_ns.0).is_none_or(|apart| apart < BUSY_CLOCK_MOVES_NS) {
        return Vec::new();
    }
    let before = one.cpus.iter().filter(|cpu| is_busy(cpu)).map(|cpu| (cpu.cpu, cpu.clock_ns));
    let before: BTreeMap<Cpu, Option<u64>> = before.collect();
    let after = two.cpus.iter().filter(|cpu| is_busy(cpu));
    after.filter_map(|cpu| Some((cpu.cpu, *before.get(&cpu.cpu)? == cpu.clock_ns))).collect()
}

fn task(sample: &Sample, cpu: Cpu) -> String {
    let state = sample.cpus.iter().find(|state| state.cpu == cpu);
    let comm = state.and_then(|state| state.curr_comm.clone()).unwrap_or_else(|| "a task".to_owned());
    format!("{comm}[{}]", state.and_then(|state| state.curr_pid).unwrap_or_default())
}
