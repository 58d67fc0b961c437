//! The CPUs of the running machine, as its `/sys` shows them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ktstr_record::spec::Topology;

use crate::cpu_set::{CpuListError, CpuSet};

/// The CPUs of the running machine and how they share.
///
/// ```
/// use ktstr::prelude::*;
///
/// fn body(ctx: &Ctx) -> Result<AssertResult> {
///     ensure!(ctx.topo.llcs.len() == 2, "a machine of two LLCs: {:?}", ctx.topo.llcs);
///     let first = CgroupDef::named("first").cpuset(CpusetSpec::Exact(ctx.topo.llcs[0].clone()));
///     execute_defs(ctx, vec![first])
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestTopology {
    /// Every online CPU.
    pub cpus: CpuSet,
    /// The CPUs of each core.
    pub cores: Vec<CpuSet>,
    /// The CPUs of each last-level cache, ascending by their first CPU.
    pub llcs: Vec<CpuSet>,
    /// The CPUs of each NUMA node, ascending by node.
    pub numa_nodes: Vec<CpuSet>,
}

/// Why `/sys` did not tell the topology.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// A file could not be read.
    #[error("could not read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold a CPU list.
    #[error("{} is not understood", path.display())]
    List {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: CpuListError,
    },
    /// The machine is not the one that was declared.
    #[error("the guest's /sys shows {found}, but the test declares {declared}{why}")]
    Differs {
        /// What `/sys` shows, as `1n2l4c1t`.
        found: String,
        /// What the test declares.
        declared: Topology,
        /// Why, where that is known, as the end of the sentence.
        why: String,
    },
}

impl GuestTopology {
    /// Read it from a `/sys` mounted at `sys`.
    ///
    /// Where CPUs have no `cache` folder their package counts as their LLC, and where the kernel knows no NUMA
    /// all CPUs are in one node. Source: `Documentation/ABI/stable/sysfs-devices-system-cpu` and `...-node`.
    ///
    /// # Errors
    /// A file that is missing or does not hold a CPU list.
    pub fn read(sys: &Path) -> Result<Self, TopologyError> {
        let cpu_dir = sys.join("devices/system/cpu");
        let cpus = list(&cpu_dir.join("online"))?;
        let mut cores = BTreeSet::new();
        let mut llcs = BTreeSet::new();
        for cpu in cpus.iter() {
            let dir = cpu_dir.join(format!("cpu{cpu}"));
            cores.insert(list(&dir.join("topology/thread_siblings_list"))?);
            llcs.insert(match last_level_cache(&dir.join("cache"))? {
                Some(set) => set,
                None => list(&dir.join("topology/core_siblings_list"))?,
            });
        }
        let mut numa_nodes = Vec::new();
        let node_dir = sys.join("devices/system/node");
        if node_dir.join("online").exists() {
            for node in list(&node_dir.join("online"))?.iter() {
                let set = list(&node_dir.join(format!("node{node}/cpulist")))?;
                if !set.is_empty() {
                    numa_nodes.push(set);
                }
            }
        }
        if numa_nodes.is_empty() {
            numa_nodes.push(cpus.clone());
        }
        Ok(Self { cpus, cores: cores.into_iter().collect(), llcs: llcs.into_iter().collect(), numa_nodes })
    }

    /// Whether the machine is the one that was declared: the same counts, and every LLC, core and node of the
    /// same size. Where it differs, the `/sys` mounted at `sys` may say why.
    ///
    /// # Errors
    /// `TopologyError::Differs`.
    pub fn check(&self, declared: Topology, sys: &Path) -> Result<(), TopologyError> {
        let even = |sets: &[CpuSet], count: u32, size: u32| {
            u32::try_from(sets.len()) == Ok(count)
                && sets.iter().all(|set| u32::try_from(set.len()) == Ok(size))
        };
        let Topology { numa_nodes, llcs, cores_per_llc, threads_per_core } = declared;
        let cpus = declared.cpus();
        let same = u32::try_from(self.cpus.len()) == Ok(cpus)
            && even(&self.cores, llcs * cores_per_llc, threads_per_core)
            && even(&self.llcs, llcs, cores_per_llc * threads_per_core)
            && even(&self.numa_nodes, numa_nodes, cpus / numa_nodes);
        match same {
            true => Ok(()),
            false => {
                let why = match most_cpus(sys).filter(|&most| most < cpus) {
                    Some(most) => format!(": this kernel was built for at most {most} CPUs (CONFIG_NR_CPUS)"),
                    None => String::new(),
                };
                Err(TopologyError::Differs { found: self.describe(), declared, why })
            }
        }
    }

    fn describe(&self) -> String {
        let sets = |sets: &[CpuSet]| sets.iter().map(CpuSet::to_string).collect::<Vec<_>>().join(" | ");
        format!(
            "CPUs {}, NUMA nodes {}, LLCs {}, cores {}",
            self.cpus,
            sets(&self.numa_nodes),
            sets(&self.llcs),
            sets(&self.cores)
        )
    }
}

