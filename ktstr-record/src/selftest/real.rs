//! A kernel of the archive on the KVM machine. Only where the probe finds that the CPU executes guests.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ktstr_replay::kernel::KernelProfile;
use ktstr_replay::trace::record::EventBody;

use super::alike;
use super::recorded::{ended_well, ensure, job, trace};
use super::{Checked, said};
use crate::init_image;
use crate::machine::{KvmProbe, Machine, MachineEvent, Start, StartKind, StartPolicy, Watch, WatchId, start};
use crate::provision::{KernelSpec, Provisioner};
use crate::recorder::PageSelection;
use crate::spec::{BackendSpec, Emulator, Kernel, KvmBoots, KvmSpec, MachineSpec, Topology};

/// Boots in a row.
const BOOTS: usize = 100;
/// Stops of a running kernel.
const PAUSES: usize = 200;
/// How long a kernel may take to what it does thousands of times a second.
const PATIENCE: Duration = Duration::from_secs(10);
const PLAIN: Topology = Topology { numa_nodes: 1, llcs: 1, cores_per_llc: 2, threads_per_core: 1 };
/// Machines on which each level of a topology shows: three cores leave APIC ids out.
const TOPOLOGIES: [Topology; 4] = [
    Topology { numa_nodes: 1, llcs: 1, cores_per_llc: 1, threads_per_core: 1 },
    Topology { numa_nodes: 1, llcs: 2, cores_per_llc: 3, threads_per_core: 1 },
    Topology { numa_nodes: 2, llcs: 2, cores_per_llc: 2, threads_per_core: 2 },
    Topology { numa_nodes: 2, llcs: 4, cores_per_llc: 2, threads_per_core: 1 },
];

