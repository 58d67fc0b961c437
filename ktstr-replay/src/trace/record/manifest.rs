//! The manifest: what was run, on what, with what. JSON, for people and `jq`.

use std::fmt;

use rkyv::util::AlignedVec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::trace::body::{Body, BodyError};
use crate::trace::kind::Kind;
use crate::trace::record::Thresholds;
use crate::units::GuestNs;

/// The first record of every trace. Unknown keys are kept out of the way, absent ones have defaults, so that
/// a newer minor version's manifest opens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Release of ktstr that wrote the trace.
    pub ktstr_version: String,
    /// When the recording began, RFC 3339 in UTC.
    pub started_at: String,
    /// The test.
    pub test: TestInfo,
    /// The scheduler under test; `None` for the kernel's own.
    pub scheduler: Option<SchedulerInfo>,
    /// The kernel.
    pub kernel: KernelInfo,
    /// The machine.
    pub machine: MachineInfo,
    /// What makes verdicts of this run weaker, such as `emulated`.
    pub taints: Vec<String>,
    /// Why the test was not run at all: then there is nothing but this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Of a further machine of the run: what it was started for. `None` of the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repro: Option<ReproInfo>,
    /// The core file that it was made from, where nothing was run: an imported core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imported: Option<ImportInfo>,
}

/// A core file that a trace was made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImportInfo {
    /// What sort of file it is, for people.
    pub format: String,
}

/// The runs in which a failure of the first one was to happen again. The segment that this stands in is the last of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReproInfo {
    /// Each attempt, in order.
    pub attempts: Vec<ReproAttempt>,
    /// What was watched and probed in them, by the names that a test's own watches and probes have.
    pub targets: Vec<String>,
}

impl ReproInfo {
    /// Attempts that failed as the first run did.
    #[must_use]
    pub fn reproduced(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.reproduced).count()
    }
}

/// One attempt to make a failure happen again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReproAttempt {
    /// What was chosen at random was chosen by it.
    pub seed: u64,
    /// It failed as the first run did.
    pub reproduced: bool,
    /// How it ended, in words.
    pub ended: String,
    /// How long it took, with the machine's start, in ms.
    pub took_ms: u64,
}

/// What was asked of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TestInfo {
    /// Full name, `module::function`.
    pub name: String,
    /// Package and test target it is in.
    pub package: String,
    /// Workload window, in ms.
    pub duration_ms: u64,
    /// Periodic captures that were asked for.
    pub num_snapshots: u32,
    /// `every`, `ends` or `never`.
    pub checkpoint: String,
    /// Pages that checkpoints keep: `kernel` or `all`. Empty, in traces from before there was a choice: all.
    pub pages: String,
    /// sched_ext watchdog timeout asked for, in ms; 0: none, the scheduler's own.
    pub watchdog_timeout_ms: u64,
    /// What was chosen at random was chosen by it.
    pub seed: u64,
    /// The limits that the test sets, if it sets any. See [`TestInfo::limits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Thresholds>,
    /// Those of the check `not_starved`, in traces from before there were others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_starved: Option<Thresholds>,
    /// What is to be judged, from the test's definition. `None` in traces from before this was kept.
    pub asked: Option<Asked>,
    /// The run is expected to fail.
    pub expect_err: bool,
    /// Text that the scheduler's error must contain.
    pub expect_scx_error_contains: Option<String>,
    /// Regular expression that the scheduler's error must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_scx_error_matches: Option<String>,
    /// Kind of exit that the scheduler must leave with, such as `UNREG_KERN`.
    pub expect_scx_exit: Option<String>,
    /// A scheduler that exits and comes back does not fail the test.
    pub allow_restarts: bool,
    /// A warning or a report of a fault in the kernel's log does not fail the test.
    pub allow_splats: bool,
    /// Inconclusive counts as a pass.
    pub allow_inconclusive: bool,
}

impl TestInfo {
    /// The limits that the test sets, whichever release has written them.
    #[must_use]
    pub fn limits(&self) -> Option<Thresholds> {
        let older = || Some(Thresholds { not_starved: true, ..self.not_starved.clone()? });
        self.thresholds.clone().or_else(older)
    }
}

/// What a test wants judged, so that nothing of it can get lost on its way into the trace or out of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// The claims, as they are written in the test.
    pub claims: Vec<String>,
    /// Labels of the checks in code.
    pub checks: Vec<String>,
    /// Names of the payloads, each of which must have been run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub payloads: Vec<String>,
}

/// The scheduler under test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchedulerInfo {
    /// Declared name.
    pub name: String,
    /// File name of its program; empty: it is part of the kernel.
    pub binary: String,
    /// Arguments it was started with.
    pub args: Vec<String>,
    /// XXH3-128 of the program, hex.
    pub xxh3: String,
    /// How long it may take to become enabled, in ms; 0 in traces from before it was recorded.
    pub enable_timeout_ms: u64,
}

impl SchedulerInfo {
    /// It is part of the kernel: lines that were written to files have switched it on.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        self.binary.is_empty()
    }
}

/// The kernel that was booted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelInfo {
    /// `uname -r`, where known.
    pub release: String,
    /// How it was asked for (`7.3`, `latest`, a file name without its folder).
    pub asked: String,
    /// XXH3-128 of the kernel file, hex.
    pub xxh3: String,
    /// Its command line.
    pub cmdline: String,
    /// Where the configuration in the guest's `/boot` came from; `None` where there is none.
    pub config: Option<String>,
}

