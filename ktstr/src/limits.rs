//! The limits of a test: what its attributes set, over what its scheduler sets, over the defaults.

mod assert_cgroup;

use std::fmt;

use ktstr_replay::trace::record::Thresholds;

/// [`Assert`], from one list of limits.
macro_rules! limits {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty,)*) => {
        /// Limits: a layer of them, of a scheduler or of a test. What is not set is left to the layer below.
        ///
        /// Each has the name of the attribute of `#[ktstr_test]` that sets it for one test. A scheduler's are for all tests
        /// of it:
        ///
        /// ```
        /// use ktstr::prelude::*;
        ///
        /// const LIMITS: Assert = Assert::NONE.not_starved(true).max_gap_ms(500);
        /// declare_scheduler!(MINE, { name = "mine", binary = "scx_mine", assert = LIMITS.max_migration_ratio(0.1) });
        ///
        /// assert_eq!(MINE.assert.and_then(|assert| assert.max_gap_ms), Some(500));
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct Assert {
            $($(#[doc = $doc])* pub $name: Option<$type>,)*
        }

        impl Assert {
            /// No limit at all.
            pub const NONE: Self = Self { $($name: None),* };

            $($(#[doc = $doc])*
            #[must_use]
            pub const fn $name(self, limit: $type) -> Self {
                Self { $name: Some(limit), ..self }
            })*

            /// These, and for what they do not set those of the layer `below`.
            #[must_use]
            pub fn over(self, below: Self) -> Self {
                Self { $($name: self.$name.or(below.$name)),* }
            }

            /// Each limit by name, with its value if it is set.
            fn values(&self) -> Vec<(&'static str, Option<String>)> {
                vec![$((stringify!($name), self.$name.map(|limit| limit.to_string()))),*]
            }
        }
    };
}

limits! {
    /// Every worker did work, paused for no longer than 2 s, and had a fair share of the CPUs: stands for `max_gap_ms`,
    /// `max_spread_pct` and `min_share_pct` where these are not set.
    not_starved: bool,
    /// Longest pause that a worker may make, in ms.
    max_gap_ms: u64,
    /// Largest spread of CPU shares inside a cgroup, in percent of a CPU.
    max_spread_pct: u32,
    /// Least part of an even share of the CPUs that a worker must get, in percent.
    min_share_pct: u32,
    /// Workers stay inside the cpuset of their cgroup.
    isolation: bool,
    /// Largest coefficient of variation of work per second among workers that do the same in one cgroup.
    max_throughput_cv: f64,
    /// Least work units per second of each worker.
    min_work_rate: f64,
    /// Least turns of the loop per second of each worker.
    min_iteration_rate: f64,
    /// Most migrations per turn of the loop of each worker.
    max_migration_ratio: f64,
    /// Largest 99th percentile of the wake latencies of a cgroup, in ns.
    max_p99_wake_latency_ns: u64,
    /// Largest coefficient of variation of the wake latencies of a cgroup.
    max_wake_latency_cv: f64,
    /// Least part of a worker's pages on the NUMA nodes of its CPUs, 0 to 1.
    min_page_locality: f64,
    /// Largest part of a worker's migrations that go to another NUMA node, 0 to 1.
    max_cross_node_migration_ratio: f64,
    /// Largest ratio of the longest runqueue to the shortest, each with one added.
    max_imbalance_ratio: f64,
    /// Most tasks in the local dispatch queue of a CPU.
    max_local_dsq_depth: u64,
    /// Most `SCX_EV_SELECT_CPU_FALLBACK` per second.
    max_fallback_rate: f64,
    /// Most `SCX_EV_DISPATCH_KEEP_LAST` per second.
    max_keep_last_rate: f64,
    /// The clock of a busy CPU's runqueue does not stand still between two captures.
    fail_on_stall: bool,
    /// Captures in a row that must break a limit over captures before it counts.
    sustained_samples: u32,
}

/// What `not_starved` stands for. Workers of a debug build are slower.
const fn not_starved(debug: bool) -> Assert {
    match debug {
        true => Assert::NONE.max_gap_ms(3000).max_spread_pct(35).min_share_pct(50),
        false => Assert::NONE.max_gap_ms(2000).max_spread_pct(15).min_share_pct(50),
    }
}

/// The layers of a test's limits, the uppermost first.
#[derive(Clone, Copy, Debug)]
pub struct Layers {
    /// Of the attributes of the test.
    pub test: Assert,
    /// Of the scheduler's declaration.
    pub scheduler: Assert,
}

impl Layers {
    /// All limits that hold.
    fn merged(self) -> Assert {
        let set = self.test.over(self.scheduler);
        match set.not_starved {
            Some(true) => set.over(not_starved(cfg!(debug_assertions))),
            _ => set,
        }
    }

    /// As the trace keeps them; `None`: there are none.
    pub fn thresholds(self) -> Option<Thresholds> {
        let all = self.merged();
        let thresholds = Thresholds {
            not_starved: all.not_starved == Some(true),
            max_spread_pct: all.max_spread_pct.map(f64::from),
            max_gap_ms: all.max_gap_ms,
            min_share_pct: all.min_share_pct.map(f64::from),
            isolation: all.isolation == Some(true),
            max_throughput_cv: all.max_throughput_cv,
            min_work_rate: all.min_work_rate,
            min_iteration_rate: all.min_iteration_rate,
            max_migration_ratio: all.max_migration_ratio,
            max_p99_wake_latency_ns: all.max_p99_wake_latency_ns,
            max_wake_latency_cv: all.max_wake_latency_cv,
            min_page_locality: all.min_page_locality,
            max_cross_node_migration_ratio: all.max_cross_node_migration_ratio,
            max_imbalance_ratio: all.max_imbalance_ratio,
            max_local_dsq_depth: all.max_local_dsq_depth,
            max_fallback_rate: all.max_fallback_rate,
            max_keep_last_rate: all.max_keep_last_rate,
            fail_on_stall: all.fail_on_stall == Some(true),
            sustained_samples: all.sustained_samples,
        };
        (thresholds != Thresholds::default()).then_some(thresholds)
    }
}

/// A table for people: each limit that is set, its value, and the layer that it comes from; then those that are not.
impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (test, scheduler) = (self.test.values(), self.scheduler.values());
        let mut off = Vec::new();
        for (position, (name, value)) in self.merged().values().into_iter().enumerate() {
            let is_set = |layer: &[(&str, Option<String>)]| {
                layer.get(position).is_some_and(|(_, value)| value.is_some())
            };
            let from = match (is_set(&test), is_set(&scheduler)) {
                (true, _) => "the test",
                (_, true) => "the scheduler",
                _ if cfg!(debug_assertions) => "not_starved, in a debug build",
                _ => "not_starved",
            };
            match value {
                Some(value) => writeln!(f, "  {name:<32}{value:<12}{from}")?,
                None => off.push(name),
            }
        }
        match off.is_empty() {
            true => Ok(()),
            false => writeln!(f, "  not set: {}", off.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(test: Assert, scheduler: Assert) -> Layers {
        Layers { test, scheduler }
    }

    #[test]
    fn nothing_set_is_no_threshold() {
        assert_eq!(layers(Assert::NONE, Assert::NONE).thresholds(), None);
        assert_eq!(layers(Assert::NONE.not_starved(false), Assert::NONE).thresholds(), None);
    }

    #[test]
    fn each_field_is_taken_from_the_uppermost_layer_that_sets_it() {
        let scheduler = Assert::NONE.not_starved(true).max_gap_ms(100).max_imbalance_ratio(3.0);
        let found =
            layers(Assert::NONE.max_gap_ms(200).min_share_pct(80), scheduler).thresholds().expect("limits");
        assert_eq!((found.max_gap_ms, found.min_share_pct), (Some(200), Some(80.0)));
        assert_eq!(found.max_imbalance_ratio, Some(3.0));
        assert_eq!(found.max_spread_pct, Some(if cfg!(debug_assertions) { 35.0 } else { 15.0 }));
    }

    #[test]
    fn a_test_turns_off_what_the_scheduler_turns_on() {
        let scheduler = Assert::NONE.not_starved(true).isolation(true).fail_on_stall(true);
        let test = Assert::NONE.not_starved(false).isolation(false).fail_on_stall(false);
        assert_eq!(layers(test, scheduler).thresholds(), None);
        assert!(layers(Assert::NONE, scheduler).thresholds().is_some_and(|limits| limits.isolation));
    }

    #[test]
    fn a_limit_alone_does_not_turn_on_the_others() {
        let alone = layers(Assert::NONE.max_gap_ms(100), Assert::NONE).thresholds();
        assert_eq!(alone, Some(Thresholds { max_gap_ms: Some(100), ..Thresholds::default() }));
    }

    #[test]
    fn every_limit_reaches_the_trace() {
        let all = Assert {
            not_starved: Some(true),
            max_gap_ms: Some(1),
            max_spread_pct: Some(2),
            min_share_pct: Some(3),
            isolation: Some(true),
            max_throughput_cv: Some(4.0),
            min_work_rate: Some(5.0),
            min_iteration_rate: Some(6.0),
            max_migration_ratio: Some(7.0),
            max_p99_wake_latency_ns: Some(8),
            max_wake_latency_cv: Some(9.0),
            min_page_locality: Some(0.5),
            max_cross_node_migration_ratio: Some(0.25),
            max_imbalance_ratio: Some(10.0),
            max_local_dsq_depth: Some(11),
            max_fallback_rate: Some(12.0),
            max_keep_last_rate: Some(13.0),
            fail_on_stall: Some(true),
            sustained_samples: Some(14),
        };
        let found = serde_json::to_value(layers(all, Assert::NONE).thresholds()).expect("JSON");
        for (name, value) in all.values() {
            let value: f64 = match value.expect("a value").as_str() {
                "true" => continue,
                number => number.parse().expect("a number"),
            };
            assert_eq!(found[name].as_f64(), Some(value), "{name}");
        }
        for flag in ["not_starved", "isolation", "fail_on_stall"] {
            assert_eq!(found[flag], true, "{flag}");
        }
    }

    #[test]
    fn the_table_says_where_each_limit_comes_from() {
        let scheduler = Assert::NONE.not_starved(true).max_migration_ratio(0.5);
        let table = layers(Assert::NONE.max_gap_ms(200), scheduler).to_string();
        let line = |name: &str| {
            table.lines().find(|line| line.trim().starts_with(name)).unwrap_or_default().to_owned()
        };
        assert!(line("max_gap_ms").ends_with("200         the test"), "{table}");
        assert!(line("max_migration_ratio").ends_with("0.5         the scheduler"), "{table}");
        assert!(line("max_spread_pct").contains("not_starved"), "{table}");
        assert!(line("not set").contains("isolation"), "{table}");
    }
}