/// Its name, and what it does.
type Row = (&'static str, fn(&Host) -> Checked);

/// The rows, in their order.
pub(super) const ROWS: [Row; 6] = [
    ("a kernel to init, its topology as declared, recorded", topologies),
    ("100 boots in a row", boots),
    ("a test of 12 s, recorded", twelve_seconds),
    ("a running kernel, stopped 200 times", pauses),
    ("watches of a running kernel", watches),
    ("a machine saved at init and restored", saved),
];

/// The row after them, which needs an emulator besides.
pub(super) const ON_BOTH: &str = "one test on kvm and on qemu, compared claim by claim";

/// What the rows need.
pub(super) struct Host {
    kernel: Kernel,
    provisioner: Provisioner,
    cache: PathBuf,
}

impl Host {
    /// This host, if it executes guests.
    pub(super) fn find() -> Result<Self, String> {
        let probe = KvmProbe::fresh();
        if !probe.executes() {
            return Err(format!("no kernel runs on this KVM: {probe}"));
        }
        let provisioner = Provisioner::open().map_err(|error| said(&error))?;
        let kernel = provisioner.kernel(&KernelSpec::Latest).map_err(|error| said(&error))?;
        let cache = provisioner.cache().root().to_owned();
        Ok(Self { kernel, provisioner, cache })
    }

    /// What the emulated machine runs in: whoever has KVM need not have it, nor an archive to fetch it of.
    pub(super) fn emulator(&self) -> Result<Emulator, String> {
        self.provisioner.emulator().map_err(|error| format!("there is no emulated machine: {}", said(&error)))
    }

    fn machine(&self, topology: Topology, templates: bool) -> MachineSpec {
        MachineSpec {
            backend: BackendSpec::Kvm(KvmSpec { boots: KvmBoots::Kernel, templates }),
            kernel: self.kernel.clone(),
            topology,
            memory_mib: 512,
            kaslr: self.kernel.bzimage.is_some(),
            kargs: Vec::new(),
            performance: false,
        }
    }

    /// A machine whose init waits for its job, and how long that took.
    fn started(&self, spec: &MachineSpec, cache: &Path) -> Result<(Box<dyn Machine>, Start), String> {
        let (machine, began) =
            start(spec, init_image(), cache, StartPolicy::default()).map_err(|error| said(&error))?;
        match began.faults.first() {
            Some(fault) => Err(format!("it came up after a fault: {fault}")),
            None => Ok((machine, began)),
        }
    }
}

/// `len` CPUs from `first` on, as `/sys` lists them.
fn list(first: u32, len: u32) -> String {
    if len == 1 { first.to_string() } else { format!("{first}-{}", first + len - 1) }
}

/// What of `/sys` says where CPU `cpu` of `topology` is, and what it must be.
fn expected(topology: Topology, cpu: u32) -> [(String, String); 3] {
    let Topology { numa_nodes, cores_per_llc, threads_per_core, .. } = topology;
    let group = |len: u32| list(cpu / len * len, len);
    let of = |file: &str| format!("/sys/devices/system/cpu/cpu{cpu}/{file}");
    [
        (of("topology/core_cpus_list"), group(threads_per_core)),
        (of("cache/index3/shared_cpu_list"), group(threads_per_core * cores_per_llc)),
        (of("topology/package_cpus_list"), group(topology.cpus() / numa_nodes)),
    ]
}

fn topologies(host: &Host) -> Checked {
    for topology in TOPOLOGIES {
        let folder = tempfile::tempdir().map_err(|error| said(&error))?;
        let mut expected: Vec<_> = (0..topology.cpus()).flat_map(|cpu| expected(topology, cpu)).collect();
        let cpus = topology.cpus() / topology.numa_nodes;
        expected.extend(
            (0..topology.numa_nodes).map(|node| {
                (format!("/sys/devices/system/node/node{node}/cpulist"), list(node * cpus, cpus))
            }),
        );
        let files: Vec<String> = expected.iter().map(|(file, _)| file.clone()).collect();
        let job = job(Path::new("/bin/cat"), &files)?;
        let trace = trace(folder.path(), host.machine(topology, false), job, PageSelection::Kernel, &[])?;
        let output: Vec<u8> = trace
            .events()
            .into_iter()
            .filter_map(|event| match event.body {
                EventBody::Output { bytes, stderr: false, .. } => Some(bytes),
                _ => None,
            })
            .flatten()
            .collect();
        let output = String::from_utf8_lossy(&output).into_owned();
        let lines: Vec<&str> = output.lines().collect();
        ensure(lines.len() == files.len(), || {
            format!("{topology}: {} of {} files: {output}", lines.len(), files.len())
        })?;
        for ((file, expected), found) in expected.iter().zip(lines) {
            ensure(found == expected, || format!("{topology}: {file} is {found}, declared {expected}"))?;
        }
    }
    Ok(format!(
        "{}, each with its nodes, packages, LLCs and cores",
        TOPOLOGIES.map(|t| t.to_string()).join(", ")
    ))
}

/// What is promised of a time, and whether it came so. To miss it fails no row: that the host is busy, or itself a VM, is enough for that.
fn target(took: Duration, most: Duration) -> String {
    format!("target {most:?}, {}", if took <= most { "met" } else { "missed" })
}

fn boots(host: &Host) -> Checked {
    let spec = host.machine(PLAIN, false);
    let mut times = Vec::new();
    for nth in 1..=BOOTS {
        let (_, began) = host.started(&spec, &host.cache).map_err(|why| format!("boot {nth}: {why}"))?;
        times.push(began.duration);
    }
    times.sort_unstable();
    let median = times[BOOTS / 2];
    let target = target(median, Duration::from_millis(250));
    Ok(format!("to init p50 {median:.0?} ({target}), longest {:.0?}", times[BOOTS - 1]))
}

/// From nothing to its trace, in which the kernel's memory is captured once more at the end.
fn twelve_seconds(host: &Host) -> Checked {
    let folder = tempfile::tempdir().map_err(|error| said(&error))?;
    let job = job(Path::new("/bin/sleep"), &["12".into()])?;
    let begun = Instant::now();
    let trace = trace(folder.path(), host.machine(PLAIN, false), job, PageSelection::Kernel, &[])?;
    let took = begun.elapsed();
    ended_well(&trace)?;
    ensure(took >= Duration::from_secs(12), || format!("it took {took:?}"))?;
    Ok(format!("{took:.2?} ({})", target(took, Duration::from_millis(12_800))))
}

fn pauses(host: &Host) -> Checked {
    let (mut machine, _) = host.started(&host.machine(PLAIN, false), &host.cache)?;
    let mut times = Vec::new();
    for _ in 0..PAUSES {
        if let Some(event) = machine.wait_event(Duration::from_millis(2)) {
            return Err(format!("{event:?}"));
        }
        times.push(machine.pause().map_err(|error| said(&error))?);
        let registers = machine.registers().map_err(|error| said(&error))?;
        ensure(registers.len() == 2, || format!("registers of {} vCPUs", registers.len()))?;
        machine.resume().map_err(|error| said(&error))?;
    }
    times.sort_unstable();
    Ok(format!("p50 {:.0?}, longest {:.0?}", times[PAUSES / 2], times[PAUSES - 1]))
}

fn profile(machine: &dyn Machine) -> Result<KernelProfile, String> {
    KernelProfile::from_memory(&*machine.ram()).map_err(|error| said(&error))
}

fn address(profile: &KernelProfile, symbol: &str) -> Result<u64, String> {
    let found = profile.symbols().address(symbol);
    found.map(|at| at.0).ok_or_else(|| format!("the kernel has no symbol {symbol}"))
}

/// `machine` must stop so often by `watch`, and goes on without it then.
fn fires(machine: &mut dyn Machine, id: WatchId, watch: Watch, times: u32) -> Result<(), String> {
    machine.pause().map_err(|error| said(&error))?;
    machine.arm(id, watch).map_err(|error| said(&error))?;
    for nth in 1..=times {
        machine.resume().map_err(|error| said(&error))?;
        let fired = machine.wait_event(PATIENCE);
        let is_it = matches!(fired, Some(MachineEvent::Watch { id: fired, .. }) if fired == id);
        ensure(is_it, || format!("{watch:x?}, time {nth}: {fired:?}"))?;
    }
    machine.disarm(id).map_err(|error| said(&error))?;
    machine.resume().map_err(|error| said(&error))?;
    Ok(())
}

fn watches(host: &Host) -> Checked {
    let (mut machine, _) = host.started(&host.machine(PLAIN, false), &host.cache)?;
    let profile = profile(&*machine)?;
    let store = Watch::Write { at: address(&profile, "jiffies_64")?, bytes: 8 };
    let execute = Watch::Execute { at: address(&profile, "sched_tick")? };
    for (id, watch) in [(WatchId(1), store), (WatchId(2), execute)] {
        if matches!(watch, Watch::Execute { .. }) && !machine.watch_support().execute {
            continue;
        }
        fires(&mut *machine, id, watch, 20)?;
    }
    Ok("twenty stores to jiffies_64 and twenty calls of sched_tick".into())
}

fn saved(host: &Host) -> Checked {
    let cache = tempfile::tempdir().map_err(|error| said(&error))?;
    let spec = host.machine(PLAIN, true);
    let (first, booted) = host.started(&spec, cache.path())?;
    // Where it is in all that are restored from this one, too.
    let jiffies = address(&profile(&*first)?, "jiffies_64")?;
    drop(first);
    ensure(booted.kind == StartKind::BootedAndSaved, || format!("{booted:?}"))?;
    let mut shortest = Duration::MAX;
    for nth in 1..=20 {
        let (mut machine, began) = host.started(&spec, cache.path())?;
        ensure(began.kind == StartKind::Restored, || format!("time {nth}: {began:?}"))?;
        // It lives: its timer's interrupts arrive and it counts them, and nothing ends it.
        fires(&mut *machine, WatchId(1), Watch::Write { at: jiffies, bytes: 8 }, 5)
            .map_err(|why| format!("restore {nth}: {why}; {}", machine.console_text()))?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(200) {
            if let Some(event) = machine.wait_event(Duration::from_millis(20)) {
                return Err(format!("time {nth}: {event:?}; {}", machine.console_text()));
            }
        }
        shortest = shortest.min(began.duration);
    }
    Ok(format!("boot {:.0?}, restore {shortest:.0?}, twenty times", booted.duration))
}

pub(super) fn on_both(host: &Host, emulator: &Emulator) -> Checked {
    let kvm = host.machine(PLAIN, false);
    let qemu = MachineSpec { backend: BackendSpec::Qemu(emulator.clone()), ..kvm.clone() };
    alike::on_both([("kvm", kvm), ("qemu", qemu)])
}
