//! What the recorder is asked to do.

use std::path::PathBuf;
use std::time::Duration;

use ktstr_replay::trace::record::{ClaimRecord, Manifest};

use crate::job::PackedJob;
use crate::machine::StartPolicy;
use crate::spec::MachineSpec;

/// One run: a machine, what it is to do, and what is to be kept of it.
#[derive(Debug)]
pub struct RecordRequest {
    /// Where the trace goes. Created anew; its folder must exist.
    pub trace: PathBuf,
    /// The state directory's folder for templates and CPU slots.
    pub cache: PathBuf,
    /// The machine.
    pub machine: MachineSpec,
    /// Whether a template may be used.
    pub policy: StartPolicy,
    /// What runs in the guest.
    pub job: PackedJob,
    /// Captures on cadence.
    pub captures: CapturePlan,
    /// What is known of the run beforehand. The recorder adds the machine, the kernel's release, the time and taints.
    pub manifest: Manifest,
    /// What is to be judged, kept in the trace.
    pub claims: Vec<ClaimRecord>,
    /// How long the guest may take from its job to its power-off, before it is ended as hung.
    pub run_timeout: Duration,
}

/// Which captures are taken without being asked for, and with which of them memory is kept.
#[derive(Clone, Copy, Debug)]
pub struct CapturePlan {
    /// Captures on cadence, see [`Cadence`](super::Cadence).
    pub periodic: u32,
    /// The workload window they are spread over.
    pub window: Duration,
    /// Which captures bring a checkpoint.
    pub checkpoint: CheckpointPolicy,
    /// Which pages a checkpoint keeps.
    pub pages: PageSelection,
}

/// Which captures bring a checkpoint of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointPolicy {
    /// Each one.
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
