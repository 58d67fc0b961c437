//! Checkpoints of a run as kernels that can be read.

use std::path::Path;

use crate::claim::{SpanNs, seconds};
use crate::debuginfo::{DebugInfo, DebugInfoError};
use crate::judge::Run;
use crate::kernel::{KernelError, KernelProfile, KernelView, ProfileError};
use crate::report::text::clean;
use crate::trace::record::{Sample, VcpuRegs};
use crate::trace::{CheckpointInfo, CheckpointMemory, TraceError};

/// Why a checkpoint cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
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

impl From<KernelError> for StopError {
    fn from(error: KernelError) -> Self {
        Self::Kernel(error.into())
    }
}

/// The checkpoints of a run, and the kernel that they are of.
pub struct Stops<'r> {
    run: &'r Run<'r>,
    profile: KernelProfile,
    debuginfo: Option<DebugInfo>,
    all: Vec<CheckpointInfo>,
}

/// A kernel at one checkpoint.
pub struct Stop<'s> {
    run: &'s Run<'s>,
    info: CheckpointInfo,
    profile: &'s KernelProfile,
    debuginfo: Option<&'s DebugInfo>,
    memory: CheckpointMemory<'s>,
}

impl<'r> Stops<'r> {
    /// The checkpoints of a run. Reads the kernel's symbols and types out of the trace.
    ///
    /// # Errors
    /// [`StopError::NoCheckpoint`], [`StopError::Kernel`].
    pub fn of(run: &'r Run<'r>) -> Result<Self, StopError> {
        let all = run.trace.checkpoints();
        if all.is_empty() {
            return Err(StopError::NoCheckpoint);
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
    /// [`StopError::Trace`] when its tables are damaged.
    pub fn open(&self, info: CheckpointInfo) -> Result<Stop<'_>, StopError> {
        let memory = self.run.trace.checkpoint_memory(info.index)?;
        let debuginfo = self.debuginfo.as_ref();
        Ok(Stop { run: self.run, info, profile: &self.profile, debuginfo, memory })
    }

    /// The checkpoint of the capture tagged `at`; or, where `at` is a time such as `2.5s` or `-300ms`, the last one
    /// at or before it; or, for `None`, that of the scheduler's exit, or the last one.
    ///
    /// # Errors
    /// [`StopError::NoneAt`]; those of [`Stops::open`].
    pub fn at(&self, at: Option<&str>) -> Result<Stop<'_>, StopError> {
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
        let found = found
            .ok_or_else(|| StopError::NoneAt { wanted: at.unwrap_or_default().to_owned(), have: have() })?;
        self.open(found)
    }

    /// The checkpoint that was taken with the capture of the scheduler's exit.
    #[must_use]
    pub fn of_exit(&self) -> Option<CheckpointInfo> {
        let sample = self.run.scheduler_exit()?.sample?;
        self.all.iter().find(|info| info.sample == Some(sample)).copied()
    }

    fn tag(&self, info: &CheckpointInfo) -> &str {
        sample_of(self.run, info).map_or("", |sample| &sample.tag)
    }
}

impl<'s> Stop<'s> {
    /// The kernel. Make one for all that is read of this stop: translations are kept.
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
    pub fn checkpoint(&self) -> CheckpointInfo {
        self.info
    }

    /// The sample that was taken with it, if it could be read.
    #[must_use]
    pub fn sample(&self) -> Option<&'s Sample> {
        sample_of(self.run, &self.info)
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

fn sample_of<'s>(run: &'s Run<'_>, info: &CheckpointInfo) -> Option<&'s Sample> {
    let index = info.sample?;
    run.samples.iter().find(|sample| sample.index == index)
}

/// `2.5s`, `2.5` or `-300ms` in ns.
fn time_ns(text: &str) -> Option<i64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1_000_000_000,
        unit => SpanNs::UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    let number: f64 = digits.parse().ok().filter(|number: &f64| number.is_finite())?;
    // Beyond 292 years it is the first or last there is.
    Some((number * unit as f64) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_signs() {
        assert_eq!(time_ns("2.5s"), Some(2_500_000_000));
        assert_eq!(time_ns("2"), Some(2_000_000_000));
        assert_eq!(time_ns("-300ms"), Some(-300_000_000));
        assert_eq!(time_ns("1e300"), Some(i64::MAX));
        for bad in ["", "end", "3 parsecs", "nans", "periodic_001"] {
            assert_eq!(time_ns(bad), None, "{bad}");
        }
    }
}
