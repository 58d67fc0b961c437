//! Which CPUs of the host the vCPUs of a machine in performance mode have to themselves.
//!
//! A guest's LLC lies in one LLC of the host, so that what the guest takes for a shared cache is one. Where the host has room, each
//! has one of its own, and each core of the guest a core of its own. How closely a host can do it is found out with all of it
//! free; the machine then waits for that much, and never takes less because others are running.

use super::host_cpus::HostCpus;
use crate::spec::Topology;

/// How vCPUs are placed: the same for each run of a topology on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placing {
    topology: Topology,
    /// Each LLC has one of the host's own.
    own_llcs: bool,
    cores: Cores,
}

/// What a core of the guest gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cores {
    /// A core of the host of its own.
    Own,
    /// Threads of one core of the host, the others of which another has.
    Shared,
    /// Any CPUs.
    Any,
}

/// Where each vCPU is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placement {
    /// The host's CPU of each vCPU.
    pub(super) cpus: Vec<u32>,
    /// The host's LLCs that the machine has to itself, by their place in [`HostCpus::llcs`]: ascending.
    pub(super) llcs: Vec<usize>,
    /// For each NUMA node of the guest the host's nodes that its vCPUs are on: ascending. Empty where the host tells of none.
    pub(super) nodes: Vec<Vec<u32>>,
    /// What the guest's topology is not on this host, in words.
    pub(super) differs: Vec<&'static str>,
}

impl Placing {
    /// How the vCPUs of `topology` are placed on `host`.
    ///
    /// # Errors
    /// In words, when they cannot be.
    pub(super) fn of(topology: Topology, host: &HostCpus) -> Result<Self, String> {
        let (vcpus, cpus) = (topology.cpus(), host.all().len());
        if !host.told {
            return Err(
                "the host does not tell which of its CPUs share a cache (/sys/devices/system/cpu/cpu*/cache), so that none can be \
                 reserved"
                    .into(),
            );
        }
        if (host.worth as usize) < cpus {
            return Err(format!(
                "a cgroup's quota gives this process the time of {} CPUs, though it may use {cpus}: its vCPUs would be stopped at \
                 any time",
                host.worth
            ));
        }
        if vcpus as usize >= cpus {
            return Err(format!(
                "{vcpus} vCPUs and ktstr's own threads need {} CPUs of the host, and this process may use {cpus}",
                vcpus.saturating_add(1)
            ));
        }
        for own_llcs in [true, false] {
            for cores in [Cores::Own, Cores::Shared, Cores::Any] {
                let placing = Self { topology, own_llcs, cores };
                if placing.place(host, |_| true).is_some() {
                    return Ok(placing);
                }
            }
        }
        let each = topology.cores_per_llc.saturating_mul(topology.threads_per_core);
        let largest = host.llcs.iter().map(|llc| llc.cpus().count()).max().unwrap_or(0);
        Err(format!(
            "{} LLCs of {each} vCPUs do not fit into this host's, of which it has {} with at most {largest} CPUs each",
            topology.llcs,
            host.llcs.len()
        ))
    }

    /// The place of each vCPU, in LLCs that are `free`; `None` where they do not fit there.
    pub(super) fn place(&self, host: &HostCpus, free: impl Fn(usize) -> bool) -> Option<Placement> {
        let Topology { numa_nodes, llcs, cores_per_llc, threads_per_core } = self.topology;
        let mut left: Vec<Option<Vec<Vec<u32>>>> =
            (0..).zip(&host.llcs).map(|(n, llc)| free(n).then(|| llc.cores.clone())).collect();
        let mut cpus = Vec::new();
        let mut on: Vec<usize> = Vec::new();
        for _ in 0..llcs {
            let taken = (0..).zip(&mut left).find_map(|(n, llc)| {
                let mut cores = llc.clone()?;
                let taken = self.take(&mut cores, cores_per_llc, threads_per_core)?;
                *llc = (!self.own_llcs).then_some(cores);
                Some((n, taken))
            });
            let (n, taken) = taken?;
            cpus.extend(taken);
            on.push(n);
        }
        let per_node = (llcs / numa_nodes.max(1)).max(1) as usize;
        let sorted = |mut found: Vec<u32>| {
            found.sort_unstable();
            found.dedup();
            found
        };
        let nodes: Vec<Vec<u32>> = on
            .chunks(per_node)
            .map(|on| sorted(on.iter().filter_map(|&n| host.llcs[n].node).collect()))
            .collect();
        let mut differs = Vec::new();
        let distinct = |nodes: &[Vec<u32>]| sorted(nodes.concat()).len();
        if !self.own_llcs {
            differs.push("some of the guest's LLCs are in one of the host's");
        }
        if distinct(&nodes) < nodes.len() {
            differs.push("its NUMA nodes are not on as many of the host's");
        }
        match self.cores {
            Cores::Own => {}
            Cores::Shared => differs.push("some of its cores share one of the host's"),
            Cores::Any => differs.push("threads of its cores are on different cores of the host"),
        }
        on.sort_unstable();
        on.dedup();
        Some(Placement { cpus, llcs: on, nodes, differs })
    }

