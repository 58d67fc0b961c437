//! What this host has, and what every kind of machine needs of it.

use std::fs;
use std::path::Path;

use super::error::StartError;
use crate::spec::{MachineSpec, Topology};

/// The least RAM, in MiB: the decompressed kernel fills the first 80, and the channel memory lies at half.
const MIN_MEMORY_MIB: u32 = 256;
/// The least RAM of a NUMA node, in MiB, that the kernel makes one of.
const MIN_NODE_MIB: u32 = 64;
/// vCPUs for each CPU of the host with which a guest, emulated or not, still boots and keeps its watchdogs quiet.
const OVERCOMMIT: u32 = 16;

/// What this host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostLimits {
    /// CPUs that this process may use.
    pub(super) cpus: u32,
    /// Memory that can be had without swapping, in MiB.
    pub(super) free_mib: u64,
}

impl HostLimits {
    /// Ask the host: affinity mask, `MemAvailable`, and the limits of the cgroups above this process.
    pub(super) fn measure() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let free_bytes = meminfo_bytes(&meminfo, "MemAvailable:")
            .unwrap_or(u64::MAX)
            .min(cgroup_bytes(Path::new("/sys/fs/cgroup"), &cgroup, u64::saturating_sub).unwrap_or(u64::MAX));
        Self { cpus: host_cpus(), free_mib: free_bytes >> 20 }
    }

    /// What the host has when nothing else runs on it: `MemTotal`, and what its cgroups allow.
    pub(super) fn capacity() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let bytes = meminfo_bytes(&meminfo, "MemTotal:")
            .unwrap_or(u64::MAX)
            .min(cgroup_bytes(Path::new("/sys/fs/cgroup"), &cgroup, |max, _| max).unwrap_or(u64::MAX));
        Self { cpus: host_cpus(), free_mib: bytes >> 20 }
    }

    /// Whether the host has the CPUs, the memory and the file of the kernel for the machine of `spec`, which takes `overhead_mib`
    /// besides the guest's RAM. `can` is what the host does with vCPUs: it can "run" so many.
    pub(super) fn check(&self, spec: &MachineSpec, can: &str, overhead_mib: u64) -> Result<(), StartError> {
        let (topology, cpus) = (spec.topology, spec.topology.cpus());
        let carried = self.cpus.saturating_mul(OVERCOMMIT);
        if cpus > carried {
            let limit = format!("but this host's {} CPUs can {can} {carried} ({OVERCOMMIT} each)", self.cpus);
            return Err(StartError::TooManyCpus { topology, cpus, limit });
        }
        self.check_memory(spec, overhead_mib)?;
        if spec.kaslr && spec.kernel.bzimage.is_none() {
            return Err(StartError::NoBzImage { kernel: spec.kernel.asked.clone() });
        }
        Ok(())
    }

    fn check_memory(&self, spec: &MachineSpec, overhead_mib: u64) -> Result<(), StartError> {
        let asked_mib = u64::from(spec.memory_mib);
        let least_mib = MIN_MEMORY_MIB.max(spec.topology.numa_nodes.saturating_mul(MIN_NODE_MIB)).into();
        if asked_mib < least_mib {
            return Err(StartError::TooLittleMemory { asked_mib, least_mib });
        }
        if asked_mib + overhead_mib > self.free_mib {
            return Err(StartError::TooMuchMemory { asked_mib, overhead_mib, free_mib: self.free_mib });
        }
        Ok(())
    }
}

/// CPUs of the host that this process may use.
pub(super) fn host_cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

/// Whether there can be such a topology at all.
pub(super) fn check_topology(topology: Topology) -> Result<(), StartError> {
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
    Ok(())
}

fn meminfo_bytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least of what `of` makes of `memory.max` and `memory.current`, in the cgroup (version 2) of this process and those above it.
fn cgroup_bytes(mount: &Path, proc_self_cgroup: &str, of: impl Fn(u64, u64) -> u64) -> Option<u64> {
    let own = proc_self_cgroup.lines().find_map(|l| l.strip_prefix("0::/"))?;
    let number = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    mount
        .join(own)
        .ancestors()
        .take_while(|folder| folder.starts_with(mount))
        .filter_map(|folder| {
            let max = number(&folder.join("memory.max"))?;
            Some(of(max, number(&folder.join("memory.current")).unwrap_or(0)))
        })
        .min()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{cgroup_bytes, meminfo_bytes};

    #[test]
    fn free_memory_is_the_least_of_all_levels() {
        let meminfo = "MemTotal: 9 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(meminfo_bytes(meminfo, "MemAvailable:"), Some(2 << 20));
        assert_eq!(meminfo_bytes(meminfo, "MemTotal:"), Some(9 << 10));
        assert_eq!(meminfo_bytes("MemTotal: 9 kB\n", "MemAvailable:"), None);
        let mount = tempfile::tempdir().unwrap();
        let inner = mount.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        fs::write(mount.path().join("a/memory.max"), "1000\n").unwrap();
        fs::write(mount.path().join("a/memory.current"), "400\n").unwrap();
        let free = |of: &str| cgroup_bytes(mount.path(), of, u64::saturating_sub);
        assert_eq!(free("0::/a/b\n"), Some(600));
        assert_eq!(cgroup_bytes(mount.path(), "0::/a/b\n", |max, _| max), Some(1000));
        assert_eq!(free("0::/\n"), None);
        assert_eq!(free("1:memory:/a\n"), None);
    }
}
