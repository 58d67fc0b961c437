//! Which machines of the gauntlet a test is for.

use ktstr_record::spec::Topology;

use super::presets::PRESETS;

/// [`Constraints`], from one list of bounds.
macro_rules! constraints {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr,)*) => {
        /// Bounds on the machines of the gauntlet: a layer of them, of a scheduler or of a test. What is not set is left to
        /// the layer below, and at last to the default.
        ///
        /// Each has the name of the attribute of `#[ktstr_test]` that sets it for one test. A scheduler's are for all tests
        /// of it:
        ///
        /// ```
        /// use ktstr::prelude::*;
        ///
        /// declare_scheduler!(MINE, {
        ///     name = "mine",
        ///     binary = "scx_mine",
        ///     constraints = Constraints::NONE.min_llcs(2).max_numa_nodes(4),
        /// });
        ///
        /// assert_eq!(MINE.constraints.and_then(|bounds| bounds.min_llcs), Some(2));
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Constraints {
            $($(#[doc = $doc])* pub $name: Option<$type>,)*
        }

        impl Constraints {
            /// No bound of its own.
            pub const NONE: Self = Self { $($name: None),* };
            /// The bounds that hold where neither test nor scheduler sets any.
            pub const DEFAULT: Self = Self { $($name: Some($default)),* };

            $($(#[doc = $doc])*
            #[must_use]
            pub const fn $name(self, bound: $type) -> Self {
                Self { $name: Some(bound), ..self }
            })*

            /// These, and for what they do not set those of the layer `below`.
            #[must_use]
            pub const fn over(self, below: Self) -> Self {
                Self { $($name: if self.$name.is_some() { self.$name } else { below.$name }),* }
            }
        }
    };
}

constraints! {
    /// Least LLCs in the whole machine.
    min_llcs: u32 = 1,
    /// Most LLCs in the whole machine.
    max_llcs: u32 = 12,
    /// Least CPUs.
    min_cpus: u32 = 1,
    /// Most CPUs.
    max_cpus: u32 = 192,
    /// Least NUMA nodes.
    min_numa_nodes: u32 = 1,
    /// Most NUMA nodes.
    max_numa_nodes: u32 = 1,
    /// Only machines whose cores have more than one thread.
    requires_smt: bool = false,
}

impl Constraints {
    /// Whether such a machine is one of these. Bounds that are not set are those of no layer.
    const fn admits(self, topology: Topology) -> bool {
        const fn within(count: u32, min: Option<u32>, max: Option<u32>) -> bool {
            let is_enough = match min {
                Some(min) => count >= min,
                None => true,
            };
            match max {
                Some(max) => is_enough && count <= max,
                None => is_enough,
            }
        }
        within(topology.llcs, self.min_llcs, self.max_llcs)
            && within(topology.cpus(), self.min_cpus, self.max_cpus)
            && within(topology.numa_nodes, self.min_numa_nodes, self.max_numa_nodes)
            && !(matches!(self.requires_smt, Some(true)) && topology.threads_per_core < 2)
    }

    /// Why such a machine is not one of these: the bound that it breaks.
    #[must_use]
    pub(crate) fn excludes(&self, topology: Topology) -> Option<String> {
        let bounds = self.over(Self::DEFAULT);
        let ranges = [
            ("LLC", "llcs", topology.llcs, bounds.min_llcs, bounds.max_llcs),
            ("CPU", "cpus", topology.cpus(), bounds.min_cpus, bounds.max_cpus),
            ("NUMA node", "numa_nodes", topology.numa_nodes, bounds.min_numa_nodes, bounds.max_numa_nodes),
        ];
        let of_ranges = ranges.into_iter().find_map(|(what, key, count, min, max)| {
            let plural = if count == 1 { "" } else { "s" };
            let few = min.filter(|&min| count < min).map(|min| format!("`min_{key}` is {min}"));
            let many = max.filter(|&max| count > max).map(|max| format!("`max_{key}` is {max}"));
            few.or(many).map(|bound| format!("{count} {what}{plural}, {bound}"))
        });
        let no_smt = || {
            let needed = bounds.requires_smt == Some(true) && topology.threads_per_core < 2;
            needed.then(|| "no SMT, which the test requires".to_owned())
        };
        of_ranges.or_else(no_smt)
    }
}

/// Whether there can be a machine between the bounds of a test, over those of its scheduler, over the defaults.
///
/// # Panics
/// While compiling, where there is none.
pub const fn check_constraints(scheduler: Option<Constraints>, test: Constraints) {
    const fn reversed(min: Option<u32>, max: Option<u32>) -> bool {
        matches!((min, max), (Some(min), Some(max)) if min > max)
    }
    let scheduler = match scheduler {
        Some(bounds) => bounds,
        None => Constraints::NONE,
    };
    let bounds = test.over(scheduler).over(Constraints::DEFAULT);
    assert!(
        !reversed(bounds.min_llcs, bounds.max_llcs),
        "no machine has so many and so few LLCs: give `max_llcs`, too (what is not given is the scheduler's, else 12)"
    );
    assert!(
        !reversed(bounds.min_cpus, bounds.max_cpus),
        "no machine has so many and so few CPUs: give `max_cpus`, too (what is not given is the scheduler's, else 192)"
    );
    assert!(
        !reversed(bounds.min_numa_nodes, bounds.max_numa_nodes),
        "no machine has so many and so few NUMA nodes: give `max_numa_nodes`, too (what is not given is the \
         scheduler's, else 1)"
    );
    let mut index = 0;
    while index < PRESETS.len() {
        if bounds.admits(PRESETS[index].topology) {
            return;
        }
        index += 1;
    }
    panic!("no machine of the gauntlet is within these bounds: docs/gauntlet.md has the table of them");
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn machine(numa_nodes: u32, llcs: u32, cores_per_llc: u32, threads_per_core: u32) -> Topology {
        Topology { numa_nodes, llcs, cores_per_llc, threads_per_core }
    }

    #[test]
    fn the_defaults_are_machines_of_one_node() {
        assert_eq!(Constraints::NONE.excludes(machine(1, 12, 8, 2)), None);
        let why = |machine| Constraints::NONE.excludes(machine).expect("excluded");
        assert_eq!(why(machine(1, 15, 8, 1)), "15 LLCs, `max_llcs` is 12");
        assert_eq!(why(machine(1, 12, 9, 2)), "216 CPUs, `max_cpus` is 192");
        assert_eq!(why(machine(2, 2, 4, 1)), "2 NUMA nodes, `max_numa_nodes` is 1");
    }

    #[test]
    fn each_bound_excludes_what_is_beyond_it_and_nothing_else() {
        let small = machine(1, 1, 4, 1);
        for (bounds, why) in [
            (Constraints::NONE.min_llcs(2), "1 LLC, `min_llcs` is 2"),
            (Constraints::NONE.min_cpus(5), "4 CPUs, `min_cpus` is 5"),
            (Constraints::NONE.max_cpus(3), "4 CPUs, `max_cpus` is 3"),
            (Constraints::NONE.min_numa_nodes(2), "1 NUMA node, `min_numa_nodes` is 2"),
            (Constraints::NONE.requires_smt(true), "no SMT, which the test requires"),
        ] {
            assert_eq!(bounds.excludes(small).as_deref(), Some(why));
        }
        let exact = Constraints::NONE.min_llcs(1).max_llcs(1).min_cpus(4).max_cpus(4).requires_smt(false);
        assert_eq!(exact.excludes(small), None);
    }

    #[test]
    fn what_compiles_and_what_is_skipped_is_decided_alike() {
        for bounds in [
            Constraints::NONE,
            Constraints::NONE.min_llcs(3),
            Constraints::NONE.max_cpus(8).requires_smt(true),
            Constraints::NONE.max_numa_nodes(4).min_numa_nodes(2),
        ] {
            for preset in &PRESETS {
                let whole = bounds.over(Constraints::DEFAULT);
                assert_eq!(
                    whole.admits(preset.topology),
                    bounds.excludes(preset.topology).is_none(),
                    "{preset:?}"
                );
            }
        }
    }

    #[test]
    fn a_test_sets_its_bounds_over_those_of_the_scheduler() {
        let bounds = Constraints::NONE.max_llcs(4).over(Constraints::NONE.max_llcs(2).min_cpus(8));
        assert_eq!((bounds.max_llcs, bounds.min_cpus, bounds.max_cpus), (Some(4), Some(8), None));
    }
}
