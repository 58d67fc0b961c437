//! Handing the job over: its parts, the file that is placed, and what comes between the parts.

use std::io;
use std::time::{Duration, Instant};

use guest_init::message::ToGuest;
use ktstr_replay::trace::record::EventBody;

use super::Session;
use super::watching::attend;
use crate::channel::SendError;
use crate::job::{ClockAndSeed, JobError, JobParts, PackedJob, Way};
use crate::machine::{MOST_TIMES, ServedLimit};
use crate::recorder::asked::Stand;
use crate::recorder::attached::Attached;
use crate::recorder::interrupt;

/// How long init may take to unpack its job, of the time in which the host runs it.
const DELIVERY: Duration = Duration::from_secs(20);
/// How much longer it may take of a guest that is stopped again and again.
const STOPPED: Duration = Duration::from_secs(60);
/// How long it is waited for room between two looks at whether this process is to end.
const ROOM: Duration = Duration::from_millis(200);
/// How long init may take to say where it has room for a file.
const PLACING: Duration = Duration::from_secs(2);
/// How often it is asked.
const PLACING_POLL: Duration = Duration::from_micros(200);

/// How a run ends whose guest does not take its job.
pub(in crate::recorder) const UNDELIVERED: &str = "the guest did not take its job";

/// Why a job was not handed over.
#[derive(Debug, thiserror::Error)]
pub(in crate::recorder) enum DeliveryError {
    /// There is no seed for the guest.
    #[error("could not read /dev/urandom: {0}")]
    Seed(io::Error),
    /// The guest did not take it.
    #[error(transparent)]
    Job(#[from] JobError),
}

impl<'c> Session<'c> {
    /// Hand parts of the job to init, with the time.
    pub(in crate::recorder) fn deliver(
        &mut self,
        job: &PackedJob,
        parts: JobParts,
    ) -> Result<(), DeliveryError> {
        let clock_and_seed = ClockAndSeed::now().map_err(DeliveryError::Seed)?;
        self.look_at_host_time();
        let limit = ServedLimit::begin(DELIVERY, MOST_TIMES, self.host.withheld());
        let paused = self.clock.all_pauses();
        job.deliver(parts, &mut Delivering { session: self, limit, paused }, clock_and_seed)?;
        Ok(())
    }

    /// Write the begin of a file into the pages that init has told of; returns how many bytes of it.
    fn fill_pages(&mut self, bytes: &[u8]) -> usize {
        let Some(pages) = self.pages.take() else { return 0 };
        // A page cannot move while the machine is stopped.
        let Ok(pause) = self.pause() else { return 0 };
        let placed = pages.fill(&self.machine.ram(), bytes);
        self.go_on_after(pause);
        placed
    }

    /// Do this when the scheduler is enabled.
    pub(in crate::recorder) fn when_attached(&mut self, attached: Attached<'c>) {
        self.attached = Some(attached);
    }

    /// The scheduler is enabled, and init waits for the test: save the machine, and send it.
    pub(super) fn go_on_attached(&mut self) -> Result<(), DeliveryError> {
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
            self.go_on_after(pause);
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
}

/// A session that hands over its job.
struct Delivering<'s, 'c> {
    session: &'s mut Session<'c>,
    limit: ServedLimit,
    /// For how long the machine had been stopped at the begin.
    paused: Duration,
}

impl Way for Delivering<'_, '_> {
    fn send(&mut self, message: &ToGuest) -> Result<(), SendError> {
        loop {
            let Session {
                machine, channel, capturer, outbox, clock, phase, watches, probes, told, host, ..
            } = &mut *self.session;
            // What the guest was stopped for meanwhile, by probes in its scheduler's programs, is not its own time; bounded, as a guest may
            // bring about stops without end.
            let stopped = clock.all_pauses().saturating_sub(self.paused).min(STOPPED);
            let deadline = self.limit.end(host.withheld()) + stopped;
            let until = deadline.min(Instant::now() + ROOM);
            // The scheduler may be on its way to be enabled before all is delivered.
            let sent = channel.send_while(message, until, &mut || {
                let stand = Stand { machine: machine.as_mut(), capturer, outbox, clock, phase };
                attend(told, watches, probes, stand);
            });
            match sent {
                Err(SendError::NoRoom { .. }) if until < deadline && !interrupt::is_interrupted() => {}
                sent => return sent,
            }
            self.session.look_at_host_time();
        }
    }

    fn place(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<usize, SendError> {
        self.session.pages = None;
        self.send(&ToGuest::Place { path: path.to_owned(), mode, bytes: bytes.len() as u64 })?;
        let asked = Instant::now();
        while self.session.pages.is_none() && asked.elapsed() < PLACING {
            self.session.attend();
            self.session.listen();
            std::thread::sleep(PLACING_POLL);
        }
        let placed = self.session.fill_pages(bytes);
        if placed > 0 {
            self.send(&ToGuest::Placed)?;
        }
        Ok(placed)
    }
}
