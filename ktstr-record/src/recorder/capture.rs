//! Taking a capture of a machine that stands still.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use ktstr_replay::kernel::{Caps, KernelView, PageClasses, SampleReader};
use ktstr_replay::memory::Memory;
use ktstr_replay::trace::CapturedCheckpoint;
use ktstr_replay::trace::record::{BlobId, BlobRole, CaptureKind, Sample};

use super::profile::Profile;
use super::request::{CapturePlan, CheckpointPolicy, PageSelection};
use crate::checkpoint::ChangeTracker;
use crate::machine::Machine;

/// What is asked of one capture.
pub(super) struct Wanted {
    /// Its name.
    pub tag: String,
    /// Why it is taken.
    pub kind: CaptureKind,
    /// Guest time, in ns.
    pub guest_ns: u64,
    /// Host time, in ns.
    pub host_ns: u64,
    /// The phase that is on.
    pub phase: Option<(u32, String)>,
}

/// What one capture gave.
pub(super) struct Taken {
    /// The sample; its pause is filled in by the loop, which knows when the machine went on.
    pub sample: Sample,
    /// Guest memory, as it differs from the last checkpoint.
    pub checkpoint: Option<CapturedCheckpoint>,
    /// Blobs that the sample or the checkpoint refers to and that were not written before.
    pub blobs: Vec<(BlobRole, Vec<u8>)>,
}

/// Reads captures out of stopped machines.
pub(super) struct Capturer {
    profile: Profile,
    reader: SampleReader,
    tracker: ChangeTracker,
    policy: CheckpointPolicy,
    selection: PageSelection,
    ram: Vec<Range<u64>>,
    written: BTreeSet<BlobId>,
    kernel_blobs_written: bool,
    next_index: u32,
}

impl Capturer {
    pub(super) fn new(
        profile: Profile,
        ram: Vec<Range<u64>>,
        channel: Range<u64>,
        plan: &CapturePlan,
    ) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            profile,
            reader: SampleReader::new(Caps::default()),
            tracker: ChangeTracker::new(ram.clone(), Some(channel), threads),
            policy: plan.checkpoint,
            selection: plan.pages,
            ram,
            written: BTreeSet::new(),
            kernel_blobs_written: false,
            next_index: 0,
        }
    }

    /// Whether a capture could be taken without waiting for the kernel's profile.
    pub(super) fn is_ready(&self) -> bool {
        self.profile.is_ready()
    }

    /// Read `machine`, which stands still.
    pub(super) fn take(&mut self, machine: &mut dyn Machine, wanted: Wanted) -> Taken {
        let ram = machine.ram();
        let mut sample = self.blank(&wanted);
        match machine.registers() {
            Ok(vcpus) => sample.vcpus = vcpus,
            Err(error) => sample.faults.push(format!("registers: {error}")),
        }
        let mut blobs = Vec::new();
        match self.profile.get() {
            Ok(profile) => {
                let state = self.reader.read(&KernelView::new(&profile, &*ram));
                sample.scx = state.scx;
                sample.maps = state.maps;
                sample.cpus = state.cpus;
                sample.faults.extend(state.faults);
                blobs.extend(
                    state
                        .blobs
                        .into_iter()
                        .filter(|blob| self.written.insert(blob.id))
                        .map(|blob| (blob.role, blob.bytes)),
                );
                if self.policy != CheckpointPolicy::Never && !self.kernel_blobs_written {
                    self.kernel_blobs_written = true;
                    blobs.extend(profile.to_blobs().into_iter().map(|blob| (blob.role, blob.bytes)));
                }
            }
            Err(why) => sample.faults.push(format!("the kernel could not be read: {why}")),
        }
        let checkpoint = self.keeps_memory(wanted.kind).then(|| {
            let classes = self.classify(&*ram).unwrap_or_else(|why| {
                sample.faults.push(format!("all pages are kept, as they cannot be told apart: {why}"));
                None
            });
            self.tracker.capture(&*ram, classes.as_ref(), Some(sample.index), wanted.guest_ns, wanted.host_ns)
        });
        Taken { sample, checkpoint, blobs }
    }

    /// What the pages are, unless all of them are wanted. The machine stands still.
    fn classify(&mut self, ram: &dyn Memory) -> Result<Option<PageClasses>, String> {
        if self.selection == PageSelection::All {
            return Ok(None);
        }
        let classifier = self.profile.pages()?;
        classifier.classify(ram, &self.ram).map(Some).map_err(|error| error.to_string())
    }

    /// The last checkpoint did not reach the trace: the next one must not build on it.
    pub(super) fn checkpoint_lost(&mut self) {
        self.tracker.reset();
    }

    /// A placeholder for a capture that could not be taken.
    pub(super) fn missed(&mut self, wanted: &Wanted, why: String) -> Sample {
        Sample { missed: Some(why), ..self.blank(wanted) }
    }

    fn keeps_memory(&self, kind: CaptureKind) -> bool {
        match self.policy {
            CheckpointPolicy::Every => true,
            CheckpointPolicy::Ends => kind.is_of_an_end(),
            CheckpointPolicy::Never => false,
        }
    }

    fn blank(&mut self, wanted: &Wanted) -> Sample {
        let index = self.next_index;
        self.next_index += 1;
        let blank = Sample::new(index, wanted.tag.clone(), wanted.kind, wanted.guest_ns, wanted.host_ns);
        Sample { phase: wanted.phase.clone(), ..blank }
    }
}

/// Measures how long a guest stands still for a capture.
pub(super) struct Pause {
    begin: Instant,
    machine: Duration,
}

impl Pause {
    /// The machine has just been told to stop; it took `machine` to do so.
    pub(super) fn begun(begin: Instant, machine: Duration) -> Self {
        Self { begin, machine }
    }

    /// The machine goes on; that took `machine`. Gives the whole pause and the machine's part of it.
    pub(super) fn ended(self, machine: Duration) -> (Duration, Duration) {
        (self.begin.elapsed(), self.machine + machine)
    }
}
