//! What this host has, and what every kind of machine needs of it.

use std::fs;
use std::path::Path;

use super::error::StartError;
use crate::spec::{MachineSpec, Topology};

/// The least RAM, in MiB: the decompressed kernel fills the first 80, and the channel memory lies at half.
const MIN_MEMORY_MIB: u32 = 256;
/// The least RAM of a NUMA node, in MiB, that the kernel makes one of.
const MIN_NODE_MIB: u32 = 64;

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
        let free_bytes = available_bytes(&meminfo)
            .unwrap_or(u64::MAX)
            .min(cgroup_free_bytes(Path::new("/sys/fs/cgroup"), &cgroup).unwrap_or(u64::MAX));
        Self { cpus: host_cpus(), free_mib: free_bytes >> 20 }
    }

    /// Whether there is enough RAM for the guest of `spec` and for the `overhead_mib` that its machine takes besides.
    pub(super) fn check_memory(&self, spec: &MachineSpec, overhead_mib: u64) -> Result<(), StartError> {
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

    use super::{available_bytes, cgroup_free_bytes};

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
