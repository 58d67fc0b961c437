//! The host's CPUs that this process may use, and which of them share a cache, a core and a NUMA node.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::thread::{CpuSet, sched_getaffinity};

use super::limits::host_cpus;

/// CPUs below this are looked for in sets of lists: no list of the kernel has larger ones.
const MOST_CPUS: u32 = 1 << 16;

/// The CPUs that this process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostCpus {
    /// Its caches, ascending by their first CPU. All of the CPUs in one where the host does not tell.
    pub(super) llcs: Vec<HostLlc>,
    /// The host tells which CPUs share a cache.
    pub(super) told: bool,
    /// CPUs whose time this process may have: fewer than it may run on where a cgroup has a quota.
    pub(super) worth: u32,
}

/// A last-level cache, with the CPUs that share it and that this process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostLlc {
    /// The lowest CPU that shares it, usable or not: its name among all processes.
    pub(super) first: u32,
    /// Its cores, each with its threads, all ascending.
    pub(super) cores: Vec<Vec<u32>>,
    /// The NUMA node of its CPUs; `None` where the host tells of none.
    pub(super) node: Option<u32>,
}

impl HostLlc {
    /// Its CPUs, core by core.
    pub(super) fn cpus(&self) -> impl Iterator<Item = u32> {
        self.cores.iter().flatten().copied()
    }
}

impl HostCpus {
    /// Ask the kernel.
    pub(super) fn read() -> Self {
        Self::of(Path::new("/sys/devices/system"), &usable(), host_cpus())
    }

    /// What `sys` says of the `usable` CPUs.
    fn of(sys: &Path, usable: &[u32], worth: u32) -> Self {
        let read = |path: &Path| fs::read_to_string(path).ok();
        let nodes = nodes(&sys.join("node"));
        let mut told = true;
        // By the first CPU of the cache, then of the core.
        let mut llcs: BTreeMap<u32, BTreeMap<u32, Vec<u32>>> = BTreeMap::new();
        for &cpu in usable {
            let folder = sys.join(format!("cpu/cpu{cpu}"));
            let first = last_level(&folder.join("cache"));
            told &= first.is_some();
            let siblings = read(&folder.join("topology/thread_siblings_list"));
            let core = siblings.and_then(|list| parse(&list)?.first().copied()).unwrap_or(cpu);
            llcs.entry(first.unwrap_or(0)).or_default().entry(core).or_default().push(cpu);
        }
        if !told {
            let mut all: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            llcs.into_values().flatten().for_each(|(core, cpus)| all.entry(core).or_default().extend(cpus));
            llcs = BTreeMap::from([(0, all)]);
        }
        let of = |(first, cores): (u32, BTreeMap<u32, Vec<u32>>)| {
            let cores: Vec<Vec<u32>> = cores.into_values().collect();
            let cpu = cores.first().and_then(|core| core.first());
            let node = nodes.iter().find(|(_, cpus)| cpu.is_some_and(|cpu| cpus.contains(cpu)));
            HostLlc { first, cores, node: node.map(|(node, _)| *node) }
        };
        Self { llcs: llcs.into_iter().map(of).collect(), told, worth }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.llcs.iter().flat_map(HostLlc::cpus).collect();
        all.sort_unstable();
        all
    }
}

/// The CPUs that the calling thread may run on, ascending.
pub(super) fn usable() -> Vec<u32> {
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).map(|cpu| cpu as u32).collect(),
        Err(_) => (0..host_cpus()).collect(),
    }
}

/// The first CPU that shares the highest of the caches in `folder`, which is of the second level at least.
fn last_level(folder: &Path) -> Option<u32> {
    let read = |path: &Path, name: &str| fs::read_to_string(path.join(name)).ok();
    let cache = |path: &Path| {
        let level: u32 = read(path, "level")?.trim().parse().ok()?;
        let first = *parse(&read(path, "shared_cpu_list")?)?.first()?;
        (level >= 2).then_some((level, first))
    };
    let found = fs::read_dir(folder).ok()?.flatten().filter_map(|entry| cache(&entry.path()));
    found.max_by_key(|(level, _)| *level).map(|(_, first)| first)
}

/// The NUMA nodes with their CPUs.
fn nodes(folder: &Path) -> Vec<(u32, Vec<u32>)> {
    let node = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
        Some((number, parse(&fs::read_to_string(entry.path().join("cpulist")).ok()?)?))
    };
    let mut found: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().filter_map(node).collect();
    found.sort_unstable();
    found
}

