//! What `#[ktstr_test]` and `declare_scheduler!` make: descriptions of a test and of a scheduler.

use std::path::PathBuf;
use std::time::Duration;

pub use ktstr_record::spec::Topology;

use crate::assert::AssertResult;
use crate::ctx::Ctx;
use crate::gauntlet::{Constraints, Preset, check_constraints};
use crate::limits::{Assert, Layers};
use crate::payload::PayloadDef;
use crate::scheduler::{Scheduler, check_config};
use ktstr_replay::trace::Trace;
use ktstr_replay::verdict::Verdict;

/// How long a scheduler that exits, and whose process lives on, may take to come back where the test does not allow it: so
/// that a restart is told from an end.
const RESTART_LIMIT: Duration = Duration::from_secs(10);

/// The body of a test, run in the guest.
pub type Body = fn(&Ctx) -> anyhow::Result<AssertResult>;

/// A test, as its attributes describe it.
#[derive(Clone, Copy, Debug)]
pub struct TestDef {
    /// `crate::module::function`.
    pub path: &'static str,
    /// The path between the marks, for those who read the test binary and do not run it. A text of its own, as to cut the path out of it
    /// is work for the compiler, of which it has some for each test of a file.
    pub mark: &'static str,
    /// Package that the test is in.
    pub package: &'static str,
    /// The package's folder.
    pub manifest_dir: &'static str,
    /// What runs in the guest.
    pub body: Body,
    /// The scheduler under test; `None` for the kernel's own.
    pub scheduler: Option<&'static Scheduler>,
    /// The machine's CPUs.
    pub topology: Topology,
    /// Guest RAM, in MiB.
    pub memory_mib: u32,
    /// Workload window, in s.
    pub duration_s: u64,
    /// How long the scheduler may take to become enabled, in s; `None`: as long as the scheduler's declaration says.
    pub enable_timeout_s: Option<u64>,
    /// The time of sched_ext's stall watchdog, in s; `None`: as the scheduler says.
    pub watchdog_timeout_s: Option<u64>,
    /// Periodic captures.
    pub num_snapshots: u32,
    /// When guest memory is kept.
    pub checkpoint: Checkpoint,
    /// Which pages of guest memory are kept.
    pub pages: Pages,
    /// What is chosen at random is chosen by it.
    pub seed: u64,
    /// Claims as text.
    pub claims: &'static [&'static str],
    /// A judgement in code.
    pub check: Option<HostCheck>,
    /// The run is ended where a claim is broken that later captures cannot mend.
    pub fail_fast: bool,
    /// The limits that the test itself sets.
    pub assert: Assert,
    /// The machines of the gauntlet that the test itself asks for.
    pub constraints: Constraints,
    /// The body runs on the host: there is no machine.
    pub host_only: bool,
    /// It is run only when it is asked for, and has no variants.
    pub ignored: bool,
    /// The run must fail.
    pub expect_err: bool,
    /// Text that the scheduler's error must contain.
    pub expect_scx_error_contains: Option<&'static str>,
    /// Regular expression that the scheduler's error must match.
    pub expect_scx_error_matches: Option<&'static str>,
    /// Kind of exit that the scheduler must leave with.
    pub expect_scx_exit: Option<&'static str>,
    /// A scheduler that exits and comes back does not fail the test.
    pub allow_restarts: bool,
    /// A warning or a report of a fault in the kernel's log does not fail the test.
    pub allow_splats: bool,
    /// An inconclusive verdict passes.
    pub allow_inconclusive: bool,
    /// Place the kernel at random.
    pub kaslr: bool,
    /// The machine is in performance mode.
    pub performance: bool,
    /// A template in which the scheduler is enabled may be used, and made.
    pub attached: bool,
    /// When the scheduler dies, the test is run again to see how.
    pub auto_repro: bool,
    /// The guest's kernel notes what its CPUs do, and the trace has it.
    pub history: bool,
    /// More words for the kernel's command line, after the scheduler's.
    pub kargs: &'static [&'static str],
    /// More arguments for the scheduler, after its own.
    pub extra_sched_args: &'static [&'static str],
    /// Kernel parameters that are set before the body, `NAME=VALUE`.
    pub sysctls: &'static [&'static str],
    /// The scheduler's configuration, as text.
    pub config: Option<&'static str>,
    /// Schedulers that the body may attach in the place of the one under test.
    pub staged_schedulers: &'static [&'static Scheduler],
    /// Files of the host that the guest gets.
    pub include_files: Option<IncludeFiles>,
    /// What is watched for stores from before the scheduler is loaded.
    pub watch: &'static [&'static str],
    /// Functions whose calls are recorded, likewise.
    pub probe: &'static [&'static str],
    /// Payloads, which are in the guest.
    pub payloads: &'static [&'static PayloadDef],
}

