//! The loop: what a running machine says, and what is taken from it.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use guest_init::message::{CaptureReason, FromTest, ToHost};
use ktstr_replay::trace::record::{CaptureKind, Clock, EventBody, GuestEnd, LossKind, Stage};
use ktstr_replay::units::GuestNs;

use super::attached::{Attached, Unfit};
use super::capture::{CaptureRequest, Capturer, Pause};
use super::clock::{Cadence, RunClock};
use super::enabling::Enabling;
use super::events;
use super::host_time::{HostGap, HostTime};
use super::interrupt::Guard;
use super::outbox::Outbox;
use super::request::CapturePlan;
use super::writer::{Item, Written};
use crate::channel::{GuestState, HostChannel, Received};
use crate::job::{ClockAndSeed, JobError, JobParts, PackedJob};
use crate::machine::{ChannelRam, Machine, MachineError, MachineEvent, WatchId};

/// How often the channel is looked at.
const POLL: Duration = Duration::from_millis(1);
/// Most polls of the channel between two looks at the machine.
const POLLS_AT_ONCE: usize = 8;
/// How long the gathered events may wait for more.
const FLUSH: Duration = Duration::from_millis(100);
/// How long a capture request may wait for its doorbell before the machine is stopped without it.
const DOORBELL_GRACE: Duration = Duration::from_millis(50);
/// How long init may take to unpack its job.
const DELIVERY: Duration = Duration::from_secs(20);
/// Time between clock records.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);
/// A periodic capture that is this much late is told as a loss.
const LATE: Duration = Duration::from_millis(250);

/// A machine that the host runs stops within this time.
const LONGEST_STOP: Duration = Duration::from_millis(300);

/// How a run ends whose guest does not take its job.
pub(super) const UNDELIVERED: &str = "the guest did not take its job";

/// Why a job was not handed over.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeliveryError {
    /// There is no seed for the guest.
    #[error("could not read /dev/urandom: {0}")]
    Seed(io::Error),
    /// The guest did not take it.
    #[error(transparent)]
    Job(#[from] JobError),
}

/// How a run ended.
pub(super) struct Ending {
    /// In kind.
    pub end: GuestEnd,
    /// In words.
    pub detail: String,
}

/// A capture that the guest asked for.
struct GuestRequest {
    id: u64,
    capture: CaptureRequest,
    received: Instant,
}

/// A machine at work.
pub(super) struct Session<'c> {
    machine: Box<dyn Machine>,
    channel: HostChannel<ChannelRam>,
    capturer: Capturer,
    outbox: Outbox,
    clock: &'c mut RunClock,
    cadence: Cadence,
    requests: VecDeque<GuestRequest>,
    enabling: Enabling,
    /// What is done when the scheduler is enabled, if init waits for it.
    attached: Option<Attached<'c>>,
    unfit: Unfit,
    phase: Option<(u32, String)>,
    /// Running time at which the body began.
    body_began: Option<Duration>,
    body_ended: bool,
    host_time: HostTime,
    /// All pauses up to the last look at the host's time.
    pauses_looked_at: Duration,
}

impl<'c> Session<'c> {
    pub(super) fn new(
        machine: Box<dyn Machine>,
        channel: HostChannel<ChannelRam>,
        capturer: Capturer,
        outbox: Outbox,
        clock: &'c mut RunClock,
        plan: CapturePlan,
        enable_limit: Duration,
    ) -> Self {
        Self {
            machine,
            channel,
            capturer,
            outbox,
            clock,
            cadence: Cadence::new(plan.window, plan.periodic),
            requests: VecDeque::new(),
            enabling: Enabling::new(enable_limit),
            attached: None,
            unfit: Unfit::default(),
            phase: None,
            body_began: None,
            body_ended: false,
            host_time: HostTime::new(),
            pauses_looked_at: Duration::ZERO,
        }
    }

    /// Hand parts of the job to init, with the time.
    pub(super) fn deliver(&mut self, job: &PackedJob, parts: JobParts) -> Result<(), DeliveryError> {
        let clock_and_seed = ClockAndSeed::now().map_err(DeliveryError::Seed)?;
        let Self { machine, channel, .. } = self;
        // The scheduler may be on its way to be enabled before all is delivered.
        let idle = &mut || machine.tend();
        job.deliver(parts, channel, clock_and_seed, Instant::now() + DELIVERY, idle)?;
        Ok(())
    }

