//! The loop: what a running machine says, and what is taken from it.

mod below;
mod delivering;
mod expected;
mod host;
mod memory;
mod waiting;
mod watchdog;
mod watching;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use guest_init::message::{CaptureReason, FromTest, MemoryOrder, Source, ToGuest, ToHost};
use ktstr_replay::trace::record::{CaptureKind, Clock, EventBody, GuestEnd, LossKind, Sample, Stage};
use ktstr_replay::units::{GuestNs, micros};

use self::below::Below;
use self::expected::Expected;
use self::host::Host;
use super::attached::{Attached, Unfit};
use super::capture::{CaptureRequest, Capturer, Pause};
use super::clock::{Cadence, RunClock};
use super::enabling::Enabling;
use super::events;
use super::fail_fast::FailFast;
use super::interrupt;
use super::long_waits::LongWaits;
use super::outbox::Outbox;
use super::placing::Pages;
use super::probes::Probes;
use super::request::CapturePlan;
use super::terminal::Terminal;
use super::watches::Watches;
use super::writer::{Item, Written};
use crate::channel::{GuestState, HostChannel, Received};
use crate::machine::{ChannelRam, Machine, MachineError, MachineEvent, ServedLimit, WatchId};

/// How often the channel is looked at.
const POLL: Duration = Duration::from_millis(1);
/// Most polls of the channel between two looks at the machine.
const POLLS_AT_ONCE: usize = 8;
/// How long the gathered events may wait for more.
const FLUSH: Duration = Duration::from_millis(100);
/// How long a capture request may wait for its doorbell before the machine is stopped without it.
const DOORBELL_GRACE: Duration = Duration::from_millis(50);
/// Time between clock records.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);
/// A periodic capture that is this much late is told as a loss.
const LATE: Duration = Duration::from_millis(250);

/// How many times as long as its limit a run may take, whatever the host gives to it.
const MOST_TIMES: u32 = 3;

/// How long the guest may take to make room for what a person types.
const SHELL_ROOM: Duration = Duration::from_secs(2);

/// A machine that the host runs stops within this time.
const LONGEST_STOP: Duration = Duration::from_millis(300);

pub(super) use delivering::UNDELIVERED;

/// How a run ended.
pub(super) struct Ending {
    /// In kind.
    pub end: GuestEnd,
    /// In words.
    pub detail: String,
}

/// A capture that the guest asked for, or a look for what it wants watched or probed.
struct GuestRequest {
    id: u64,
    purpose: Purpose,
    received: Instant,
}

/// What the guest waits for.
enum Purpose {
    Capture(CaptureRequest),
    /// That what is to be watched is looked for.
    Watch,
    /// That the function is looked for whose calls are to be recorded.
    Probe,
}