/// Files of the host that the guest of a test gets.
#[derive(Clone, Copy, Debug)]
pub enum IncludeFiles {
    /// By their paths.
    Paths(&'static [&'static str]),
    /// By a function that names them. Called on the host, before the machine starts.
    By(fn() -> anyhow::Result<Vec<IncludedFile>>),
}

/// A file of the host that the guest gets, with its permissions.
///
/// ```
/// use ktstr::prelude::*;
///
/// /// For `include_files = jobs`.
/// fn jobs() -> Result<Vec<IncludedFile>> {
///     Ok(vec![IncludedFile { host: "/etc/hostname".into(), guest: "/ktstr/files/name".to_owned() }])
/// }
///
/// assert_eq!(jobs()?[0].guest, "/ktstr/files/name");
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncludedFile {
    /// Where it is on the host.
    pub host: PathBuf,
    /// Absolute path in the guest.
    pub guest: String,
}

/// Which captures bring a checkpoint of guest memory.
pub type Checkpoint = ktstr_record::recorder::CheckpointPolicy;

/// Which pages a checkpoint of guest memory keeps.
pub type Pages = ktstr_record::recorder::PageSelection;

/// A judgement in code: the `check` of a test.
#[derive(Clone, Copy, Debug)]
pub struct HostCheck {
    /// The function's path, which stands for it in the trace.
    pub label: &'static str,
    /// The function.
    pub run: fn(&Trace, &mut Verdict) -> anyhow::Result<()>,
}

impl TestDef {
    /// A test without attributes, as the macro's table of keys has it: what its expansions do not say.
    pub const NEW: Self = ktstr_macros::test_defaults!();

    /// The test's name as libtest knows it: `module::function`, without the crate.
    pub fn libtest_name(&self) -> &'static str {
        self.path.split_once("::").map_or(self.path, |(_, name)| name)
    }

    /// The test target that the test is in, by its crate's name.
    pub fn target(&self) -> &'static str {
        self.path.split_once("::").map_or("", |(target, _)| target)
    }

    /// The test on another machine, as the test `path`.
    pub fn variant(&self, path: &'static str, preset: &Preset) -> Self {
        let memory_mib = preset.memory_mib(self.memory_mib);
        Self { path, topology: preset.topology, memory_mib, ..*self }
    }

    /// The machines of the gauntlet that it is for: its own bounds, over the scheduler's.
    pub fn bounds(&self) -> Constraints {
        let scheduler = self.scheduler.and_then(|scheduler| scheduler.constraints);
        self.constraints.over(scheduler.unwrap_or(Constraints::NONE))
    }

    /// The workload window.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.duration_s)
    }

    /// The limits that it is judged by, layer by layer.
    pub fn limits(&self) -> Layers {
        let scheduler = self.scheduler.and_then(|scheduler| scheduler.assert).unwrap_or(Assert::NONE);
        Layers { test: self.assert, scheduler }
    }

    /// How long the scheduler may be away before it counts as gone. `enable_limit`: how long it may take to become enabled.
    pub fn restart_limit(&self, enable_limit: Duration) -> Duration {
        if self.allow_restarts { enable_limit } else { RESTART_LIMIT }
    }

    /// How long the scheduler may take to become enabled, if the test or the scheduler's declaration says.
    pub fn enable_timeout(&self) -> Option<Duration> {
        let declared = || self.scheduler.and_then(|scheduler| scheduler.enable_timeout_s);
        self.enable_timeout_s.or_else(declared).map(Duration::from_secs)
    }

    /// Words for the kernel's command line: the scheduler's, then the test's.
    pub fn all_kargs(&self) -> Vec<String> {
        let own = self.scheduler.map_or(&[][..], |scheduler| scheduler.kargs);
        own.iter().chain(self.kargs).map(|&word| word.to_owned()).collect()
    }

    /// The scheduler's arguments: its own, then the test's.
    pub fn all_sched_args(&self) -> Vec<String> {
        let own = self.scheduler.map_or(&[][..], |scheduler| scheduler.sched_args);
        own.iter().chain(self.extra_sched_args).map(|&word| word.to_owned()).collect()
    }
}