/// The machine that ran it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineInfo {
    /// `qemu` or `kvm`; [`HOST`](Self::HOST) where there was none, [`CORE`](Self::CORE) where it is not known.
    pub kind: String,
    /// Why that one was taken.
    pub why: String,
    /// What its emulator says of itself.
    pub version: String,
    /// `1n1l2c1t`: NUMA nodes, LLCs, cores per LLC, threads per core.
    pub topology: String,
    /// vCPUs.
    pub cpus: u32,
    /// Guest RAM, in MiB.
    pub memory_mib: u32,
    /// CPUs of the host.
    pub host_cpus: u32,
    /// How it came to run the test; `None` when it did not, and in traces from before this was kept.
    pub start: Option<StartInfo>,
    /// Of a run in performance mode what came of each part; empty without it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub performance: Vec<PerformancePart>,
}

/// A part of performance mode: in force in the run, or refused by the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PerformancePart {
    /// One of [`ALL`](Self::ALL), or what a later release knows.
    pub what: String,
    /// It was in force.
    pub in_force: bool,
    /// How; of one that was not, why.
    pub detail: String,
}

impl PerformancePart {
    /// Each vCPU has a CPU of the host to itself.
    pub const CPUS: &str = "CPUs of its own";
    /// No other machine of tests runs on CPUs of the same last-level cache.
    pub const LLC: &str = "LLC of its own";
    /// The guest's memory is on the NUMA nodes of its vCPUs.
    pub const NODES: &str = "memory of the same node";
    /// The guest's memory is in huge pages.
    pub const HUGE_PAGES: &str = "huge pages";
    /// The vCPUs are real-time threads.
    pub const REAL_TIME: &str = "real-time priority";
    /// KVM looks out for the end of a halt before it gives the CPU away.
    pub const HALT_POLL: &str = "halt polling";
    /// Halts do not leave the guest.
    pub const HALTS: &str = "halts without exits";
    /// Pauses of spinning vCPUs do not leave the guest.
    pub const PAUSES: &str = "pauses without exits";
    /// All of them.
    pub const ALL: [&str; 8] = [
        Self::CPUS,
        Self::LLC,
        Self::NODES,
        Self::HUGE_PAGES,
        Self::REAL_TIME,
        Self::HALT_POLL,
        Self::HALTS,
        Self::PAUSES,
    ];
}

impl MachineInfo {
    /// The kind of a run whose body ran on the host: no guest, no captures.
    pub const HOST: &str = "host";
    /// The kind of a machine of which there is a core file and nothing else.
    pub const CORE: &str = "core";
}

/// How a machine came to run its test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartInfo {
    /// [`BOOTED`](Self::BOOTED), [`RESTORED`](Self::RESTORED) or [`ATTACHED`](Self::ATTACHED).
    pub how: String,
    /// Of an attached start, the guest's `CLOCK_MONOTONIC` in ns when the template was saved: events that are earlier are
    /// those of the run that made the template.
    pub template_until_ns: Option<GuestNs>,
    /// How long it waited for CPUs of the host before it was started, in ms.
    pub waited_ms: u64,
}

impl StartInfo {
    /// Its kernel was booted.
    pub const BOOTED: &str = "booted";
    /// It was restored from a template in which nothing of the job was.
    pub const RESTORED: &str = "restored";
    /// It was restored from a template in which the scheduler was enabled.
    pub const ATTACHED: &str = "attached";

    /// The scheduler was enabled when the run began.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.how == Self::ATTACHED
    }
}

/// In words, for people.
impl fmt::Display for StartInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.how.as_str() {
            Self::RESTORED => f.write_str("restored from a template"),
            Self::ATTACHED => f.write_str("restored from a template with the scheduler enabled"),
            how => f.write_str(how),
        }
    }
}

impl Manifest {
    /// The taint of a machine whose CPUs are emulated: time means little there.
    pub const EMULATED: &str = "emulated";
    /// The taint of a run that takes the place of one in which the emulator failed.
    pub const RETRIED: &str = "second run: the emulator failed in the first";

    /// The taint of a run in performance mode of which the host refused a part.
    pub const PERFORMANCE_IN_PART: &str = "performance mode in part";

    /// The taint of a run that was recorded by a build without optimization: pauses are longer by far.
    pub const UNOPTIMIZED: &str = "recorded by a build without optimization";

    /// The body ran on the host: there was no machine.
    #[must_use]
    pub fn is_on_host(&self) -> bool {
        self.machine.kind == MachineInfo::HOST
    }

    /// The machine's CPUs were emulated.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        self.taints.iter().any(|taint| taint == Self::EMULATED)
    }
}

impl Body for Manifest {
    const KIND: Kind = Kind::Manifest;
    const VERSION: u16 = 1;

    fn encode(&self) -> Result<AlignedVec, BodyError> {
        encode_json(self)
    }

    fn decode(version: u16, bytes: &[u8]) -> Result<Self, BodyError> {
        decode_json(version, Self::VERSION, bytes)
    }
}

/// The body of a JSON record: one text in UTF-8, indented, with a newline at its end.
pub(crate) fn encode_json<T: Serialize>(value: &T) -> Result<AlignedVec, BodyError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| BodyError::Invalid(e.to_string()))?;
    text.push(b'\n');
    let mut bytes = AlignedVec::with_capacity(text.len());
    bytes.extend_from_slice(&text);
    Ok(bytes)
}

/// The value of a JSON record of a version up to `known`.
fn decode_json<T: DeserializeOwned>(version: u16, known: u16, bytes: &[u8]) -> Result<T, BodyError> {
    if version == 0 || version > known {
        return Err(BodyError::Version { found: version, known });
    }
    serde_json::from_slice(bytes).map_err(|e| BodyError::Invalid(e.to_string()))
}
