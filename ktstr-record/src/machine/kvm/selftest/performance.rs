//! Performance mode, as seen from outside of the machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ktstr_replay::trace::record::manifest::PerformancePart;
use kvm_ioctls::Kvm;
use rustix::thread::{CpuSet, Pid, sched_getaffinity};

use super::check::{Checked, Failure, PATIENCE, ends, ensure};
use crate::machine::error::StartError;
use crate::machine::host_cpus::HostCpus;
use crate::machine::kvm::means::Means;
use crate::machine::kvm::stats::Stats;
use crate::machine::kvm::vm::Vm;
use crate::machine::kvm::{exits, guests, tiny, tiny_kernel};
use crate::machine::performance::Tuning;
use crate::machine::placing::Placing;
use crate::machine::slots::CpuSlots;
use crate::machine::{StartPolicy, Started, start_for};
use crate::spec::{MachineSpec, Topology};

const ONE: Topology = Topology { numa_nodes: 1, llcs: 1, cores_per_llc: 1, threads_per_core: 1 };
/// Who is not let wait.
const HASTY: StartPolicy = StartPolicy {
    cold: false,
    boot_timeout: Duration::from_secs(60),
    patience: Duration::ZERO,
    say: |_| {},
    stop: || false,
};

fn started(spec: &MachineSpec, cache: &Path) -> Result<Started, StartError> {
    start_for(spec, b"no init", cache, HASTY, None)
}

/// A machine in performance mode has what it says, and a host that cannot give it says why.
pub(super) fn mode(_: &Kvm, _: Means) -> Checked {
    let folder = tempfile::tempdir()?;
    let host = HostCpus::read();
    let mut spec = tiny_kernel::machine(folder.path(), ONE)?;
    spec.performance = true;
    let cache = folder.path().join("cache");
    let placing = match Placing::of(ONE, &host) {
        Ok(placing) => placing,
        Err(why) => return refused(&spec, &cache, &why),
    };
    let Started { machine, start, .. } =
        started(&spec, &cache).map_err(|error| Failure::from(error.to_string()))?;
    let threads = machine.cpu_use().ok_or_else(|| Failure::from("no threads".to_owned()))?.threads;
    ensure!(threads.len() == 1, "{threads:?}");
    let thread = threads[0].id.cast_signed();
    let on = sched_getaffinity(Pid::from_raw(thread)).map_err(std::io::Error::from)?;
    let on: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| on.is_set(*cpu)).collect();
    ensure!(on.len() == 1, "the vCPU may run on CPUs {on:?}");
    let of = |what: &str| {
        let part = start.performance.iter().find(|part| part.what == what);
        part.ok_or_else(|| Failure::from(format!("nothing is said of {what}: {:?}", start.performance)))
    };
    for what in PerformancePart::ALL {
        ensure!(!of(what)?.detail.is_empty(), "{what} without a word");
    }
    let (own, llc) = (of(PerformancePart::CPUS)?, of(PerformancePart::LLC)?);
    ensure!(own.in_force && own.detail.starts_with(&format!("vCPUs 0 to 0 on {}", on[0])), "{own:?}");
    ensure!(llc.in_force, "{llc:?}");

    let raised = of(PerformancePart::REAL_TIME)?;
    // SAFETY: it takes a number and touches no memory.
    let policy = unsafe { libc::sched_getscheduler(thread) };
    ensure!((policy == libc::SCHED_FIFO) == raised.in_force, "policy {policy}, but {raised:?}");

    // Its memory is among that of this process, by the addresses at which it is mapped.
    let at = machine.ram().mapped().first().map_or(0, |mapped| mapped.host);
    let maps = fs::read_to_string("/proc/self/numa_maps").unwrap_or_default();
    let line = maps.lines().find(|line| line.starts_with(&format!("{at:x} "))).unwrap_or_default();
    let (nodes, huge) = (of(PerformancePart::NODES)?, of(PerformancePart::HUGE_PAGES)?);
    ensure!(line.contains(" bind:") == nodes.in_force, "{line:?}, but {nodes:?}");
    ensure!(line.split_whitespace().any(|word| word == "huge") == huge.in_force, "{line:?}, but {huge:?}");

    let second = |policy: &StartPolicy| CpuSlots::take(&cache, 1, &host, Some(&placing), policy);
    let alone = host.llcs.len() == 1;
    ensure!(
        !alone || matches!(second(&HASTY), Err(StartError::Busy { .. })),
        "two machines have the same cache"
    );
    if alone {
        let ordinary = CpuSlots::take(&cache, 1, &host, None, &HASTY);
        ensure!(
            matches!(ordinary, Err(StartError::Busy { .. })),
            "another machine runs in the reserved cache"
        );
    }
    drop(machine);
    // A child that is started at this moment, by whoever runs this, has a copy of each lock until its exec.
    let patient = StartPolicy { patience: PATIENCE, ..HASTY };
    second(&patient).map_err(|error| Failure::from(format!("after its end: {error}")))?;
    let told = start.performance.iter().map(|part| {
        format!("{}{}: {}", if part.in_force { "" } else { "refused, " }, part.what, part.detail)
    });
    Ok(told.collect::<Vec<_>>().join("\n"))
}

