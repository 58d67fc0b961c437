//! One run, from starting the machine to a trace that can be judged.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ktstr_replay::trace::record::{BlobRole, EventBody, GuestEnd, Stage};
use ktstr_replay::trace::{TraceWriter, WriteError};
use ktstr_replay::units::{GuestNs, HostNs, nanos};

use super::attached::Attached;
use super::capture::{Capturer, Profile};
use super::clock::RunClock;
use super::fail_fast::FailFast;
use super::host_time::{GAP, HostGap};
use super::interrupt::{self, Guard};
use super::naming::begin_with_claims;
use super::outbox::Outbox;
use super::request::{RecordError, RecordRequest, complete_manifest};
use super::session::{Ending, Session, UNDELIVERED};
use super::terminal::Terminal;
use super::writer::{Item, WriterThread, Written};
use crate::channel::HostChannel;
use crate::init_image;
use crate::job::JobParts;
use crate::machine::{self, ChannelRam, Start, StartError, StartKind, StartPolicy, Started};
use crate::spec::{BackendSpec, MachineSpec};

/// A finished recording: all is written and committed, the verdict and the footer are still to come.
pub struct Recording {
    /// Where the trace is.
    pub path: PathBuf,
    /// The trace, for its verdict; [`TraceWriter::finish`] then closes it.
    pub writer: TraceWriter,
    /// How the machine came up; `None` when it did not, which the trace says, too.
    pub start: Option<Start>,
    /// The run was ended by a signal, or because its runner is gone.
    pub interrupted: bool,
    /// The trace is incomplete: this is why the recorder stopped writing.
    pub write_error: Option<WriteError>,
    /// Time from the machine's start to its end.
    pub duration: Duration,
    /// A signal that comes while the trace is judged does not cut that off.
    pub(super) _guard: Guard,
}

/// Start a machine, run the job in it and record it all.
///
/// # Errors
/// [`RecordError`] when the host cannot do its part; no trace is then left. A guest that does not boot, panics or hangs is
/// no error: the trace tells of it.
pub fn record(mut request: RecordRequest) -> Result<Recording, RecordError> {
    let guard = Guard::of_recording()?;
    if !request.captures.history {
        request.job.without_history();
    }
    let begun = Instant::now();
    let mut clock = RunClock::start();
    let scheduler = if request.attached { request.job.scheduler_digest()? } else { None };
    let started = machine::start_for(
        &request.machine,
        init_image(),
        &request.cache,
        StartPolicy { stop: interrupt::is_interrupted, ..request.policy },
        scheduler.as_deref(),
    );
    let manifest = complete_manifest(&request, started.as_ref().ok().map(|started| &started.start));
    let began = || {
        begin_with_claims(&request.trace, &manifest, &request.claims)
            .map_err(|source| RecordError::Trace { path: request.trace.clone(), source })
    };
    let Started { machine, start, attached } = match started {
        Ok(started) => started,
        Err(error @ (StartError::Boot { .. } | StartError::Init { .. })) => {
            let (path, writer) = began()?;
            let outbox = Outbox::new(WriterThread::start(writer).map_err(thread)?);
            let written = tell_failed_boot(outbox, &clock, &request.machine, error);
            return Ok(Recording {
                path,
                writer: written.writer,
                start: None,
                interrupted: interrupt::is_interrupted(),
                write_error: written.error,
                duration: begun.elapsed(),
                _guard: guard,
            });
        }
        Err(StartError::Interrupted) => return Err(RecordError::Interrupted),
        Err(error) => return Err(error.into()),
    };
    let (path, writer) = began()?;

    let ram = machine.ram();
    let channel_base = request.machine.channel_base();
    let channel = ChannelRam::new(machine.ram(), channel_base).map_err(|error| RecordError::Host {
        what: "map the guest channel",
        source: std::io::Error::other(error),
    })?;
    let channel_bytes = channel_base.0..channel_base.0 + guest_init::layout::CHANNEL_BYTES as u64;
    let profile = Profile::start(machine.ram()).map_err(thread)?;
    let capturer = Capturer::new(profile, ram.ranges(), channel_bytes, &request.captures);
    let (fail_fast, writer) = match request.fail_fast {
        true => {
            let (fail_fast, captured) = FailFast::start(path.clone()).map_err(thread)?;
            (Some(fail_fast), WriterThread::start_telling(writer, captured).map_err(thread)?)
        }
        false => (None, WriterThread::start(writer).map_err(thread)?),
    };
    let mut outbox = Outbox::new(writer);
    tell_start(&mut outbox, &clock, &start);
    if let Some(config) = &request.config {
        outbox.give(Item::Blob(BlobRole::KernelConfig, config.text.clone()));
    }

    let enable_limit = Duration::from_millis(request.job.scheduler().map_or(0, |job| job.enable_timeout_ms));
    let channel = HostChannel::new(channel);
    let mut session =
        Session::new(machine, channel, capturer, outbox, &mut clock, request.captures, enable_limit);
    session.failing_fast(fail_fast);
    session.with_shell(request.shell.then(Terminal::open));
    let parts = match (start.kind, attached) {
        (StartKind::Attached { saved_at }, _) => {
            session.restored_at(saved_at);
            JobParts::Test
        }
        (_, Some(template)) => {
            session.when_attached(Attached { template, job: &request.job });
            JobParts::Scheduler
        }
        (_, None) => JobParts::All,
    };
    session.look_from_the_beginning(&request.watches, &request.probes);
    let ending = match session.deliver(&request.job, parts) {
        Ok(()) => session.run(request.run_timeout),
        Err(error) => {
            session.tell(EventBody::Stage { stage: Stage::InitFailed, detail: error.to_string() });
            match interrupt::why() {
                Some(why) => Ending { end: GuestEnd::Interrupted, detail: why.to_owned() },
                None => Ending { end: GuestEnd::TimedOut, detail: String::from(UNDELIVERED) },
            }
        }
    };
    let interrupted = ending.end == GuestEnd::Interrupted;
    let Written { writer, error } = session.close(ending);
    Ok(Recording {
        path,
        writer,
        start: Some(start),
        interrupted,
        write_error: error,
        duration: begun.elapsed(),
        _guard: guard,
    })
}

