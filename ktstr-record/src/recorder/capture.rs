//! Taking a capture of a machine that is stopped.
//!
//! The kernel's profile (symbols and types) is decoded beside the run: it takes a few hundred ms of a CPU, and nothing
//! needs it before the first capture, which comes when the scheduler has loaded. What it reads does not change while the
//! kernel runs, so the guest need not be stopped for it.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ktstr_replay::kernel::history::Undecoded;
use ktstr_replay::kernel::{
    Caps, KernelError, KernelProfile, KernelView, PageClasses, PageClassifier, SampleReader,
};
use ktstr_replay::memory::{LeftOut, Memory};
use ktstr_replay::trace::CapturedCheckpoint;
use ktstr_replay::trace::record::{
    BlobId, BlobRole, CaptureKind, EventBody, PAGE_BYTES, Sample, SchedulerMaps,
};
use ktstr_replay::units::{GuestNs, HostNs, KernelVirt};

use super::history::HistoryKeeper;
use super::request::{CapturePlan, CheckpointPolicy, PageSelection};
use crate::checkpoint::ChangeTracker;
use crate::machine::{GuestRam, Machine};

/// What is asked of one capture.
pub(super) struct CaptureRequest {
    /// Its name.
    pub tag: String,
    /// Why it is taken.
    pub kind: CaptureKind,
    /// Guest time, in ns.
    pub guest_ns: GuestNs,
    /// Host time, in ns.
    pub host_ns: HostNs,
    /// The phase that is on.
    pub phase: Option<(u32, String)>,
}