    /// Take the CPUs for an LLC's cores out of these cores of the host.
    fn take(&self, cores: &mut Vec<Vec<u32>>, wanted: u32, threads: u32) -> Option<Vec<u32>> {
        let threads = threads as usize;
        if self.cores == Cores::Any {
            let all: Vec<u32> = cores.concat();
            let count = wanted as usize * threads;
            let taken = all.get(..count)?.to_vec();
            *cores = vec![all[count..].to_vec()];
            return Some(taken);
        }
        let mut taken = Vec::new();
        for _ in 0..wanted {
            let core = cores.iter_mut().find(|core| core.len() >= threads)?;
            taken.extend(core.drain(..threads));
            if self.cores == Cores::Own {
                core.clear();
            }
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::{Placement, Placing};
    use crate::machine::host_cpus::HostCpus;
    use crate::machine::host_cpus::hosts::host;
    use crate::spec::Topology;

    fn topology(numa_nodes: u32, llcs: u32, cores_per_llc: u32, threads_per_core: u32) -> Topology {
        Topology { numa_nodes, llcs, cores_per_llc, threads_per_core }
    }

    fn placed(host: &HostCpus, wanted: Topology) -> Placement {
        Placing::of(wanted, host).unwrap().place(host, |_| true).unwrap()
    }

    #[test]
    fn llcs_and_cores_have_their_own_where_the_host_has_room() {
        let big = host(2, 4, 2);
        let found = placed(&big, topology(2, 2, 4, 1));
        assert_eq!(found.cpus, [0, 1, 2, 3, 4, 5, 6, 7], "one thread of each core");
        assert_eq!((found.llcs, found.nodes), (vec![0, 1], vec![vec![0], vec![1]]));
        assert!(found.differs.is_empty(), "{:?}", found.differs);
        let found = placed(&big, topology(1, 1, 2, 2));
        assert_eq!((found.cpus, found.llcs), (vec![0, 8, 1, 9], vec![0]), "both threads of two cores");
        let found = placed(&big, topology(1, 2, 2, 1));
        assert_eq!((found.cpus, found.nodes), (vec![0, 1, 4, 5], vec![vec![0, 1]]));
    }

    #[test]
    fn what_is_not_as_in_the_guest_is_said() {
        let big = host(2, 4, 2);
        let shared = placed(&big, topology(1, 1, 6, 1));
        assert_eq!(shared.cpus, [0, 8, 1, 9, 2, 10]);
        assert_eq!(shared.differs, ["some of its cores share one of the host's"]);
        let packed = placed(&big, topology(2, 4, 2, 1));
        assert_eq!(packed.cpus, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(packed.differs, ["some of the guest's LLCs are in one of the host's"]);
        let one = placed(&host(1, 8, 1), topology(2, 2, 1, 2));
        assert_eq!(one.cpus, [0, 1, 2, 3]);
        assert_eq!(
            one.differs,
            [
                "some of the guest's LLCs are in one of the host's",
                "its NUMA nodes are not on as many of the host's",
                "threads of its cores are on different cores of the host"
            ]
        );
    }

    #[test]
    fn less_is_not_taken_because_others_are_running() {
        let big = host(3, 4, 1);
        let placing = Placing::of(topology(1, 2, 2, 1), &big).unwrap();
        let found = placing.place(&big, |llc| llc != 0).unwrap();
        assert_eq!((found.cpus, found.llcs), (vec![4, 5, 8, 9], vec![1, 2]));
        // Both would fit into one.
        assert_eq!(placing.place(&big, |llc| llc == 1), None);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_reason() {
        let refused = |host: &HostCpus, wanted| Placing::of(wanted, host).unwrap_err();
        let small = refused(&host(1, 2, 1), topology(1, 1, 2, 1));
        assert_eq!(
            small,
            "2 vCPUs and ktstr's own threads need 3 CPUs of the host, and this process may use 2"
        );
        let wide = refused(&host(4, 4, 1), topology(1, 1, 6, 1));
        assert!(
            wide.starts_with("1 LLCs of 6 vCPUs do not fit into this host's, of which it has 4"),
            "{wide}"
        );
        let untold = refused(&HostCpus { told: false, ..host(1, 8, 1) }, topology(1, 1, 1, 1));
        assert!(untold.contains("does not tell which of its CPUs share a cache"), "{untold}");
        let quota = refused(&HostCpus { worth: 3, ..host(1, 8, 1) }, topology(1, 1, 1, 1));
        assert!(quota.contains("the time of 3 CPUs, though it may use 8"), "{quota}");
        Placing::of(topology(1, 1, 1, 1), &host(1, 2, 1)).unwrap();
    }

    /// No CPU twice, all of the LLC's, whatever is asked for.
    #[test]
    fn no_cpu_has_two_vcpus() {
        for host in [host(1, 8, 1), host(2, 4, 2), host(4, 3, 2), host(3, 5, 1)] {
            for (numa_nodes, llcs) in [(1, 1), (1, 2), (2, 2), (2, 4), (1, 3)] {
                for (cores, threads) in (1..7).flat_map(|cores| [(cores, 1), (cores, 2), (cores, 3)]) {
                    let wanted = topology(numa_nodes, llcs, cores, threads);
                    let Ok(placing) = Placing::of(wanted, &host) else { continue };
                    let found = placing.place(&host, |_| true).unwrap();
                    let mut cpus = found.cpus.clone();
                    cpus.sort_unstable();
                    cpus.dedup();
                    assert_eq!(cpus.len(), wanted.cpus() as usize, "{wanted} {found:?}");
                    let of_llcs: Vec<u32> = found.llcs.iter().flat_map(|&n| host.llcs[n].cpus()).collect();
                    assert!(cpus.iter().all(|cpu| of_llcs.contains(cpu)), "{wanted} {found:?}");
                    assert_eq!(found.nodes.len(), numa_nodes as usize);
                }
            }
        }
    }
}