fn refused(spec: &MachineSpec, cache: &Path, why: &str) -> Checked {
    match started(spec, cache) {
        Err(error @ StartError::Performance { .. }) if error.to_string().contains(why) => {
            Ok(error.to_string())
        }
        Err(error) => Err(error.to_string().into()),
        Ok(_) => Err(format!("a machine in performance mode, though {why}").into()),
    }
}

/// How often a guest that halts and is woken 20 times left for it, and how often KVM looked out for its end.
fn halts(vm: &mut Vm) -> Result<[u64; 2], Failure> {
    let fds = vm.ask_all(Stats::of)?;
    // SAFETY: it was made for us a moment ago.
    let stats: Vec<Stats> = fds.into_iter().map(|fd| unsafe { Stats::take(fd) }).collect();
    ends(vm, ktstr_replay::trace::record::GuestEnd::PoweredOff)?;
    let count = |name: &str| {
        let count = stats[0].get(name)?;
        count.ok_or_else(|| Failure::from(format!("this KVM does not count {name}")))
    };
    Ok([count("halt_exits")?, count("halt_attempted_poll")?])
}

/// Whether halts stay in the guest is for this host's CPU to do, so that both numbers are said.
pub(super) fn suppressed(kvm: &Kvm, means: Means) -> Checked {
    let plain = halts(&mut tiny::vm(kvm, guests::timer(), 1, means)?)?;
    ensure!(plain[0] > 0, "a guest that halts 20 times never leaves for it");
    let host = crate::machine::host_cpus::HostCpus {
        llcs: vec![crate::machine::host_cpus::HostLlc {
            first: 0,
            cores: vec![vec![0], vec![1]],
            node: None,
        }],
        told: true,
        worth: 2,
    };
    let placement = Placing::of(ONE, &host).map_err(Failure::from)?.place(&host, |_| true);
    let placement = placement.ok_or_else(|| Failure::from("no place".to_owned()))?;
    let mut tuning = Tuning::new(placement, &host);
    let mut tuned = tiny::tuned(kvm, guests::timer(), 1, means, |vm| exits::suppress(vm, &mut tuning))?;
    let counts = halts(&mut tuned)?;
    let parts = tuning.into_parts();
    ensure!(parts.len() == 3, "{parts:?}");
    let told = parts.iter().map(|part| format!("{} {}: {}", part.what, part.in_force, part.detail));
    Ok(format!(
        "halts that left the guest: {} plainly, {} with it suppressed; polled for {} and {} times; {}",
        plain[0],
        counts[0],
        plain[1],
        counts[1],
        told.collect::<Vec<_>>().join(", ")
    ))
}