    /// Do this when the scheduler is enabled.
    pub(super) fn when_attached(&mut self, attached: Attached<'c>) {
        self.attached = Some(attached);
    }

    /// The guest's clock stood at `guest_ns` when its template was saved.
    pub(super) fn restored_at(&mut self, guest_ns: GuestNs) {
        self.clock.frame(guest_ns);
    }

    /// Add an event of the host's own.
    pub(super) fn tell(&mut self, body: EventBody) {
        self.outbox.event(self.clock.guest_ns(), self.clock.host_ns(), body);
    }

    /// Record until the machine ends, the time is up or a signal comes.
    pub(super) fn run(&mut self, timeout: Duration, guard: &Guard) -> Ending {
        let deadline = Instant::now() + timeout;
        let (mut flushed, mut clocked) = (Instant::now(), Instant::now());
        loop {
            let event = self.machine.wait_event(POLL);
            self.tell_mended();
            self.listen();
            match event {
                Some(MachineEvent::Watch { id: WatchId::DOORBELL, .. }) => self.serve(Some(Instant::now())),
                // Nobody arms another yet.
                Some(MachineEvent::Watch { .. }) => {
                    self.go_on();
                }
                Some(MachineEvent::Ended { end, detail }) => return Ending { end, detail },
                None => {
                    if self.requests.front().is_some_and(|r| r.received.elapsed() > DOORBELL_GRACE) {
                        self.serve(None);
                    }
                }
            }
            if self.attached.is_some()
                && self.channel.state() == GuestState::Attached
                && let Err(error) = self.go_on_attached()
            {
                self.tell(EventBody::Stage { stage: Stage::InitFailed, detail: error.to_string() });
                return Ending { end: GuestEnd::TimedOut, detail: UNDELIVERED.to_owned() };
            }
            self.look_at_host_time();
            self.capture_if_due();
            self.enabling.tell();
            if guard.interrupted() {
                return Ending { end: GuestEnd::Interrupted, detail: String::from("a signal ended the run") };
            }
            if Instant::now() > deadline {
                let detail = format!("the guest did not power off within {:.1} s", timeout.as_secs_f64());
                return Ending { end: GuestEnd::TimedOut, detail };
            }
            if flushed.elapsed() > FLUSH {
                flushed = Instant::now();
                self.outbox.flush();
            }
            if clocked.elapsed() > CLOCK_INTERVAL {
                clocked = Instant::now();
                self.tell_clock();
            }
        }
    }

    /// The scheduler is enabled, and init waits for the test: save the machine, and send it.
    fn go_on_attached(&mut self) -> Result<(), DeliveryError> {
        let Some(Attached { template, job }) = self.attached.take() else { return Ok(()) };
        let begun = Instant::now();
        let pause = self.pause().map_err(|error| error.to_string());
        let saved = pause.and_then(|pause| {
            self.listen();
            self.tell_mended();
            let at = self.clock.guest_ns();
            let fault = self
                .unfit
                .why(&self.machine.console_text(), self.channel.has_all())
                .or_else(|| self.capturer.why_not_enabled(&*self.machine));
            let saved = match fault {
                Some(why) => Err(why),
                None => template.save(&mut *self.machine, at).map_err(|error| error.to_string()),
            };
            let resumed = self.go_on();
            self.clock.paused(pause.ended(resumed).0);
            saved
        });
        let detail = match saved {
            Ok(()) => {
                format!("saved with the scheduler enabled, in {:.3} s", begun.elapsed().as_secs_f64())
            }
            Err(why) => format!("not saved with the scheduler enabled: {why}"),
        };
        self.tell(EventBody::Op { name: EventBody::TEMPLATE.to_owned(), detail });
        self.deliver(job, JobParts::Test)
    }

    /// Take what is left of a machine that has ended or is to be, and close the recording.
    pub(super) fn close(mut self, ending: Ending) -> Written {
        if matches!(ending.end, GuestEnd::Panicked | GuestEnd::Reset | GuestEnd::TimedOut) {
            let begin = Instant::now();
            if let Ok(machine) = self.machine.pause() {
                let request = self.request(String::from("death"), CaptureKind::GuestDeath);
                self.take(request, Pause::begun(begin, machine), false);
            }
        }
        let gap = self.host_time.over();
        self.tell_gap(gap);
        self.tell_mended();
        self.machine.kill();
        self.listen();
        while let Some((index, _)) = self.cadence.due() {
            self.cadence.advance();
            self.miss(index, String::from("the run ended before it was due"));
        }
        for request in std::mem::take(&mut self.requests) {
            let sample =
                self.capturer.missed(&request.capture, String::from("the run ended before it was taken"));
            self.outbox.capture(sample, None);
        }
        let Ending { end, detail } = ending;
        self.tell(EventBody::End { end, detail });
        self.tell_clock();
        self.outbox.close(self.clock.host_ns()).finish()
    }

