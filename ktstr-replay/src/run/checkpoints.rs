//! Checkpoints of a run as kernels that can be read.

use std::path::Path;

use super::Run;
use crate::debuginfo::{DebugInfo, DebugInfoError};
use crate::kernel::{KernelError, KernelProfile, KernelView, ProfileError};
use crate::text::{clean, seconds, time_ns};
use crate::trace::record::{Sample, VcpuRegs};
use crate::trace::{CheckpointInfo, CheckpointMemory, TraceError};

/// Why a checkpoint cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The trace has none.
    #[error(
        "the trace has no checkpoint: it was recorded without memory (see `checkpoint` of #[ktstr_test]), or none was committed"
    )]
    NoCheckpoint,
    /// There are checkpoints, but none that was asked for.
    #[error("no checkpoint at `{wanted}`; there are: {have}")]
    NoneAt {
        /// What was asked for.
        wanted: String,
        /// Tags and times of those that are there.
        have: String,
    },
    /// A record cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The trace does not say what kernel its memory is of, or that cannot be understood.
    #[error("the kernel of the trace cannot be read")]
    Kernel(#[from] ProfileError),
}

impl From<KernelError> for CheckpointError {
    fn from(error: KernelError) -> Self {
        Self::Kernel(error.into())
    }
}

/// The checkpoints of a run, and the kernel that they are of.
pub struct Checkpoints<'r> {
    run: &'r Run<'r>,
    profile: KernelProfile,
    debuginfo: Option<DebugInfo>,
    all: Vec<CheckpointInfo>,
}

/// A kernel at one checkpoint.
pub struct OpenCheckpoint<'s> {
    run: &'s Run<'s>,
    info: CheckpointInfo,
    profile: &'s KernelProfile,
    debuginfo: Option<&'s DebugInfo>,
    memory: CheckpointMemory<'s>,
}

impl<'r> Checkpoints<'r> {
    /// The checkpoints of a run. Reads the kernel's symbols and types out of the trace.
    ///
    /// # Errors
    /// [`CheckpointError::NoCheckpoint`], [`CheckpointError::Kernel`].
    pub fn of(run: &'r Run<'r>) -> Result<Self, CheckpointError> {
        let all = run.trace.checkpoints();
        if all.is_empty() {
            return Err(CheckpointError::NoCheckpoint);
        }
        let profile = KernelProfile::of_trace(run.trace)?;
        Ok(Self { run, profile, debuginfo: None, all })
    }

    /// Show source lines, out of `given` or of where this system keeps debug information: see [`DebugInfo::of`].
    ///
    /// # Errors
    /// [`DebugInfoError`] when there is none of this kernel.
    pub fn with_debuginfo(mut self, given: Option<&Path>) -> Result<Self, DebugInfoError> {
        self.debuginfo = Some(DebugInfo::of(&self.profile, given)?);
        Ok(self)
    }

    /// The checkpoints, in the order in which they were taken.
    #[must_use]
    pub fn all(&self) -> &[CheckpointInfo] {
        &self.all
    }

    /// One of the checkpoints.
    ///
    /// # Errors
    /// [`CheckpointError::Trace`] when its tables are damaged.
    pub fn open(&self, info: CheckpointInfo) -> Result<OpenCheckpoint<'_>, CheckpointError> {
        let memory = self.run.trace.checkpoint_memory(info.index)?;
        let debuginfo = self.debuginfo.as_ref();
        Ok(OpenCheckpoint { run: self.run, info, profile: &self.profile, debuginfo, memory })
    }

    /// The checkpoint of the capture tagged `at`; or, where `at` is a time such as `2.5s` or `-300ms`, the last one
    /// at or before it; or, for `None`, that of the scheduler's exit, or the last one.
    ///
    /// # Errors
    /// [`CheckpointError::NoneAt`]; those of [`Checkpoints::open`].
    pub fn at(&self, at: Option<&str>) -> Result<OpenCheckpoint<'_>, CheckpointError> {
        let found = match at {
            None => self.of_exit().or(self.all.last().copied()),
            Some(at) => self.all.iter().rev().find(|info| self.tag(info) == at).copied().or_else(|| {
                let until = time_ns(at)?;
                self.all.iter().rev().find(|info| self.run.since_start_ns(info.guest_ns) <= until).copied()
            }),
        };
        let have = || {
            let one = |info: &CheckpointInfo| {
                format!("{} ({})", self.tag(info), seconds(self.run.since_start_ns(info.guest_ns)))
            };
            clean(&self.all.iter().map(one).collect::<Vec<_>>().join(", "))
        };
        let found = found.ok_or_else(|| CheckpointError::NoneAt {
            wanted: at.unwrap_or_default().to_owned(),
            have: have(),
        })?;
        self.open(found)
    }

    /// The checkpoint that was taken with the capture of the scheduler's exit.
    fn of_exit(&self) -> Option<CheckpointInfo> {
        let sample = self.run.scheduler_exit()?.sample?;
        self.all.iter().find(|info| info.sample == Some(sample)).copied()
    }

    fn tag(&self, info: &CheckpointInfo) -> &str {
        info.sample.and_then(|index| self.run.sample(index)).map_or("", |sample| &sample.tag)
    }
}

impl<'s> OpenCheckpoint<'s> {
    /// The kernel. Make one for all that is read of this checkpoint: translations are kept.
    #[must_use]
    pub fn kernel(&self) -> KernelView<'_> {
        KernelView::new(self.profile, &self.memory)
    }

    /// The kernel's debug information, where it was asked for.
    #[must_use]
    pub fn debuginfo(&self) -> Option<&'s DebugInfo> {
        self.debuginfo
    }

    /// The memory of the guest.
    #[must_use]
    pub fn memory(&self) -> &CheckpointMemory<'s> {
        &self.memory
    }

    /// Which checkpoint it is.
    #[must_use]
    pub fn info(&self) -> CheckpointInfo {
        self.info
    }

    /// The sample that was taken with it, if it could be read.
    #[must_use]
    pub fn sample(&self) -> Option<&'s Sample> {
        self.run.sample(self.info.sample?)
    }

    /// The registers of the vCPUs; empty if they are not known.
    #[must_use]
    pub fn vcpus(&self) -> &'s [VcpuRegs] {
        self.sample().map_or(&[], |sample| &sample.vcpus)
    }

    /// The tag of its capture; empty if that is not known.
    #[must_use]
    pub fn tag(&self) -> &'s str {
        self.sample().map_or("", |sample| &sample.tag)
    }

    /// Guest time in ns since the body began.
    #[must_use]
    pub fn since_start_ns(&self) -> i64 {
        self.run.since_start_ns(self.info.guest_ns)
    }

    /// Which checkpoint it is, for people: `checkpoint 3: periodic_002 at 2.547s`.
    #[must_use]
    pub fn title(&self) -> String {
        clean(&format!(
            "checkpoint {}: {} at {}",
            self.info.index,
            self.tag(),
            seconds(self.since_start_ns())
        ))
    }
}
