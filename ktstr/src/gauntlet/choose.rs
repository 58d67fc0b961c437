//! Which variants of tests are run when there is not the time for all of them.

use std::collections::BTreeSet;
use std::time::Duration;

use ktstr_record::spec::Topology;

/// A variant that could be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Number of the test.
    pub test: usize,
    /// The machine.
    pub topology: Topology,
    /// What it takes, all told.
    pub cost: Duration,
}

/// What a run of a variant shows. The first kinds weigh most: a test that is not run at all, and a machine that nothing is run
/// on, are the largest holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fact {
    Test(usize),
    Machine([u32; 4]),
    /// A test where there are one, two, or more LLCs.
    Llcs(usize, u32),
    /// A test with or without SMT.
    Smt(usize, bool),
    /// A test with or without NUMA.
    Numa(usize, bool),
    /// A test where there are this many CPUs, as the power of two below.
    Cpus(usize, u32),
}

impl Fact {
    const fn weight(self) -> f64 {
        match self {
            Self::Test(_) => 16.0,
            Self::Machine(_) => 4.0,
            Self::Llcs(..) | Self::Smt(..) | Self::Numa(..) => 2.0,
            Self::Cpus(..) => 1.0,
        }
    }
}

impl Candidate {
    fn facts(&self) -> [Fact; 6] {
        let Topology { numa_nodes, llcs, cores_per_llc, threads_per_core } = self.topology;
        [
            Fact::Test(self.test),
            Fact::Machine([numa_nodes, llcs, cores_per_llc, threads_per_core]),
            Fact::Llcs(self.test, llcs.min(3)),
            Fact::Smt(self.test, threads_per_core > 1),
            Fact::Numa(self.test, numa_nodes > 1),
            Fact::Cpus(self.test, self.topology.cpus().max(1).ilog2()),
        ]
    }
}

/// Numbers of the candidates that are run within `budget`, in their order. Each test is run once before any is run twice, the cheap
/// ones first, so that there are many; then greedily that which shows most that is not shown yet for its cost. What shows nothing
/// new comes last, the cheaper before the dearer.
#[must_use]
pub fn choose(candidates: &[Candidate], budget: Duration) -> Vec<usize> {
    let mut left: Vec<usize> = (0..candidates.len()).collect();
    let (mut known, mut spent, mut chosen) = (BTreeSet::new(), Duration::ZERO, Vec::new());
    loop {
        left.retain(|&index| spent + candidates[index].cost <= budget);
        let value = |index: usize| {
            let new = candidates[index].facts().into_iter().filter(|fact| !known.contains(fact));
            // A little for a pair of test and machine as such.
            let gain: f64 = new.map(Fact::weight).sum::<f64>() + 0.1;
            gain / candidates[index].cost.as_secs_f64().max(0.001)
        };
        let is_first = |index: usize| !known.contains(&Fact::Test(candidates[index].test));
        let best = left.iter().copied().max_by(|&a, &b| {
            let first = is_first(a).cmp(&is_first(b));
            first.then(value(a).total_cmp(&value(b))).then(b.cmp(&a))
        });
        let Some(best) = best else { break };
        known.extend(candidates[best].facts());
        spent += candidates[best].cost;
        left.retain(|&index| index != best);
        chosen.push(best);
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gauntlet::PRESETS;

    /// Each of so many tests on each machine.
    fn all(tests: usize) -> Vec<Candidate> {
        let of = |test| {
            move |preset: &crate::gauntlet::Preset| Candidate {
                test,
                topology: preset.topology,
                cost: Duration::from_secs(10 + u64::from(preset.topology.cpus())),
            }
        };
        (0..tests).flat_map(|test| PRESETS.iter().map(of(test))).collect()
    }

    fn cost(candidates: &[Candidate], chosen: &[usize]) -> Duration {
        chosen.iter().map(|&index| candidates[index].cost).sum()
    }

    #[test]
    fn with_time_for_all_all_are_run_and_with_none_none_is() {
        let candidates = all(3);
        assert_eq!(choose(&candidates, Duration::from_secs(100_000)).len(), candidates.len());
        assert!(choose(&candidates, Duration::from_secs(1)).is_empty());
        assert!(choose(&[], Duration::from_secs(1)).is_empty());
    }

    #[test]
    fn the_budget_is_kept() {
        let candidates = all(4);
        for seconds in [20, 50, 300, 1000] {
            let budget = Duration::from_secs(seconds);
            let chosen = choose(&candidates, budget);
            assert!(cost(&candidates, &chosen) <= budget);
            // Nothing that is left would have fitted in.
            let rest = budget - cost(&candidates, &chosen);
            let fits = |index: &usize| candidates[*index].cost <= rest && !chosen.contains(index);
            assert!(!(0..candidates.len()).any(|index| fits(&index)), "{seconds} s");
        }
    }

    #[test]
    fn every_test_comes_before_any_comes_twice() {
        let candidates = all(5);
        let chosen = choose(&candidates, Duration::from_secs(5 * 14));
        let tests: BTreeSet<usize> = chosen.iter().map(|&index| candidates[index].test).collect();
        assert_eq!(tests.len(), 5, "{chosen:?}");
    }

    #[test]
    fn a_long_test_is_not_put_off_for_machines_of_a_short_one() {
        let mut candidates = all(1);
        let long = candidates.clone().into_iter().map(|one| Candidate {
            test: 1,
            cost: one.cost + Duration::from_secs(300),
            ..one
        });
        candidates.extend(long);
        let chosen = choose(&candidates, Duration::from_secs(400));
        assert!(chosen.iter().any(|&index| candidates[index].test == 1), "{chosen:?}");
    }

    #[test]
    fn the_same_time_is_spent_on_machines_that_differ() {
        let candidates = all(2);
        let chosen = choose(&candidates, Duration::from_secs(200));
        let shown: BTreeSet<Fact> = chosen.iter().flat_map(|&index| candidates[index].facts()).collect();
        for test in 0..2 {
            for fact in
                [Fact::Smt(test, true), Fact::Smt(test, false), Fact::Llcs(test, 1), Fact::Llcs(test, 2)]
            {
                assert!(shown.contains(&fact), "{fact:?} is not shown by {chosen:?}");
            }
        }
        let machines: BTreeSet<_> =
            chosen.iter().map(|&index| candidates[index].topology.to_string()).collect();
        assert!(machines.len() > chosen.len() / 2, "the same machines again and again: {machines:?}");
    }
}