/// How many CPUs the kernel was built for.
fn most_cpus(sys: &Path) -> Option<u32> {
    let last = fs::read_to_string(sys.join("devices/system/cpu/kernel_max")).ok()?;
    last.trim().parse::<u32>().ok()?.checked_add(1)
}

/// CPUs that share the cache of the highest level; `None` where the CPU shows no caches.
fn last_level_cache(dir: &Path) -> Result<Option<CpuSet>, TopologyError> {
    let mut last: Option<(u32, PathBuf)> = None;
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(None);
    };
    for entry in entries.flatten() {
        let level =
            fs::read_to_string(entry.path().join("level")).ok().and_then(|text| text.trim().parse().ok());
        if let Some(level) = level
            && last.as_ref().is_none_or(|(highest, _)| level > *highest)
        {
            last = Some((level, entry.path()));
        }
    }
    last.map(|(_, path)| list(&path.join("shared_cpu_list"))).transpose()
}

fn list(path: &Path) -> Result<CpuSet, TopologyError> {
    let text =
        fs::read_to_string(path).map_err(|source| TopologyError::Read { path: path.to_owned(), source })?;
    text.parse().map_err(|source| TopologyError::List { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A `/sys` with two packages of two cores of two threads, one node each.
    fn sys(with_cache: bool) -> TempDir {
        let dir = TempDir::new().expect("a folder");
        let write = |path: String, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("a file");
        };
        write("devices/system/cpu/online".into(), "0-7\n");
        write("devices/system/node/online".into(), "0-1\n");
        for cpu in 0..8_u32 {
            let base = format!("devices/system/cpu/cpu{cpu}");
            let package = if cpu < 4 { "0-3\n" } else { "4-7\n" };
            let core = format!("{}-{}\n", cpu & !1, cpu | 1);
            write(format!("{base}/topology/thread_siblings_list"), &core);
            write(format!("{base}/topology/core_siblings_list"), package);
            if with_cache {
                write(format!("{base}/cache/index0/level"), "1\n");
                write(format!("{base}/cache/index0/shared_cpu_list"), &core);
                write(format!("{base}/cache/index3/level"), "3\n");
                write(format!("{base}/cache/index3/shared_cpu_list"), package);
            }
        }
        write("devices/system/node/node0/cpulist".into(), "0-3\n");
        write("devices/system/node/node1/cpulist".into(), "4-7\n");
        dir
    }

    const DECLARED: Topology = Topology { numa_nodes: 2, llcs: 2, cores_per_llc: 2, threads_per_core: 2 };

    #[test]
    fn caches_cores_and_nodes_are_read() {
        let sys = sys(true);
        let topo = GuestTopology::read(sys.path()).expect("a topology");
        assert_eq!(topo.llcs, ["0-3".parse().unwrap(), "4-7".parse().unwrap()]);
        assert_eq!(topo.cores.len(), 4);
        assert_eq!(topo.numa_nodes.len(), 2);
        topo.check(DECLARED, sys.path()).expect("the declared machine");
    }

    #[test]
    fn packages_stand_in_for_caches_that_are_not_shown() {
        let sys = sys(false);
        let topo = GuestTopology::read(sys.path()).expect("a topology");
        topo.check(DECLARED, sys.path()).expect("the declared machine");
    }

    #[test]
    fn another_machine_than_declared_is_an_error_that_shows_both() {
        let sys = sys(true);
        let topo = GuestTopology::read(sys.path()).expect("a topology");
        let differs =
            |declared: Topology| topo.check(declared, sys.path()).expect_err("it differs").to_string();
        let error = differs(Topology { llcs: 4, cores_per_llc: 1, ..DECLARED });
        assert!(error.contains("LLCs 0-3 | 4-7") && error.ends_with("2n4l1c2t"), "{error}");
        let more = Topology { cores_per_llc: 4, ..DECLARED };
        assert!(differs(more).ends_with("2n2l4c2t"), "it is not known why");
        for (last, says_why) in [("7\n", true), ("15\n", false), ("\n", false), ("4294967295\n", false)] {
            fs::write(sys.path().join("devices/system/cpu/kernel_max"), last).expect("a file");
            let error = differs(more);
            assert_eq!(error.ends_with("built for at most 8 CPUs (CONFIG_NR_CPUS)"), says_why, "{error}");
            assert!(says_why || error.ends_with("2n2l4c2t"), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = TempDir::new().expect("a folder");
        let error = GuestTopology::read(dir.path()).expect_err("nothing there").to_string();
        assert!(error.ends_with("devices/system/cpu/online"), "{error}");
    }

    #[test]
    fn this_host_has_a_topology() {
        let topo = GuestTopology::read(Path::new("/sys")).expect("a topology");
        assert_eq!(topo.cores.iter().map(CpuSet::len).sum::<usize>(), topo.cpus.len());
    }
}
