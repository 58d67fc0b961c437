//! Limits that a test sets: over what its workers report, and over what its captures show.

use serde::{Deserialize, Serialize};

/// The limits of a test, part of the [`Manifest`](super::Manifest); one that is absent is not judged.
///
/// Workers report for the whole of their life. Captures are those that were taken while the body ran: periodic ones and
/// those that the test asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thresholds {
    /// Largest allowed spread of CPU share inside a cgroup, in percent of a CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_spread_pct: Option<f64>,
    /// Longest allowed gap between two turns of a worker's loop, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_gap_ms: Option<u64>,
    /// Least part that a worker must get of what it would have had if the CPUs were shared evenly among all that
    /// wanted to run, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_share_pct: Option<f64>,
    /// Workers must stay inside their cgroup's cpuset.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub isolation: bool,
    /// Largest coefficient of variation (standard deviation over mean) of work units per second among the workers of a
    /// cgroup that do the same work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_throughput_cv: Option<f64>,
    /// Least work units per second of wall time of each worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_work_rate: Option<f64>,
    /// Least turns of the outer loop per second of wall time of each worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_iteration_rate: Option<f64>,
    /// Most migrations per turn of the outer loop of each worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_migration_ratio: Option<f64>,
    /// Largest 99th percentile of the wake latencies of a cgroup, in ns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_p99_wake_latency_ns: Option<u64>,
    /// Largest coefficient of variation of the wake latencies of a cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_wake_latency_cv: Option<f64>,
    /// Least part of a worker's pages that must be on the NUMA nodes of its CPUs, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_page_locality: Option<f64>,
    /// Largest part of a worker's migrations that may go to another NUMA node, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cross_node_migration_ratio: Option<f64>,
    /// Largest ratio of the longest runqueue to the shortest, of the online CPUs in one capture, with one added to both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_imbalance_ratio: Option<f64>,
    /// Most tasks in a local dispatch queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_local_dsq_depth: Option<u64>,
    /// Most `SCX_EV_SELECT_CPU_FALLBACK` per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_fallback_rate: Option<f64>,
    /// Most `SCX_EV_DISPATCH_KEEP_LAST` per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_keep_last_rate: Option<f64>,
    /// The clock of a runqueue whose CPU is busy must not stand still.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fail_on_stall: bool,
    /// Captures in a row that must break a limit over captures before it counts; `None`: one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sustained_samples: Option<u32>,
}