    /// Notice that the host does not run the machine.
    fn look_at_host_time(&mut self) {
        let now = Instant::now();
        if !self.host_time.is_due(now) {
            return;
        }
        let Some(used) = self.machine.cpu_use() else { return };
        let pauses = self.clock.all_pauses();
        let paused = pauses.saturating_sub(std::mem::replace(&mut self.pauses_looked_at, pauses));
        let gap = self.host_time.look(now, paused, used);
        self.tell_gap(gap);
    }

    fn tell_gap(&mut self, gap: Option<HostGap>) {
        let Some(HostGap { length, why }) = gap else { return };
        let detail = format!("the host did not run the machine for {} ms: {why}", length.as_millis());
        let ns = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        self.outbox.loss(self.clock.host_ns(), LossKind::HostTime, ns, detail);
    }

    /// What the machine did wrong and mended is told, as a test can depend on it.
    fn tell_mended(&mut self) {
        for stale in self.machine.stale_breakpoints() {
            self.unfit.hear_mended();
            let place = self.capturer.place(stale.at);
            self.tell(events::of_stale_breakpoint(stale, &place));
        }
    }

    /// Take in all that the guest has said.
    fn listen(&mut self) {
        let console = self.machine.console();
        if !console.is_empty() {
            self.tell(EventBody::Console(console));
        }
        // Bounded, so that a guest that never stops talking does not keep the loop from its other duties.
        for _ in 0..POLLS_AT_ONCE {
            let received = self.channel.poll();
            if received.is_empty() {
                return;
            }
            for received in received {
                match received {
                    Received::Frame { guest_ns, message, .. } => {
                        self.clock.frame(guest_ns);
                        self.message(guest_ns, message);
                    }
                    Received::Loss(loss) => {
                        self.unfit.hear_loss();
                        self.outbox.loss(self.clock.host_ns(), LossKind::GuestFrames, 1, loss.to_string());
                    }
                }
            }
        }
    }

    fn message(&mut self, guest_ns: GuestNs, message: ToHost) {
        let host_ns = self.clock.host_ns();
        match message {
            ToHost::Capture { id, tag, reason } => {
                let kind = match reason {
                    CaptureReason::Attach => CaptureKind::Attach,
                    CaptureReason::OnDemand => CaptureKind::OnDemand,
                    CaptureReason::End => CaptureKind::End,
                    CaptureReason::SchedulerExit => CaptureKind::SchedulerExit,
                    CaptureReason::NotEnabled => CaptureKind::NotEnabled,
                };
                let capture = CaptureRequest { tag, kind, guest_ns, host_ns, phase: self.phase.clone() };
                self.requests.push_back(GuestRequest { id, capture, received: Instant::now() });
            }
            ToHost::Dropped { frames, bytes } => {
                self.unfit.hear_loss();
                let detail = format!("init dropped {frames} frames of {bytes} bytes: the ring was full");
                self.outbox.loss(host_ns, LossKind::GuestFrames, frames, detail);
            }
            ToHost::Test(bytes) => match events::decode_test(&bytes) {
                Ok(said) => self.said(guest_ns, said),
                Err(why) => self.outbox.loss(host_ns, LossKind::GuestFrames, 1, why),
            },
            other => {
                self.enabling.hear(&other);
                self.unfit.hear(&other);
                if let Some(body) = events::of_message(other) {
                    self.outbox.event(guest_ns, host_ns, body);
                }
            }
        }
    }

