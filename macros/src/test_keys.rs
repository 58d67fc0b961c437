//! The keys of `#[ktstr_test]`.

use crate::args::{Key, Shape};

/// Longest watchdog timeout that the kernel takes, in s: `SCX_WATCHDOG_MAX_TIMEOUT` of `kernel/sched/ext.c`.
const WATCHDOG_MAX_S: u64 = 30;

/// Most periodic captures of one test.
pub const MAX_SNAPSHOTS: u64 = 256;

/// Every key, in the order in which errors list them.
pub const KEYS: &[Key] = &[
    key("scheduler", Shape::Path),
    key("numa_nodes", count(1, 64, "NUMA node")),
    key("llcs", count(1, 64, "LLC")),
    key("cores", count(1, 256, "core in each LLC")),
    key("threads", count(1, 8, "thread in each core")),
    key("memory_mib", count(128, 65_536, "MiB of RAM")),
    key("duration_s", count(1, 86_400, "s of workload")),
    key("watchdog_timeout_s", count(1, WATCHDOG_MAX_S, "s before a stall is called one")),
    key("num_snapshots", count(0, MAX_SNAPSHOTS, "periodic captures")),
    key("checkpoint", Shape::Word(&["every", "ends", "never"])),
    key("pages", Shape::Word(&["kernel", "all"])),
    key("seed", count(0, u64::MAX, "as seed")),
    key("claims", Shape::Texts),
    key("check", Shape::Path),
    key("not_starved", Shape::Flag),
    key("expect_err", Shape::Flag),
    key("expect_scx_error_contains", Shape::Text),
    key("allow_inconclusive", Shape::Flag),
    key("ignore", Shape::Flag),
    key("kaslr", Shape::Flag),
    key("kargs", Shape::Texts),
    key("extra_sched_args", Shape::Texts),
    key("include_files", Shape::Path),
];

const fn key(name: &'static str, shape: Shape) -> Key {
    Key { name, shape }
}

const fn count(min: u64, max: u64, of: &'static str) -> Shape {
    Shape::Number { min, max, of }
}