fn thread(source: std::io::Error) -> RecordError {
    RecordError::Host { what: "start a thread", source }
}

fn tell_start(outbox: &mut Outbox, clock: &RunClock, start: &Start) {
    // What comes before the time at which a template was saved is of the template.
    let guest_ns = match start.kind {
        StartKind::Attached { saved_at } => saved_at,
        _ => clock.guest_ns(),
    };
    let mut stage = |stage, detail: String| {
        outbox.event(guest_ns, clock.host_ns(), EventBody::Stage { stage, detail });
    };
    for fault in &start.faults {
        stage(Stage::StartRetried, fault.clone());
    }
    let took = format!("{:.3} s", start.duration.as_secs_f64());
    match start.kind {
        StartKind::Booted => stage(Stage::Booting, took),
        StartKind::BootedAndSaved => stage(Stage::Booting, format!("{took}, saved as a template")),
        StartKind::Restored => stage(Stage::Restored, took),
        StartKind::Attached { .. } => {
            stage(
                Stage::Restored,
                format!("{took}, with the scheduler enabled; what is above is of the template"),
            );
        }
    }
}

/// That the machine came up to no job: `error` is why.
fn tell_failed_boot(
    mut outbox: Outbox,
    clock: &RunClock,
    machine: &MachineSpec,
    error: StartError,
) -> Written {
    let instead = match machine.backend {
        BackendSpec::Kvm(_) => {
            "; KTSTR_MACHINE=qemu takes the emulator, which tells whether it is the kernel"
        }
        BackendSpec::Qemu(_) => "",
    };
    let nothing = Duration::ZERO;
    let times =
        |attempts| if attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") };
    let (detail, fault, console, took, withheld) = match error {
        StartError::Boot { attempts, fault, console, took, withheld } => {
            let times = times(attempts);
            let fault = format!("the kernel did not get to init in {times}: {fault}{instead}");
            (times, fault, console, took, withheld)
        }
        StartError::Init { failure, console } => {
            let fault = format!("the kernel came up, but init could not go on: {failure}");
            (times(1), fault, console, nothing, nothing)
        }
        other => (times(1), other.to_string(), String::new(), nothing, nothing),
    };
    let mut event = |host_ns, body| outbox.event(GuestNs(0), host_ns, body);
    // From when on it was waited for is what the judge compares the host's gaps with.
    let began = HostNs(clock.host_ns().0.saturating_sub(nanos(took)));
    event(began, EventBody::Stage { stage: Stage::Booting, detail });
    event(clock.host_ns(), EventBody::Console(console.into_bytes()));
    event(clock.host_ns(), EventBody::Stage { stage: Stage::InitFailed, detail: fault.clone() });
    if withheld >= GAP {
        HostGap { length: withheld, why: "it booted meanwhile" }.tell(&mut outbox, clock.host_ns());
    }
    outbox.event(GuestNs(0), clock.host_ns(), EventBody::End { end: GuestEnd::TimedOut, detail: fault });
    outbox.close(clock.host_ns()).finish()
}
