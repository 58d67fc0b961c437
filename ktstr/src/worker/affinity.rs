//! Which CPUs workers may use, said in terms of the machine.

use crate::cpu_set::CpuSet;
use crate::guest_topo::GuestTopology;

/// Which CPUs the workers of a group may use (`sched_setaffinity(2)`), among those of their cgroup.
///
/// ```
/// use ktstr::prelude::*;
///
/// let pinned = CgroupDef::named("pinned").workers(4).affinity(Affinity::SingleCpu);
/// let last_two = CgroupDef::named("last").affinity(Affinity::Exact("2-3".parse()?));
/// # let _ = (pinned, last_two);
///
/// /// The CPUs that each of three workers would get, for a body that looks at them.
/// fn subsets(ctx: &Ctx) -> Result<Vec<CpuSet>> {
///     Ok(Affinity::RandomSubset.resolve(&ctx.topo, &ctx.topo.cpus, 3, ctx.seed)?)
/// }
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    /// Those of the cgroup.
    #[default]
    Inherit,
    /// For each worker some of them at random, at least one, by the test's seed.
    RandomSubset,
    /// For each worker those of one LLC, LLC after LLC.
    LlcAligned,
    /// For each worker one, CPU after CPU.
    SingleCpu,
    /// For each worker the CPUs of one core, core after core. An error on a machine without SMT.
    SmtSiblingPair,
    /// These.
    Exact(CpuSet),
}

/// An affinity that the machine, or the cgroup, does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AffinityError {
    /// Not one of the CPUs is in the cgroup.
    #[error("the cgroup may use CPUs {allowed}, and none of {wanted}")]
    Outside {
        /// Those that the workers were to use.
        wanted: CpuSet,
        /// Those of the cgroup.
        allowed: CpuSet,
    },
    /// No CPU at all.
    #[error("Affinity::Exact of no CPU")]
    Empty,
    /// Cores of one thread.
    #[error("Affinity::SmtSiblingPair needs a core with two CPUs in {allowed}: declare `threads = 2`")]
    NoSmt {
        /// The CPUs of the cgroup.
        allowed: CpuSet,
    },
}

impl Affinity {
    /// The CPUs of each of `workers` workers, among the `allowed` ones; nothing where they inherit.
    ///
    /// # Errors
    /// `AffinityError` when there are no such CPUs.
    pub fn resolve(
        &self,
        topo: &GuestTopology,
        allowed: &CpuSet,
        workers: usize,
        seed: u64,
    ) -> Result<Vec<CpuSet>, AffinityError> {
        let within = |sets: &[CpuSet]| -> Vec<CpuSet> {
            sets.iter().map(|set| set.intersection(allowed)).filter(|set| !set.is_empty()).collect()
        };
        let sets = match self {
            Self::Inherit => return Ok(Vec::new()),
            Self::Exact(wanted) if wanted.is_empty() => return Err(AffinityError::Empty),
            Self::Exact(wanted) => {
                let missing = wanted.difference(allowed);
                if !missing.is_empty() {
                    return Err(AffinityError::Outside { wanted: missing, allowed: allowed.clone() });
                }
                vec![wanted.clone()]
            }
            Self::SingleCpu => allowed.iter().map(|&cpu| CpuSet::from_iter([cpu])).collect(),
            Self::LlcAligned => within(&topo.llcs),
            Self::SmtSiblingPair => {
                let pairs: Vec<CpuSet> =
                    within(&topo.cores).into_iter().filter(|core| core.len() > 1).collect();
                if pairs.is_empty() {
                    return Err(AffinityError::NoSmt { allowed: allowed.clone() });
                }
                pairs
            }
            Self::RandomSubset => {
                let mut random = SplitMix(seed);
                (0..workers).map(|_| random.subset(allowed)).collect()
            }
        };
        Ok(sets.into_iter().cycle().take(workers).collect())
    }
}

/// The SplitMix64 generator (Steele, Lea, Flood: "Fast splittable pseudorandom number generators"): the same seed, the same CPUs.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Each CPU with a chance of one half; where that is none, one of them.
    fn subset(&mut self, of: &CpuSet) -> CpuSet {
        let some: CpuSet = of.iter().copied().filter(|_| self.next() >> 63 == 1).collect();
        if !some.is_empty() || of.is_empty() {
            return some;
        }
        let index = self.next() as usize % of.len();
        of.iter().copied().skip(index).take(1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> CpuSet {
        text.parse().expect("a list")
    }

    /// Two LLCs of two cores of two threads.
    fn topo() -> GuestTopology {
        GuestTopology {
            cpus: set("0-7"),
            cores: ["0-1", "2-3", "4-5", "6-7"].map(set).to_vec(),
            llcs: ["0-3", "4-7"].map(set).to_vec(),
            numa_nodes: vec![set("0-7")],
        }
    }

    fn resolved(affinity: Affinity, allowed: &str, workers: usize) -> Result<Vec<String>, AffinityError> {
        let sets = affinity.resolve(&topo(), &set(allowed), workers, 1)?;
        Ok(sets.iter().map(CpuSet::to_string).collect())
    }

    #[test]
    fn workers_get_their_cpus_in_turn() {
        let of = |affinity, allowed, workers| resolved(affinity, allowed, workers).expect("CPUs");
        assert!(of(Affinity::Inherit, "0-7", 3).is_empty());
        assert_eq!(of(Affinity::SingleCpu, "2-3", 3), ["2", "3", "2"]);
        assert_eq!(of(Affinity::LlcAligned, "0-4", 3), ["0-3", "4", "0-3"]);
        assert_eq!(of(Affinity::SmtSiblingPair, "1-5", 2), ["2-3", "4-5"]);
        assert_eq!(of(Affinity::Exact(set("1,6")), "0-7", 2), ["1,6", "1,6"]);
    }

    #[test]
    fn random_subsets_are_never_empty_and_the_same_for_the_same_seed() {
        let first = Affinity::RandomSubset.resolve(&topo(), &set("0-1"), 200, 7).expect("CPUs");
        assert!(first.iter().all(|cpus| !cpus.is_empty() && cpus.difference(&set("0-1")).is_empty()));
        assert!(first.iter().any(|cpus| cpus.len() == 1) && first.iter().any(|cpus| cpus.len() == 2));
        assert_eq!(Affinity::RandomSubset.resolve(&topo(), &set("0-1"), 200, 7), Ok(first.clone()));
        assert_ne!(Affinity::RandomSubset.resolve(&topo(), &set("0-1"), 200, 8), Ok(first));
    }

    #[test]
    fn cpus_that_the_cgroup_does_not_have_are_errors() {
        let outside = AffinityError::Outside { wanted: set("4"), allowed: set("0-3") };
        assert_eq!(resolved(Affinity::Exact(set("3-4")), "0-3", 1), Err(outside));
        assert_eq!(resolved(Affinity::Exact(CpuSet::new()), "0-3", 1), Err(AffinityError::Empty));
        let error = resolved(Affinity::SmtSiblingPair, "0,2,4", 1).expect_err("no core").to_string();
        assert!(error.contains("in 0,2,4") && error.contains("threads = 2"), "{error}");
    }
}