/// What stands before and behind the path of each test in a test binary, so that the tests can be told from others without
/// running anything: `MARK_BEGIN PATH MARK_END`.
pub const MARK_BEGIN: &str = "\u{1}ktstr::test\u{1}";
/// See [`MARK_BEGIN`].
pub const MARK_END: &str = "\u{1}";

/// The topology of a test that gives no part of it: its scheduler's, else that of all tests.
pub const fn inherit_topology(scheduler: &Scheduler) -> Topology {
    match scheduler.topology {
        Some(topology) => topology,
        None => TestDef::NEW.topology,
    }
}

/// What a scheduler asks of each test is had by one that gives neither a configuration nor bounds of its own.
///
/// # Panics
/// While compiling, where it is not.
pub const fn check_inherited(scheduler: &Scheduler) {
    if scheduler.config_file_def.is_some() {
        check_config(scheduler, false);
    }
    if scheduler.constraints.is_some() {
        check_constraints(scheduler.constraints, Constraints::NONE);
    }
}

/// The topology of a test: each part as given to the test, else the scheduler's, else the default. The parts are NUMA
/// nodes, LLCs, cores of each LLC and threads of each core.
///
/// # Panics
/// While compiling, when the LLCs do not divide among the NUMA nodes.
pub const fn resolve_topology(
    inherited: Option<Topology>,
    given: [Option<u32>; 4],
    default: [u32; 4],
) -> Topology {
    const fn or(given: Option<u32>, inherited: u32) -> u32 {
        match given {
            Some(given) => given,
            None => inherited,
        }
    }
    let base = match inherited {
        Some(inherited) => inherited,
        None => {
            let [numa_nodes, llcs, cores_per_llc, threads_per_core] = default;
            Topology { numa_nodes, llcs, cores_per_llc, threads_per_core }
        }
    };
    let [numa_nodes, llcs, cores_per_llc, threads_per_core] = given;
    let resolved = Topology {
        numa_nodes: or(numa_nodes, base.numa_nodes),
        llcs: or(llcs, base.llcs),
        cores_per_llc: or(cores_per_llc, base.cores_per_llc),
        threads_per_core: or(threads_per_core, base.threads_per_core),
    };
    assert!(
        resolved.llcs.is_multiple_of(resolved.numa_nodes),
        "`llcs` must be a multiple of `numa_nodes` (what is not given is the scheduler's)"
    );
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_topology_is_inherited_on_its_own() {
        let scheduler = Topology { numa_nodes: 2, llcs: 4, cores_per_llc: 3, threads_per_core: 2 };
        let resolved = resolve_topology(Some(scheduler), [None, Some(2), None, Some(1)], [1; 4]);
        assert_eq!(resolved.to_string(), "2n2l3c1t");
        assert_eq!(resolve_topology(None, [None; 4], [1, 1, 2, 1]).to_string(), "1n1l2c1t");
    }
}