/// A machine at work.
pub(super) struct Session<'c> {
    machine: Box<dyn Machine>,
    channel: HostChannel<ChannelRam>,
    capturer: Capturer,
    outbox: Outbox,
    clock: &'c mut RunClock,
    cadence: Cadence,
    expected: Expected,
    below: Below,
    requests: VecDeque<GuestRequest>,
    /// What the test wants done with the kernel's memory.
    memory_orders: VecDeque<MemoryOrder>,
    enabling: Enabling,
    /// What is done when the scheduler is enabled, if init waits for it.
    attached: Option<Attached<'c>>,
    unfit: Unfit,
    /// What ends the run at a broken claim, where that is wanted.
    fail_fast: Option<FailFast>,
    watches: Watches,
    long_waits: LongWaits,
    probes: Probes,
    /// Where a person is, for whom the guest has a shell.
    terminal: Option<Terminal>,
    /// What the machine told while a part of the job was handed over.
    told: Option<MachineEvent>,
    /// Where init has room for the file that is being placed.
    pages: Option<Pages>,
    phase: Option<(u32, String)>,
    /// Running time at which the body began.
    body_began: Option<Duration>,
    /// For how long it ran by the guest's time, once it has ended.
    body_took: Option<Duration>,
    /// The guest's time at which it began.
    body_began_at: GuestNs,
    host: Host,
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
            expected: Expected::new(plan.failure_at),
            below: Below::default(),
            requests: VecDeque::new(),
            memory_orders: VecDeque::new(),
            enabling: Enabling::new(enable_limit),
            attached: None,
            unfit: Unfit::default(),
            fail_fast: None,
            watches: Watches::default(),
            long_waits: LongWaits::new(plan.gap_limit),
            probes: Probes::default(),
            terminal: None,
            told: None,
            pages: None,
            phase: None,
            body_began: None,
            body_took: None,
            body_began_at: GuestNs(0),
            host: Host::default(),
        }
    }

    /// The guest's clock stood at `guest_ns` when its template was saved.
    pub(super) fn restored_at(&mut self, guest_ns: GuestNs) {
        self.clock.frame(guest_ns);
    }

    /// End the run where a claim is broken for good.
    pub(super) fn failing_fast(&mut self, fail_fast: Option<FailFast>) {
        self.fail_fast = fail_fast;
    }

    /// Pass on what a person types, and show what the test binary writes.
    pub(super) fn with_shell(&mut self, terminal: Option<Terminal>) {
        self.terminal = terminal;
    }

    fn serve_shell(&mut self) {
        if self.body_began.is_none() {
            return;
        }
        if self.body_has_ended() {
            return self.terminal.iter_mut().for_each(Terminal::give_back);
        }
        for input in self.terminal.as_mut().map(Terminal::input).unwrap_or_default() {
            self.send_or_tell(
                &ToGuest::Shell(input),
                SHELL_ROOM,
                format_args!("the shell did not get what was typed"),
            );
        }
    }

    /// Send what the run goes on without, for which the guest has so long to make room. Where it does not get there, the trace has what
    /// was missed. Nothing that the guest said is lost with it, so that nothing else is in doubt.
    fn send_or_tell(&mut self, message: &ToGuest, room: Duration, missed: fmt::Arguments<'_>) {
        if let Err(error) = self.channel.send(message, Instant::now() + room) {
            let detail = format!("{missed}: {error}");
            self.outbox.loss(self.clock.host_ns(), LossKind::GuestFrames, 0, detail);
        }
    }

    /// Add an event of the host's own.
    pub(super) fn tell(&mut self, body: EventBody) {
        self.outbox.event(self.clock.guest_ns(), self.clock.host_ns(), body);
    }

    /// Record until the machine ends, the time is up or this process is to end.
    pub(super) fn run(&mut self, timeout: Duration) -> Ending {
        let limit = ServedLimit::begin(timeout, MOST_TIMES, self.host.withheld());
        let (mut flushed, mut clocked) = (Instant::now(), Instant::now());
        loop {
            let event = self.told.take().or_else(|| self.machine.wait_event(POLL));
            // What the guest has said is listened to while the machine is stopped, if it is.
            let stopped = Instant::now();
            self.tell_mended();
            self.listen();
            match event {
                Some(MachineEvent::Watch { id: WatchId::DOORBELL, .. }) => self.serve(Some(stopped)),
                Some(MachineEvent::Watch { id, vcpu }) => self.fired(id, vcpu, stopped),
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
            self.find_watched();
            self.look_for_long_waits();
            self.serve_memory();
            self.serve_shell();
            self.capture_if_due();
            self.capture_if_expected();
            self.capture_if_one_below_died();
            self.enabling.tell();
            self.look_at_host_time();
            // Of a gap that is on, the trace does not have anything yet.
            let gaps = self.host.gaps();
            if let Some(claim) = self.fail_fast.as_ref().and_then(|claims| claims.broken(gaps))
                && !self.host.is_in_gap()
            {
                return Ending { end: GuestEnd::FailedFast, detail: claim };
            }
            if let Some(why) = interrupt::why() {
                return Ending { end: GuestEnd::Interrupted, detail: why.to_owned() };
            }
            if self.terminal.as_ref().is_some_and(Terminal::is_left) {
                return Ending { end: GuestEnd::Interrupted, detail: String::from("by Ctrl-] in the shell") };
            }
            // What the guest was stopped for is not its own time; bounded, as a guest may bring about stops without end.
            let held = self.clock.all_pauses().min(timeout);
            if Instant::now() > limit.end(self.host.withheld()) + held {
                let detail = format!("the guest did not power off {}", limit.in_words(self.host.withheld()));
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

    /// Take what is left of a machine that has ended or is to be, and close the recording.
    pub(super) fn close(mut self, ending: Ending) -> Written {
        if matches!(ending.end, GuestEnd::Panicked | GuestEnd::Reset | GuestEnd::TimedOut) {
            let begin = Instant::now();
            if let Ok(machine) = self.machine.pause() {
                let pause = Pause::begun(begin, machine);
                let request = self.request_at(String::from("death"), CaptureKind::GuestDeath, &pause);
                self.take(request, pause, false);
            }
        }
        self.tell_host_time(&ending);
        self.tell_mended();
        self.machine.kill();
        self.listen();
        let (watches, probes, mut stand) = self.watches();
        watches.asked.close(&mut stand);
        probes.close(&mut stand);
        while let Some((index, due)) = self.cadence.due() {
            self.cadence.advance();
            let why = match self.body_took.is_some_and(|took| due < took) {
                // Its workers are gone by then, so that nothing can be made up for.
                true => "it was due while the body ran, and the recorder came to it after the body had ended",
                false => "the run ended before it was due",
            };
            self.miss(index, why.to_owned());
        }
        for request in std::mem::take(&mut self.requests) {
            let Purpose::Capture(capture) = request.purpose else { continue };
            let sample = self.capturer.missed(&capture, String::from("the run ended before it was taken"));
            self.outbox.capture(sample, None);
        }
        let Ending { end, detail } = ending;
        self.tell(EventBody::End { end, detail });
        self.tell_clock();
        self.outbox.close(self.clock.host_ns()).finish()
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
                let phase = self.phase.clone();
                let capture = |kind| Purpose::Capture(CaptureRequest { tag, kind, guest_ns, host_ns, phase });
                let purpose = match reason {
                    CaptureReason::Attach => capture(CaptureKind::Attach),
                    CaptureReason::OnDemand => capture(CaptureKind::OnDemand),
                    CaptureReason::End => capture(CaptureKind::End),
                    CaptureReason::SchedulerExit => capture(CaptureKind::SchedulerExit),
                    CaptureReason::NotEnabled => {
                        self.host.limit_passed();
                        capture(CaptureKind::NotEnabled)
                    }
                    CaptureReason::Watch => Purpose::Watch,
                    CaptureReason::Probe => Purpose::Probe,
                };
                self.requests.push_back(GuestRequest { id, purpose, received: Instant::now() });
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
            ToHost::Pages { stamp, frames } => self.pages = Some(Pages { stamp, frames }),
            other => {
                if let (Some(terminal), ToHost::Output { source: Source::Test, bytes, stderr }) =
                    (&mut self.terminal, &other)
                {
                    terminal.show(bytes, *stderr);
                }
                self.enabling.hear(&other);
                self.unfit.hear(&other);
                self.below.hear(&other);
                self.watches.asked.hear(&other);
                self.probes.asked.hear(&other);
                if let Some(body) = events::of_message(other) {
                    self.outbox.event(guest_ns, host_ns, body);
                }
            }
        }
    }

    fn said(&mut self, guest_ns: GuestNs, said: FromTest) {
        match &said {
            FromTest::BodyStarted => {
                self.body_began = Some(self.clock.running());
                self.body_began_at = guest_ns;
            }
            FromTest::BodyEnded { .. } => {
                self.body_took = Some(Duration::from_nanos(guest_ns.saturating_since(self.body_began_at)));
            }
            FromTest::PhaseBegin { index, name } => self.phase = Some((*index, name.clone())),
            FromTest::PhaseEnd { .. } => self.phase = None,
            FromTest::Watch(order) => self.watch(order.clone(), true),
            FromTest::Probe(order) => self.probe(order.clone(), true),
            FromTest::Memory(order) => self.memory_orders.push_back(order.clone()),
            _ => {}
        }
        for body in events::of_test(said) {
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
            let begun = pause.take().unwrap_or_else(|| Pause::begun(Instant::now(), Duration::ZERO));
            match request.purpose {
                Purpose::Capture(capture) => {
                    self.channel.ack_capture(request.id);
                    self.take(capture, begun, nth == last);
                }
                Purpose::Watch | Purpose::Probe => {
                    let is_probe = matches!(request.purpose, Purpose::Probe);
                    self.serve_look(request.id, is_probe, begun, nth == last);
                }
            }
        }
    }

    fn body_has_ended(&self) -> bool {
        self.body_took.is_some()
    }

    fn capture_if_due(&mut self) {
        let Some(began) = self.body_began.filter(|_| !self.body_has_ended()) else { return };
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
        let request = self.request_at(format!("periodic_{index:03}"), CaptureKind::Periodic, &pause);
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

    /// A capture in a stop, of the moment at which that began.
    fn request_at(&self, tag: String, kind: CaptureKind, pause: &Pause) -> CaptureRequest {
        let guest_ns = self.clock.guest_ns_stopped(pause.begin());
        CaptureRequest { guest_ns, ..self.request(tag, kind) }
    }

    /// Read the stopped machine, let it go on if asked to, and hand over what was read. Returns the sample's index.
    fn take(&mut self, mut request: CaptureRequest, pause: Pause, go_on: bool) -> u32 {
        request.guest_ns = self.clock.date_capture(request.guest_ns);
        let (watches, probes, mut stand) = self.watches();
        watches.at_stop(&mut stand);
        probes.at_stop(&mut stand);
        if self.outbox.take_base_lost() {
            self.capturer.begin_anew();
        }
        let mut captured = self.capturer.take(self.machine.as_mut(), request);
        self.clock.date_capture(captured.sample.guest_ns);
        self.have_stats_asked(&captured.sample);
        let resumed = if go_on { self.go_on() } else { Duration::ZERO };
        let (whole, machine) = pause.ended(resumed);
        self.clock.paused(whole);
        captured.sample.pause_us = micros(whole);
        captured.sample.machine_us = micros(machine);
        let (events, fault) = self.capturer.events(&mut captured);
        let at = (captured.sample.guest_ns, captured.sample.host_ns);
        self.outbox.brought(at, events, fault);
        for (role, bytes) in captured.blobs {
            self.outbox.give(Item::Blob(role, bytes));
        }
        let index = captured.sample.index;
        self.outbox.capture(captured.sample, captured.checkpoint);
        index
    }

    /// Tell init of a capture, so that it asks the scheduler for its statistics. The machine may be stopped: nothing is waited for.
    fn have_stats_asked(&mut self, sample: &Sample) {
        if sample.kind == CaptureKind::GuestDeath {
            return;
        }
        self.send_or_tell(
            &ToGuest::Captured { sample: sample.index },
            Duration::ZERO,
            format_args!("init was not told of the capture {}", sample.tag),
        );
    }

    /// Let the machine go on. That it cannot is heard of as its end, at the next wait.
    fn go_on(&mut self) -> Duration {
        self.machine.resume().unwrap_or_default()
    }

    /// The same after a stop in which nothing was captured.
    fn go_on_after(&mut self, pause: Pause) {
        let resumed = self.go_on();
        self.clock.paused(pause.ended(resumed).0);
    }

    fn tell_clock(&mut self) {
        let clock = Clock { guest_ns: self.clock.guest_ns(), host_ns: self.clock.host_ns() };
        self.outbox.give(Item::Clock(clock));
    }
}

#[cfg(test)]
mod tests;
