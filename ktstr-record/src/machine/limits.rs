//! What the machine and the host can hold, asked before anything starts.

use std::fs;
use std::path::Path;

use super::StartError;
use crate::spec::{MachineSpec, Topology};

/// vCPUs that the emulated board has room for.
pub const MAX_VCPUS: u32 = 255;
/// vCPUs for each CPU of the host that an emulated guest still boots and keeps its watchdogs quiet with.
pub const OVERCOMMIT: u32 = 16;
/// The least RAM, in MiB: the decompressed kernel fills the first 80, and the channel's hole lies at half.
pub const MIN_MEMORY_MIB: u32 = 256;
/// The least RAM of a NUMA node, in MiB, that the kernel makes one of.
const MIN_NODE_MIB: u32 = 64;
/// What the emulator takes beside the guest's RAM, in MiB (measured: 97 of translated code and heap for 2 vCPUs).
const OVERHEAD_MIB: u64 = 160;

/// What this host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// CPUs that this process may use.
    pub cpus: u32,
    /// Memory that can be had without swapping, in MiB.
    pub free_mib: u64,
}

impl HostLimits {
    /// Ask the host: affinity mask, `MemAvailable`, and the limits of the cgroups above this process.
    pub fn measure() -> Self {
        let cpus =
            std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let free_bytes = available_bytes(&meminfo)
            .unwrap_or(u64::MAX)
            .min(cgroup_free_bytes(Path::new("/sys/fs/cgroup"), &cgroup).unwrap_or(u64::MAX));
        Self { cpus, free_mib: free_bytes >> 20 }
    }

    /// Whether `spec` can run here.
    ///
    /// # Errors
    /// A [`StartError`] that says which limit it exceeds.
    pub fn check(&self, spec: &MachineSpec) -> Result<(), StartError> {
        check_topology(spec.topology)?;
        let (topology, cpus) = (spec.topology, spec.topology.cpus());
        let carried = self.cpus.saturating_mul(OVERCOMMIT);
        if cpus > carried {
            let limit =
                format!("but this host's {} CPUs can emulate {carried} ({OVERCOMMIT} each)", self.cpus);
            return Err(StartError::TooManyCpus { topology, cpus, limit });
        }
        let asked_mib = u64::from(spec.memory_mib);
        let least_mib = MIN_MEMORY_MIB.max(spec.topology.numa_nodes.saturating_mul(MIN_NODE_MIB)).into();
        if asked_mib < least_mib {
            return Err(StartError::TooLittleMemory { asked_mib, least_mib });
        }
        if asked_mib + OVERHEAD_MIB > self.free_mib {
            let (overhead_mib, free_mib) = (OVERHEAD_MIB, self.free_mib);
            return Err(StartError::TooMuchMemory { asked_mib, overhead_mib, free_mib });
        }
        if spec.kaslr && spec.kernel.bzimage.is_none() {
            return Err(StartError::NoBzImage { kernel: spec.kernel.asked.clone() });
        }
        Ok(())
    }
}