/// A list of CPUs as the kernel writes it, `0-3,8`: ascending.
fn parse(list: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last >= MOST_CPUS {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// `cpus`, ascending, as the kernel writes such a list.
pub(super) fn listed(cpus: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for &cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let text = |&(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    parts.iter().map(text).collect::<Vec<_>>().join(",")
}

/// Hosts for tests.
#[cfg(test)]
pub(super) mod hosts {
    use super::{HostCpus, HostLlc};

    /// A host with `llcs` caches of `cores` cores of `threads` threads each, every cache on a NUMA node of its own. The threads of a
    /// core are numbered as x86 kernels do: all first ones come before all second ones.
    pub(in crate::machine) fn host(llcs: u32, cores: u32, threads: u32) -> HostCpus {
        let all = llcs * cores;
        let core = |number: u32| (0..threads).map(|thread| number + thread * all).collect();
        let llc = |n: u32| HostLlc {
            first: n * cores,
            cores: (n * cores..(n + 1) * cores).map(core).collect(),
            node: Some(n),
        };
        HostCpus { llcs: (0..llcs).map(llc).collect(), told: true, worth: all * threads }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{HostCpus, hosts, listed, parse};

    fn put(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn lists_are_read_and_written_as_the_kernel_has_them() {
        assert_eq!(parse("0-2,8\n"), Some(vec![0, 1, 2, 8]));
        assert_eq!(parse("\n"), Some(vec![]));
        for wrong in ["a", "1-", "-", "0-4294967295", "3-99999999"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(listed(&[0, 1, 2, 8, 10, 11]), "0-2,8,10-11");
        assert_eq!(listed(&[]), "");
    }

    #[test]
    fn caches_cores_and_nodes_are_those_of_sysfs() {
        let sys = tempfile::tempdir().unwrap();
        for (cpu, llc, core, l2) in [(0, "0-1,4-5", "0,4", "0,4"), (1, "0-1,4-5", "1,5", "1,5")] {
            for cpu in [cpu, cpu + 4] {
                let name = |rest: &str| format!("cpu/cpu{cpu}/{rest}");
                put(
                    sys.path(),
                    &[
                        (&name("cache/index0/level"), "1\n"),
                        (&name("cache/index0/shared_cpu_list"), core),
                        (&name("cache/index2/level"), "2\n"),
                        (&name("cache/index2/shared_cpu_list"), l2),
                        (&name("cache/index3/level"), "3\n"),
                        (&name("cache/index3/shared_cpu_list"), llc),
                        (&name("topology/thread_siblings_list"), core),
                    ],
                );
            }
        }
        for cpu in [2, 3] {
            let name = |rest: &str| format!("cpu/cpu{cpu}/{rest}");
            put(
                sys.path(),
                &[
                    (&name("cache/index3/level"), "3"),
                    (&name("cache/index3/shared_cpu_list"), "2-3"),
                    (&name("topology/thread_siblings_list"), &cpu.to_string()),
                ],
            );
        }
        put(sys.path(), &[("node/node0/cpulist", "0-1,4-5\n"), ("node/node1/cpulist", "2-3\n")]);
        // CPU 3 is not for this process.
        let host = HostCpus::of(sys.path(), &[0, 1, 2, 4, 5], 5);
        let of = |n: usize| (host.llcs[n].first, host.llcs[n].cores.clone(), host.llcs[n].node);
        assert_eq!(of(0), (0, vec![vec![0, 4], vec![1, 5]], Some(0)));
        assert_eq!(of(1), (2, vec![vec![2]], Some(1)));
        assert!(host.told && host.llcs.len() == 2 && host.worth == 5);
        assert_eq!(host.all(), [0, 1, 2, 4, 5]);

        // One CPU of which nothing is told: no cache is.
        let host = HostCpus::of(sys.path(), &[0, 2, 9], 3);
        assert!(!host.told);
        assert_eq!(host.llcs.len(), 1);
        assert_eq!(host.all(), [0, 2, 9]);
    }

    #[test]
    fn this_host_has_the_cpus_that_this_thread_may_use() {
        let host = HostCpus::read();
        assert_eq!(host.all(), super::usable());
        assert!(host.worth as usize <= host.all().len());
        assert_eq!(hosts::host(2, 2, 2).llcs[1].cores, [[2, 6], [3, 7]]);
    }
}
