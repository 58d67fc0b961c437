//! The emulated machine in performance mode: its vCPU's thread, seen from outside.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ktstr_record::machine::{Machine, StartError, StartKind, start};
use ktstr_record::spec::{MachineSpec, Topology};
use ktstr_replay::trace::record::manifest::PerformancePart;

use super::{CACHE, COLD, Guest, LONG, POWER_OFF, PROBE, WARM, spec};

fn machine(cores_per_llc: u32) -> MachineSpec {
    let topology = Topology { numa_nodes: 1, llcs: 1, cores_per_llc, threads_per_core: 1 };
    MachineSpec { topology, performance: true, ..spec() }
}

/// The CPUs that a thread may run on; `None` of one that has ended.
fn allowed(thread: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    Some(line.unwrap_or_else(|| panic!("no CPUs: {text}")).trim().to_owned())
}

/// Whether this host has the mode for no machine: it has no CPU to spare, a cgroup has a quota, or it does not tell of caches. Asked of
/// the kernel, and not of what is tested.
fn is_refused_to_all(cpus: u32) -> bool {
    let own = allowed(std::process::id()).unwrap();
    let usable: Vec<u32> = (0..8192).filter(|cpu| has(&own, *cpu)).collect();
    let tells = |cpu: &u32| Path::new(&format!("/sys/devices/system/cpu/cpu{cpu}/cache/index2")).exists();
    cpus == 1 || usable.len() > cpus as usize || !usable.iter().all(tells)
}

/// Whether a list of CPUs has this one.
fn has(list: &str, cpu: u32) -> bool {
    list.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        (first.parse::<u32>().unwrap()..=last.parse().unwrap()).contains(&cpu)
    })
}

/// That one of the emulator's threads has CPU `own` and no other may run there; and that it is the one that emulates the vCPU: all
/// of them together come to have less time than it has.
fn has_a_cpu_of_its_own(machine: &dyn Machine, own: u32) {
    let threads = || machine.cpu_use().unwrap().threads;
    type Threads = Vec<(u32, String)>;
    let (on_it, others): (Threads, Threads) = threads()
        .iter()
        // The emulator's helpers come and go.
        .filter_map(|thread| Some((thread.id, allowed(thread.id)?)))
        .partition(|(_, list)| has(list, own));
    assert!(on_it.len() == 1 && !others.is_empty(), "threads on CPU {own}: {on_it:?}, others {others:?}");
    assert_eq!(on_it[0].1, own.to_string());
    let begun = Instant::now();
    loop {
        let (vcpu, others): (Vec<_>, Vec<_>) =
            threads().into_iter().partition(|thread| thread.id == on_it[0].0);
        if vcpu[0].ran > others.iter().map(|thread| thread.ran).sum() {
            return;
        }
        assert!(begun.elapsed() < LONG, "{vcpu:?} {others:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_vcpu_in_performance_mode_has_a_cpu_of_its_own_however_it_is_started() {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1));
    // As many vCPUs as CPUs leave none for the emulator's other threads.
    let refused = match start(&machine(cpus), &PROBE, &CACHE, COLD) {
        Err(error @ StartError::Performance { .. }) => error.to_string(),
        other => panic!("{:?}", other.map(|(_, start)| start)),
    };
    if is_refused_to_all(cpus) {
        let whys = ["own threads need", "which of its CPUs share a cache", "a cgroup's quota"];
        assert!(whys.iter().any(|why| refused.contains(why)), "{refused}");
        return println!("not tested: {refused}");
    }
    assert!(refused.contains(&format!("{cpus} vCPUs and ktstr's own threads need")), "{refused}");

    for expected in [StartKind::BootedAndSaved, StartKind::Restored] {
        let mut guest = Guest::start(&machine(1), WARM);
        // The template is of an earlier run of this test, or of this one.
        assert!([expected, StartKind::Restored].contains(&guest.start.kind), "{:?}", guest.start);
        let of = |what: &str| guest.start.performance.iter().find(|part| part.what == what).unwrap();
        let own = of(PerformancePart::CPUS);
        let on = own.detail.strip_prefix("vCPUs 0 to 0 on ").filter(|_| own.in_force);
        let on = on.and_then(|on| on.parse().ok()).unwrap_or_else(|| panic!("{own:?}"));
        has_a_cpu_of_its_own(&*guest.machine, on);
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
