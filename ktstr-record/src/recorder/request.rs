//! What the recorder is asked to do, the manifest that comes of it, and why there may be no recording.

use ktstr_replay::units::millis;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use guest_init::message::{ProbeOrder, WatchOrder};
use jiff::Timestamp;
use ktstr_replay::trace::WriteError;
use ktstr_replay::trace::record::manifest::{KernelInfo, StartInfo};
use ktstr_replay::trace::record::{ClaimRecord, Manifest};

use crate::job::{JobError, PackedJob};
use crate::machine::{self, Start, StartError, StartKind, StartPolicy};
use crate::spec::{KernelConfig, MachineSpec};

/// One run: a machine, its job, and what the trace is to keep.
#[derive(Debug)]
pub struct RecordRequest {
    /// Where the trace goes. Created anew, with a number where there is one already; its folder must exist.
    pub trace: PathBuf,
    /// The state directory's folder for templates and CPU slots.
    pub cache: PathBuf,
    /// The machine.
    pub machine: MachineSpec,
    /// Whether a template may be used.
    pub policy: StartPolicy,
    /// Whether a template in which the scheduler is enabled may be used, and made.
    pub attached: bool,
    /// What runs in the guest.
    pub job: PackedJob,
    /// Captures on cadence.
    pub captures: CapturePlan,
    /// What is known of the run beforehand. The recorder adds the machine, the kernel's release, the time and taints.
    pub manifest: Manifest,
    /// The configuration of the machine's kernel, if the guest has it: kept in the trace.
    pub config: Option<KernelConfig>,
    /// What is to be judged, kept in the trace.
    pub claims: Vec<ClaimRecord>,
    /// End the run where a claim is broken that later captures cannot mend.
    pub fail_fast: bool,
    /// What is watched for stores from before the job is handed over.
    pub watches: Vec<WatchOrder>,
    /// Functions whose calls are recorded, likewise.
    pub probes: Vec<ProbeOrder>,
    /// A person is in the guest: standard input goes to the test binary, whose output is shown.
    pub shell: bool,
    /// How long the guest may take from its job to its power-off, before it is ended as hung.
    pub run_timeout: Duration,
}

/// Which captures are taken without being asked for, and with which of them memory is kept.
#[derive(Clone, Copy, Debug)]
pub struct CapturePlan {
    /// Captures on cadence, see `Cadence`.
    pub periodic: u32,
    /// The workload window they are spread over.
    pub window: Duration,
    /// For how long a worker of the test may make no turn, if that is limited: a capture is taken when a thread of user space has been
    /// runnable for half of it.
    pub gap_limit: Option<Duration>,
    /// For how long the body is expected to have run when the scheduler fails, as it did in the run before: captures are taken shortly
    /// before that.
    pub failure_at: Option<Duration>,
    /// Which captures bring a checkpoint.
    pub checkpoint: CheckpointPolicy,
    /// Which pages a checkpoint keeps.
    pub pages: PageSelection,
    /// Whether the guest's kernel notes what its CPUs do, and the trace has it.
    pub history: bool,
}

/// Which captures bring a checkpoint of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointPolicy {
    /// Each one; all but the first are stored as a difference.
    Every,
    /// Those of the ends: attach, end, scheduler exit, guest death.
    Ends,
    /// None.
    Never,
}

impl CheckpointPolicy {
    /// The word that attributes and manifests use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Every => "every",
            Self::Ends => "ends",
            Self::Never => "never",
        }
    }
}

/// Which pages a checkpoint keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PageSelection {
    /// The kernel's data: all that decoders read. Free pages, the page cache, user memory and the kernel's code are
    /// left out.
    #[default]
    Kernel,
    /// All of them, the guest channel's aside.
    All,
}

impl PageSelection {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Kernel, Self::All];

    /// The word that attributes, options and manifests use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::All => "all",
        }
    }
}

/// Why a run could not be recorded. What goes wrong in the guest is not an error: it is in the trace.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The machine could not be started for a reason that lies with the host.
    #[error("could not start the machine")]
    Start(#[from] StartError),
    /// What the guest is to run is not there.
    #[error("could not put together what the guest is to run")]
    Job(#[from] JobError),
    /// The trace could not be begun.
    #[error("could not begin the trace {}", .path.display())]
    Trace {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: WriteError,
    },
    /// A thread or a signal handler could not be had.
    #[error("could not {what}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The process was told to end before the run began.
    #[error("interrupted before the run began")]
    Interrupted,
}

/// Whether this build of the recorder is optimized at all. One that is not stops guests many times as long for a capture.
pub fn is_optimized() -> bool {
    env!("KTSTR_OPT_LEVEL") != "0"
}

/// Say when the recording began, and which build makes it.
pub(super) fn say_who_records(manifest: &mut Manifest) {
    env!("CARGO_PKG_VERSION").clone_into(&mut manifest.ktstr_version);
    manifest.started_at = Timestamp::now().to_string();
    if !is_optimized() {
        manifest.taints.push(Manifest::UNOPTIMIZED.to_owned());
    }
}

/// What the recorder knows, added to what the request says.
pub(super) fn complete_manifest(request: &RecordRequest, start: Option<&Start>) -> Manifest {
    let spec = &request.machine;
    let mut manifest = request.manifest.clone();
    manifest.test.checkpoint = request.captures.checkpoint.as_str().to_owned();
    manifest.test.num_snapshots = request.captures.periodic;
    manifest.test.duration_ms = millis(request.captures.window);
    manifest.kernel = KernelInfo {
        release: spec.kernel.release.clone(),
        asked: spec.kernel.asked.clone(),
        xxh3: spec.kernel.id.clone(),
        cmdline: spec.cmdline(),
        config: request.config.as_ref().map(|config| config.origin.clone()),
    };
    machine::describe(spec, &mut manifest);
    manifest.machine.start = start.map(|start| {
        let (how, template_until_ns) = match start.kind {
            StartKind::Booted | StartKind::BootedAndSaved => (StartInfo::BOOTED, None),
            StartKind::Restored => (StartInfo::RESTORED, None),
            StartKind::Attached { saved_at } => (StartInfo::ATTACHED, Some(saved_at)),
        };
        let waited_ms = millis(start.waited);
        StartInfo { how: how.to_owned(), template_until_ns, waited_ms }
    });
    manifest.machine.performance = start.map(|start| start.performance.clone()).unwrap_or_default();
    if manifest.machine.performance.iter().any(|part| !part.in_force) {
        manifest.taints.push(Manifest::PERFORMANCE_IN_PART.to_owned());
    }
    say_who_records(&mut manifest);
    if start.is_some_and(|start| !start.faults.is_empty()) {
        manifest.taints.push(String::from("start-retried"));
    }
    manifest
}