    fn said(&mut self, guest_ns: GuestNs, said: FromTest) {
        match &said {
            FromTest::BodyStarted => self.body_began = Some(self.clock.running()),
            FromTest::BodyEnded { .. } => self.body_ended = true,
            FromTest::PhaseBegin { index, name } => self.phase = Some((*index, name.clone())),
            FromTest::PhaseEnd { .. } => self.phase = None,
            _ => {}
        }
        let ended = matches!(said, FromTest::BodyEnded { .. });
        if let Some(body) = events::of_test(said) {
            self.outbox.event(guest_ns, self.clock.host_ns(), body);
        }
        if ended {
            let body = EventBody::Stage { stage: Stage::BodyEnded, detail: String::new() };
            self.outbox.event(guest_ns, self.clock.host_ns(), body);
        }
    }

    /// Take the captures that the guest asked for. `stopped`: since when the machine is stopped at the doorbell; else
    /// it is stopped here.
    fn serve(&mut self, stopped: Option<Instant>) {
        let pause = match stopped {
            Some(begin) => Pause::begun(begin, Duration::ZERO),
            None => match self.pause() {
                Ok(pause) => pause,
                Err(_) => return,
            },
        };
        // The frame was written before the doorbell was rung, so it is here unless it was lost.
        self.listen();
        let requests = std::mem::take(&mut self.requests);
        let last = requests.len().saturating_sub(1);
        if requests.is_empty() {
            self.go_on();
        }
        let mut pause = Some(pause);
        for (nth, request) in requests.into_iter().enumerate() {
            self.channel.ack_capture(request.id);
            let begun = pause.take().unwrap_or_else(|| Pause::begun(Instant::now(), Duration::ZERO));
            self.take(request.capture, begun, nth == last);
        }
    }

    fn capture_if_due(&mut self) {
        let Some(began) = self.body_began.filter(|_| !self.body_ended) else { return };
        let Some((index, due)) = self.cadence.due() else { return };
        let late = self.clock.running().saturating_sub(began + due);
        if self.clock.running() < began + due || !self.capturer.is_ready() {
            return;
        }
        self.cadence.advance();
        let pause = match self.pause() {
            Ok(pause) => pause,
            Err(error) => return self.miss(index, error.to_string()),
        };
        if late > LATE {
            let detail = format!("periodic_{index:03} was taken {} ms late", late.as_millis());
            self.outbox.loss(self.clock.host_ns(), LossKind::Capture, 0, detail);
        }
        // What the guest said before it stopped comes before the capture.
        self.listen();
        let request = self.request(format!("periodic_{index:03}"), CaptureKind::Periodic);
        self.take(request, pause, true);
    }

    /// Stop the machine. One that takes longer than a stop can take was not run by the host, and its guest's clock went on
    /// until it stopped.
    fn pause(&mut self) -> Result<Pause, MachineError> {
        let begin = Instant::now();
        let machine = self.machine.pause()?;
        if begin.elapsed() >= LONGEST_STOP {
            return Ok(Pause::begun(Instant::now(), Duration::ZERO));
        }
        Ok(Pause::begun(begin, machine))
    }

    fn miss(&mut self, index: u32, why: String) {
        let request = self.request(format!("periodic_{index:03}"), CaptureKind::Periodic);
        let sample = self.capturer.missed(&request, why);
        self.outbox.capture(sample, None);
    }

    fn request(&self, tag: String, kind: CaptureKind) -> CaptureRequest {
        CaptureRequest {
            tag,
            kind,
            guest_ns: self.clock.guest_ns(),
            host_ns: self.clock.host_ns(),
            phase: self.phase.clone(),
        }
    }