fn check_topology(topology: Topology) -> Result<(), StartError> {
    let Topology { numa_nodes, llcs, cores_per_llc, threads_per_core } = topology;
    let impossible = |why: String| Err(StartError::Topology { topology, why });
    let dimensions =
        [("numa_nodes", numa_nodes), ("llcs", llcs), ("cores", cores_per_llc), ("threads", threads_per_core)];
    for (name, value) in dimensions {
        if value == 0 {
            return impossible(format!("{name} is 0"));
        }
    }
    if llcs % numa_nodes != 0 {
        return impossible(format!("{llcs} LLCs do not divide among {numa_nodes} NUMA nodes"));
    }
    let cpus = topology.cpus();
    let too_many = |limit: String| Err(StartError::TooManyCpus { topology, cpus, limit });
    if cpus > MAX_VCPUS {
        return too_many(format!("but the emulated board has room for {MAX_VCPUS}"));
    }
    // An APIC id has a field of whole bits for each level (Intel SDM 3A, 10.12.8), so that three cores take the
    // room of four. Its last value is the broadcast.
    let apic_ids = u64::from(llcs)
        * u64::from(cores_per_llc.next_power_of_two())
        * u64::from(threads_per_core.next_power_of_two());
    if apic_ids > u64::from(MAX_VCPUS) {
        return too_many(format!(
            "which spread over {apic_ids} APIC ids (cores and threads round up to powers of two) of the \
             {MAX_VCPUS} that the emulated board has"
        ));
    }
    Ok(())
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least room below `memory.max` in the cgroup (version 2) of this process and those above it.
fn cgroup_free_bytes(mount: &Path, proc_self_cgroup: &str) -> Option<u64> {
    let own = proc_self_cgroup.lines().find_map(|l| l.strip_prefix("0::/"))?;
    let number = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    mount
        .join(own)
        .ancestors()
        .take_while(|folder| folder.starts_with(mount))
        .filter_map(|folder| {
            let max = number(&folder.join("memory.max"))?;
            Some(max.saturating_sub(number(&folder.join("memory.current")).unwrap_or(0)))
        })
        .min()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{HostLimits, available_bytes, cgroup_free_bytes};
    use crate::machine::{StartError, test_spec};
    use crate::spec::{MachineSpec, Topology};

    const HOST: HostLimits = HostLimits { cpus: 16, free_mib: 8000 };

    fn spec(numa_nodes: u32, llcs: u32, cores_per_llc: u32, threads_per_core: u32) -> MachineSpec {
        MachineSpec {
            topology: Topology { numa_nodes, llcs, cores_per_llc, threads_per_core },
            ..test_spec()
        }
    }

    fn refusal(spec: &MachineSpec) -> String {
        HOST.check(spec).unwrap_err().to_string()
    }

    #[test]
    fn usual_machines_are_fine() {
        for (n, l, c, t) in [(1, 1, 2, 1), (2, 4, 4, 2), (1, 15, 8, 2), (1, 1, 128, 1), (3, 15, 2, 2)] {
            HOST.check(&spec(n, l, c, t)).unwrap();
        }
    }

    #[test]
    fn impossible_topologies_are_named() {
        assert!(refusal(&spec(0, 1, 2, 1)).contains("numa_nodes is 0"));
        assert!(refusal(&spec(1, 1, 0, 1)).contains("cores is 0"));
        assert!(refusal(&spec(2, 3, 2, 1)).contains("3 LLCs do not divide among 2 NUMA nodes"));
        assert!(
            refusal(&spec(1, 16, 16, 1)).contains("has 256 vCPUs, but the emulated board has room for 255")
        );
        assert!(refusal(&spec(1, 14, 9, 2)).contains("448 APIC ids"));
        assert!(refusal(&spec(1, u32::MAX, u32::MAX, 2)).contains("room for 255"));
    }

    #[test]
    fn a_small_host_refuses_many_vcpus() {
        let small = HostLimits { cpus: 2, free_mib: 8000 };
        let message = small.check(&spec(1, 1, 33, 1)).unwrap_err().to_string();
        assert!(message.contains("this host's 2 CPUs can emulate 32 (16 each)"), "{message}");
        small.check(&spec(1, 1, 32, 1)).unwrap();
    }

    #[test]
    fn memory_must_be_free_and_enough() {
        let mut machine = spec(1, 1, 2, 1);
        machine.memory_mib = 8000;
        assert!(refusal(&machine).contains("the host has 8000 MiB free"));
        machine.memory_mib = 64;
        assert!(refusal(&machine).contains("64 MiB of RAM are too few"));
        let mut nodes = spec(8, 8, 1, 1);
        nodes.memory_mib = 511;
        assert!(refusal(&nodes).contains("need 512 MiB"));
    }

    #[test]
    fn kaslr_needs_a_bzimage() {
        let mut machine = spec(1, 1, 2, 1);
        machine.kaslr = true;
        assert!(matches!(HOST.check(&machine), Err(StartError::NoBzImage { .. })));
    }

    #[test]
    fn free_memory_is_the_least_of_all_levels() {
        assert_eq!(available_bytes("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(available_bytes("MemTotal: 9 kB\n"), None);
        let mount = tempfile::tempdir().unwrap();
        let inner = mount.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        fs::write(mount.path().join("a/memory.max"), "1000\n").unwrap();
        fs::write(mount.path().join("a/memory.current"), "400\n").unwrap();
        assert_eq!(cgroup_free_bytes(mount.path(), "0::/a/b\n"), Some(600));
        assert_eq!(cgroup_free_bytes(mount.path(), "0::/\n"), None);
        assert_eq!(cgroup_free_bytes(mount.path(), "1:memory:/a\n"), None);
    }
}
