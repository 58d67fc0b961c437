//! The emulated machine in performance mode: its vCPU's thread, seen from outside.

use std::fs;

use ktstr_record::machine::{Machine, StartError, StartKind, start};
use ktstr_record::spec::{MachineSpec, Topology};
use ktstr_replay::trace::record::manifest::PerformancePart;

use super::{CACHE, COLD, Guest, POWER_OFF, PROBE, WARM, spec};

fn machine(cores_per_llc: u32) -> MachineSpec {
    let topology = Topology { numa_nodes: 1, llcs: 1, cores_per_llc, threads_per_core: 1 };
    MachineSpec { topology, performance: true, ..spec() }
}

/// The line `name` of a thread's status.
fn status(thread: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{thread}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).trim().to_owned()
}

/// That the emulator's thread for the vCPU has one CPU, which none of its others may use; which.
fn has_a_cpu_of_its_own(machine: &dyn Machine) -> String {
    let threads: Vec<u32> = machine.cpu_use().unwrap().threads.iter().map(|thread| thread.id).collect();
    let (vcpus, others): (Vec<u32>, Vec<u32>) =
        threads.into_iter().partition(|thread| status(*thread, "Name").starts_with("CPU "));
    assert_eq!(vcpus.len(), 1);
    let on = status(vcpus[0], "Cpus_allowed_list");
    let own: u32 = on.parse().unwrap_or_else(|_| panic!("it may run on {on}"));
    for other in others {
        let on = status(other, "Cpus_allowed_list");
        let may = on.split(',').any(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            (first.parse::<u32>().unwrap()..=last.parse().unwrap()).contains(&own)
        });
        assert!(!may, "{} may run on {on}, the vCPU is on {own}", status(other, "Name"));
    }
    on
}

#[test]
fn a_vcpu_in_performance_mode_has_a_cpu_of_its_own_however_it_is_started() {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1));
    // As many vCPUs as CPUs leave none for the emulator's other threads.
    let refused = match start(&machine(cpus), &PROBE, &CACHE, COLD) {
        Err(error @ StartError::Performance { .. }) => error.to_string(),
        other => panic!("{:?}", other.map(|(_, start)| start)),
    };
    if cpus == 1 {
        return println!("not tested: {refused}");
    }
    assert!(refused.contains(&format!("{cpus} vCPUs and ktstr's own threads need")), "{refused}");

    for expected in [StartKind::BootedAndSaved, StartKind::Restored] {
        let mut guest = Guest::start(&machine(1), WARM);
        // The template is of an earlier run of this test, or of this one.
        assert!([expected, StartKind::Restored].contains(&guest.start.kind), "{:?}", guest.start);
        let on = has_a_cpu_of_its_own(&*guest.machine);
        let of = |what: &str| guest.start.performance.iter().find(|part| part.what == what).unwrap();
        let own = of(PerformancePart::CPUS);
        assert!(own.in_force && own.detail.starts_with(&format!("vCPUs 0 to 0 on {on}")), "{own:?}");
        assert!(of(PerformancePart::LLC).in_force);
        for what in [PerformancePart::HUGE_PAGES, PerformancePart::HALTS, PerformancePart::PAUSES] {
            assert!(!of(what).in_force && of(what).detail.contains("emulated"), "{:?}", of(what));
        }
        let told: Vec<&str> = guest.start.performance.iter().map(|part| part.what.as_str()).collect();
        assert_eq!(told, PerformancePart::ALL);
        // It does what any does.
        guest.ring();
        guest.machine.resume().unwrap();
        guest.order(POWER_OFF);
        guest.wait();
    }
}