/// What one capture gave.
pub(super) struct Captured {
    /// The sample; its pause is filled in by the loop, which knows when the machine went on.
    pub sample: Sample,
    /// Guest memory, as it differs from the last checkpoint.
    pub checkpoint: Option<CapturedCheckpoint>,
    /// What the guest's CPUs did since the last one, not decoded yet.
    pub history: Option<Undecoded>,
    /// Whose BPF maps are, of the schedulers that no capture before had.
    pub schedulers: Vec<SchedulerMaps>,
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
    /// The time of the latest capture. A host that is busy hears late of a stop at a watch and dates it late, so that the guest's own
    /// date of what comes after it may be before it.
    latest: GuestNs,
    history: Option<HistoryKeeper>,
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
            latest: GuestNs(0),
            history: plan.history.then(HistoryKeeper::new),
        }
    }

    /// Whether a capture could be taken without waiting for the kernel's profile.
    pub(super) fn is_ready(&self) -> bool {
        self.profile.is_ready()
    }

    /// The kernel's profile, waiting for it if need be.
    ///
    /// # Errors
    /// Why it could not be made.
    pub(super) fn profile(&mut self) -> Result<Arc<KernelProfile>, String> {
        self.profile.get()
    }

    /// An address in words: in which function it is, as far as that is known without waiting.
    pub(super) fn place(&mut self, at: KernelVirt) -> String {
        let profile = if self.is_ready() { self.profile.get().ok() } else { None };
        // Beyond the kernel's image are programs and modules, of which the symbols say nothing.
        let named = profile.as_ref().and_then(|profile| {
            let (symbol, bytes) = profile.symbols().containing(at)?;
            let within = at.0.checked_sub(symbol.address.0)?;
            (within < bytes).then(|| format!("{}+{within:#x}", symbol.name))
        });
        named.unwrap_or_else(|| at.to_string())
    }

    /// Read `machine`, which is stopped.
    pub(super) fn take(&mut self, machine: &mut dyn Machine, request: CaptureRequest) -> Captured {
        let ram = machine.ram();
        let mut sample = self.blank(&request);
        match machine.registers() {
            Ok(vcpus) => sample.vcpus = vcpus,
            Err(error) => sample.faults.push(format!("registers: {error}")),
        }
        let (mut blobs, mut schedulers, mut history) = (Vec::new(), Vec::new(), None);
        match self.profile.get() {
            Ok(profile) => {
                let view = KernelView::new(&profile, &*ram);
                history = self.history.as_mut().and_then(|keeper| keeper.take(&view));
                let state = self.reader.read(&view);
                sample.scx = state.scx;
                sample.maps = state.maps;
                sample.cpus = state.cpus;
                schedulers = state.schedulers;
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
        let checkpoint = self.keeps_memory(request.kind).then(|| {
            let mut classes = self.classify(&*ram).unwrap_or_else(|why| {
                sample.faults.push(format!("all pages are kept, as they cannot be told apart: {why}"));
                None
            });
            // What is in them is in the trace as events.
            if let (Some(classes), Some(history)) = (&mut classes, &history) {
                for page in &history.pages {
                    classes.leave_out(page.0 / PAGE_BYTES as u64, LeftOut::History);
                }
            }
            self.tracker.capture(
                &*ram,
                classes.as_ref(),
                machine.written().as_deref(),
                Some(sample.index),
                sample.guest_ns,
                sample.host_ns,
            )
        });
        Captured { sample, checkpoint, history, schedulers, blobs }
    }

    /// What a capture brought besides the sample, as events: whose maps are, the history; and what is missing of the latter. The machine
    /// may go on meanwhile.
    pub(super) fn events(&mut self, captured: &mut Captured) -> (Vec<EventBody>, Option<String>) {
        let schedulers = std::mem::take(&mut captured.schedulers).into_iter();
        let mut events: Vec<_> = schedulers.map(|one| EventBody::SchedulerMaps(Box::new(one))).collect();
        let Some(keeper) = &mut self.history else { return (events, None) };
        let Sample { kind, guest_ns, .. } = captured.sample;
        events.extend(
            captured.history.take().into_iter().flat_map(|taken| keeper.events(taken, kind, guest_ns)),
        );
        (events, keeper.fault())
    }

    /// What keeps `machine`, which is stopped, from being one with a scheduler that is enabled and well.
    pub(super) fn why_not_enabled(&mut self, machine: &dyn Machine) -> Option<String> {
        let profile = match self.profile.get() {
            Ok(profile) => profile,
            Err(why) => return Some(format!("the kernel could not be read: {why}")),
        };
        let ram = machine.ram();
        // A reader of its own, as one gives each blob once, to the first sample.
        match SampleReader::new(Caps::default()).read(&KernelView::new(&profile, &*ram)).scx {
            Some(scx) if scx.is_enabled() && scx.exit_kind == 0 => None,
            Some(scx) => Some(format!("sched_ext is {}, exit kind {}", scx.state, scx.exit_kind)),
            None => Some("sched_ext's state could not be read".to_owned()),
        }
    }

    /// What the pages are, unless all of them are wanted. The machine is stopped.
    fn classify(&mut self, ram: &dyn Memory) -> Result<Option<PageClasses>, String> {
        if self.selection == PageSelection::All {
            return Ok(None);
        }
        let classifier = self.profile.pages()?;
        classifier.classify(ram, &self.ram).map(Some).map_err(|error| error.to_string())
    }

    /// The next checkpoint builds on none before it.
    pub(super) fn begin_anew(&mut self) {
        self.tracker.reset();
    }

    /// A placeholder for a capture that could not be taken.
    pub(super) fn missed(&mut self, request: &CaptureRequest, why: String) -> Sample {
        Sample { missed: Some(why), ..self.blank(request) }
    }

    fn keeps_memory(&self, kind: CaptureKind) -> bool {
        match self.policy {
            CheckpointPolicy::Every => true,
            CheckpointPolicy::Ends => kind.is_of_an_end(),
            CheckpointPolicy::Never => false,
        }
    }

    fn blank(&mut self, request: &CaptureRequest) -> Sample {
        let index = self.next_index;
        self.next_index += 1;
        // 0: the guest's time is not known yet.
        let guest_ns = match request.guest_ns {
            GuestNs(0) => GuestNs(0),
            at => at.max(self.latest.saturating_add(1)),
        };
        self.latest = self.latest.max(guest_ns);
        let blank = Sample::new(index, request.tag.clone(), request.kind, guest_ns, request.host_ns);
        Sample { phase: request.phase.clone(), ..blank }
    }
}

/// Measures how long a guest is stopped for a capture.
pub(super) struct Pause {
    begin: Instant,
    machine: Duration,
}

impl Pause {
    /// The machine has just been told to stop; it took `machine` to do so.
    pub(super) fn begun(begin: Instant, machine: Duration) -> Self {
        Self { begin, machine }
    }

    /// When it was told to.
    pub(super) fn begin(&self) -> Instant {
        self.begin
    }

    /// The machine goes on; that took `machine`. Gives the whole pause and the machine's part of it.
    pub(super) fn ended(self, machine: Duration) -> (Duration, Duration) {
        (self.begin.elapsed(), self.machine + machine)
    }
}

/// A profile that is being made, or was.
pub(super) enum Profile {
    /// On its thread.
    Making(JoinHandle<Result<Made, KernelError>>),
    /// There it is.
    Made(Made),
    /// It could not be made; why.
    Failed(String),
}

/// A kernel's profile, and what was made of it beforehand.
pub(super) struct Made {
    kernel: Arc<KernelProfile>,
    pages: Result<Arc<PageClassifier>, KernelError>,
}

impl Profile {
    /// Begin to make the profile of the kernel in `ram`.
    pub(super) fn start(ram: Arc<GuestRam>) -> io::Result<Self> {
        std::thread::Builder::new()
            .name(String::from("ktstr-profile"))
            .spawn(move || {
                let kernel = Arc::new(KernelProfile::from_memory(&*ram)?);
                // The first sample resolves the layouts of all mirrors, which takes some ms. The guest runs now, so what
                // is read is of no use, but no stop has to pay for it.
                SampleReader::new(Caps::default()).read(&KernelView::new(&kernel, &*ram));
                let pages = PageClassifier::new(Arc::clone(&kernel)).map(Arc::new);
                if let Ok(pages) = &pages {
                    // As above: the layouts of what it looks at, and the pages of the structs themselves.
                    let _ = pages.classify(&*ram, &ram.ranges());
                }
                Ok(Made { kernel, pages })
            })
            .map(Self::Making)
    }

    /// Whether asking for it would not wait.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Making(thread) => thread.is_finished(),
            Self::Made(_) | Self::Failed(_) => true,
        }
    }

    /// The profile, waiting for it if need be.
    ///
    /// # Errors
    /// Why it could not be made.
    pub(super) fn get(&mut self) -> Result<Arc<KernelProfile>, String> {
        self.made().map(|made| Arc::clone(&made.kernel))
    }

    /// What tells the kernel's pages apart, waiting for it if need be.
    ///
    /// # Errors
    /// Why it could not be made.
    pub(super) fn pages(&mut self) -> Result<Arc<PageClassifier>, String> {
        self.made()?.pages.clone().map_err(|error| error.to_string())
    }

    fn made(&mut self) -> Result<&Made, String> {
        if let Self::Making(_) = self {
            *self = match std::mem::replace(self, Self::Failed(String::new())) {
                Self::Making(thread) => match thread.join() {
                    Ok(Ok(made)) => Self::Made(made),
                    Ok(Err(error)) => Self::Failed(error.to_string()),
                    Err(panic) => std::panic::resume_unwind(panic),
                },
                made => made,
            };
        }
        match self {
            Self::Made(made) => Ok(made),
            Self::Failed(why) => Err(why.clone()),
            Self::Making(_) => Err(String::from("still being made")),
        }
    }
}