    /// Read the stopped machine, let it go on if asked to, and hand over what was read.
    fn take(&mut self, request: CaptureRequest, pause: Pause, go_on: bool) {
        if self.outbox.take_base_lost() {
            self.capturer.begin_anew();
        }
        let mut captured = self.capturer.take(self.machine.as_mut(), request);
        let resumed = if go_on { self.go_on() } else { Duration::ZERO };
        let (whole, machine) = pause.ended(resumed);
        self.clock.paused(whole);
        captured.sample.pause_us = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX);
        captured.sample.machine_us = u64::try_from(machine.as_micros()).unwrap_or(u64::MAX);
        for (role, bytes) in captured.blobs {
            self.outbox.give(Item::Blob(role, bytes));
        }
        self.outbox.capture(captured.sample, captured.checkpoint);
    }

    /// Let the machine go on. That it cannot is heard of as its end, at the next wait.
    fn go_on(&mut self) -> Duration {
        self.machine.resume().unwrap_or_default()
    }

    fn tell_clock(&mut self) {
        let clock = Clock { guest_ns: self.clock.guest_ns(), host_ns: self.clock.host_ns() };
        self.outbox.give(Item::Clock(clock));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ktstr_replay::trace::record::{Manifest, VcpuRegs};
    use ktstr_replay::trace::{Trace, TraceWriter};
    use ktstr_replay::units::{Cpu, GuestPhys, KernelVirt};

    use super::*;
    use crate::machine::{CpuUse, GuestRam, StaleBreakpoint, Watch, WatchSupport};
    use crate::recorder::capture::Profile;
    use crate::recorder::request::{CheckpointPolicy, PageSelection};
    use crate::recorder::writer::WriterThread;

    /// A machine that mends a breakpoint before each of its ends: the first is found by a wait, the other by none.
    struct Mending(Arc<GuestRam>, Vec<StaleBreakpoint>);

    impl Mending {
        fn mends(&mut self, at: u64) {
            self.1.push(StaleBreakpoint { vcpu: Cpu(1), at: KernelVirt(at), replaced: true });
        }
    }

    impl Machine for Mending {
        fn ram(&self) -> Arc<GuestRam> {
            Arc::clone(&self.0)
        }

        fn pause(&mut self) -> Result<Duration, MachineError> {
            self.mends(0xffff_ffff_8100_0002);
            Ok(Duration::ZERO)
        }

        fn resume(&mut self) -> Result<Duration, MachineError> {
            Ok(Duration::ZERO)
        }

        fn registers(&mut self) -> Result<Vec<VcpuRegs>, MachineError> {
            Ok(Vec::new())
        }

        fn wait_event(&mut self, _timeout: Duration) -> Option<MachineEvent> {
            self.mends(0xffff_ffff_8100_0001);
            Some(MachineEvent::Ended { end: GuestEnd::Panicked, detail: String::new() })
        }

        fn tend(&mut self) {}

        fn watch_support(&self) -> WatchSupport {
            WatchSupport { most: 0, write_bytes: 0, execute: false }
        }

        fn arm(&mut self, _id: WatchId, _watch: Watch) -> Result<(), MachineError> {
            Ok(())
        }

        fn disarm(&mut self, _id: WatchId) -> Result<(), MachineError> {
            Ok(())
        }

        fn cpu_use(&self) -> Option<CpuUse> {
            None
        }

        fn stale_breakpoints(&mut self) -> Vec<StaleBreakpoint> {
            std::mem::take(&mut self.1)
        }

        fn console(&mut self) -> Vec<u8> {
            Vec::new()
        }

        fn console_text(&self) -> String {
            String::new()
        }

        fn save(&mut self) -> Result<Vec<u8>, MachineError> {
            Ok(Vec::new())
        }

        fn kill(&mut self) {}
    }

    #[test]
    fn what_a_machine_mended_is_in_the_trace_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.trace.zst");
        let writer = TraceWriter::create(&path, &Manifest::default()).unwrap();
        let ram = Arc::new(GuestRam::new(&[16 << 20]).unwrap());
        let channel = HostChannel::new(ChannelRam::new(Arc::clone(&ram), GuestPhys(8 << 20)).unwrap());
        let plan = CapturePlan {
            periodic: 0,
            window: Duration::ZERO,
            checkpoint: CheckpointPolicy::Never,
            pages: PageSelection::Kernel,
        };
        let profile = Profile::start(Arc::clone(&ram)).unwrap();
        let capturer = Capturer::new(profile, ram.ranges(), 8 << 20..16 << 20, &plan);
        let outbox = Outbox::new(WriterThread::start(writer).unwrap());
        let mut clock = RunClock::start();
        let machine = Box::new(Mending(ram, Vec::new()));
        let mut session = Session::new(machine, channel, capturer, outbox, &mut clock, plan, Duration::ZERO);
        let ending = session.run(Duration::from_secs(60), &Guard::new().unwrap());
        let written = session.close(ending);
        written.writer.finish().unwrap();

        let told: Vec<String> = Trace::open(&path)
            .unwrap()
            .events()
            .into_iter()
            .filter_map(|event| match event.body {
                EventBody::Op { name, detail } if name == EventBody::MENDED => Some(detail),
                _ => None,
            })
            .collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("CPU 1 executed a breakpoint at 0xffffffff81000001 that was gone"),
            "{told:?}"
        );
        assert!(told[1].contains("0xffffffff81000002"), "{told:?}");
    }
}
