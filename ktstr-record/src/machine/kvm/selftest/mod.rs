//! `ktstr selftest kvm`: what the KVM machine is made of, shown by tiny guests, and how long it takes.
//!
//! Nothing here asserts that something is fast enough: what is measured is said. That a guest did not get ahead of the time that it
//! was given is asserted, as no host is too busy for that.

mod check;
mod devices;
mod control;
mod clock;
mod state;
mod ioapic;
mod whole;
mod backend;
mod warm;
mod performance;
mod numbers;
#[cfg(test)]
mod second_process;

use std::time::{Duration, Instant};

use kvm_ioctls::Kvm;
use serde::Serialize;

use super::means::Means;
use super::probe::KvmProbe;
use check::{Checked, Failure};

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KvmSelfTest {
    /// What was tried.
    pub name: &'static str,
    /// What came of it.
    pub outcome: SelfTestOutcome,
    /// What was seen.
    pub detail: String,
    /// How long it took, in ms.
    pub took_ms: u64,
}

/// What came of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SelfTestOutcome {
    /// It is as it should be.
    Pass,
    /// It is not.
    Fail,
    /// A number, or a property of this host, which is neither.
    Measured,
    /// It cannot be tried here; the detail says why.
    NotRun,
}

/// One row: its name, what it does, and whether it checks or measures.
struct Row {
    name: &'static str,
    run: fn(&Kvm, Means) -> Checked,
    measures: bool,
}

const fn checks(name: &'static str, run: fn(&Kvm, Means) -> Checked) -> Row {
    Row { name, run, measures: false }
}

const fn measures(name: &'static str, run: fn(&Kvm, Means) -> Checked) -> Row {
    Row { name, run, measures: true }
}

const ROWS: &[Row] = &[
    checks("port input and output, console, doorbell", devices::ports),
    checks("memory-mapped input and output", devices::mmio),
    checks("interrupts of the local APIC's timer, HLT", devices::timer),
    checks("a triple fault", devices::triple_fault),
    checks("a panic and its reset", devices::panic),
    checks("a reset", devices::reset),
    checks("an internal error of KVM, decoded", devices::internal_error),
    checks("registers", control::registers),
    checks("two vCPUs, stopped and resumed 200 times", control::pauses),
    checks("no ring is lost among stops", control::rings_among_pauses),
    checks("a stop that the guest does not see", clock::unseen_stop),
    checks("a timer whose ticks do not add up in a stop", clock::unseen_ticks),
    checks("breakpoints, stepped over", control::breakpoints),
    checks("the guest's own debug exceptions", control::own_steps),
    checks("write watches by read-only pages", control::watches_by_pages),
    checks("write watches by this host's means", control::watches),
    checks("dirty log, exact to the page", state::dirty),
    checks("snapshot into a second VM", state::snapshot),
    checks("no state that is none is restored", state::hostile),
    checks("interrupts to APIC ids beyond 254, by an IOAPIC of ours", ioapic::to_a_high_id),
    checks("more vCPUs than the host has CPUs", control::crowd),
    checks("the machine, running and killed", whole::running),
    checks("the machine, to its guest's end", whole::to_its_end),
    checks(
        "a whole machine from its spec: boot protocol, INIT and SIPI, channel, doorbell, dirty pages",
        backend::whole,
    ),
    checks("a warm start from a template", warm::start_from_a_template),
    checks("a machine in performance mode has what it says", performance::mode),
    measures("halts, with and without exits", performance::suppressed),
    measures("from nothing to the first instruction", numbers::creation),
    measures("from a spec to a guest that waits for its job", backend::boots),
    measures("stop of two busy vCPUs", numbers::pause),
    measures("save and restore of two vCPUs", numbers::save_and_restore),
];

/// This host's KVM, and what the probe says of it.
///
/// # Errors
/// In words, when it cannot be tried.
fn open() -> Result<(Kvm, KvmProbe), String> {
    let probe = KvmProbe::fresh();
    if matches!(probe, KvmProbe::NoDevice | KvmProbe::PermissionDenied { .. } | KvmProbe::Lacks { .. }) {
        return Err(probe.to_string());
    }
    let kvm =
        Kvm::new().map_err(|error| format!("could not open /dev/kvm: {}", std::io::Error::from(error)))?;
    Ok((kvm, probe))
}

/// Run all of it on this host's KVM, and tell `each` of every row when it is done.
///
/// # Errors
/// In words, when there is no KVM that can be tried.
pub fn selftest_kvm(mut each: impl FnMut(&KvmSelfTest)) -> Result<Vec<KvmSelfTest>, String> {
    let begun = Instant::now();
    let (kvm, probe) = open()?;
    let mut done = Vec::new();
    let mut add = |name, outcome, detail: String, took: Duration| {
        let row = KvmSelfTest { name, outcome, detail, took_ms: took.as_millis() as u64 };
        each(&row);
        done.push(row);
    };
    add("this host's KVM", SelfTestOutcome::Measured, probe.to_string(), begun.elapsed());
    let begun = Instant::now();
    let watching = "how guests are watched here";
    let means = match Means::of(&kvm) {
        Ok(means) => means,
        // There is a KVM, and the machine does not run on it: nothing else can be tried, and that is no pass.
        Err(error) => {
            add(watching, SelfTestOutcome::Fail, Failure::from(error).to_string(), begun.elapsed());
            return Ok(done);
        }
    };
    add(watching, SelfTestOutcome::Measured, means.to_string(), begun.elapsed());
    for row in ROWS {
        let begun = Instant::now();
        let (outcome, detail) = match (row.run)(&kvm, means) {
            Ok(detail) if row.measures => (SelfTestOutcome::Measured, detail),
            Ok(detail) => (SelfTestOutcome::Pass, detail),
            Err(failure) => (SelfTestOutcome::Fail, failure.to_string()),
        };
        add(row.name, outcome, detail, begun.elapsed());
    }
    Ok(done)
}
