//! Recording a body that runs on the host: a process and a socket in the place of a machine and a channel.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ktstr_replay::trace::record::manifest::{KernelInfo, MachineInfo};
use ktstr_replay::trace::record::{
    ClaimRecord, EventBody, GuestEnd, LossKind, Manifest, OutputSource, Stage,
};
use ktstr_replay::units::GuestNs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstat;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};

use super::clock::RunClock;
use super::events;
use super::interrupt::{self, Guard};
use super::naming::begin_with_claims;
use super::outbox::Outbox;
use super::request::{RecordError, say_who_records};
use super::run::Recording;
use super::writer::{WriterThread, Written};

/// How often it is looked whether the process has ended.
const TICK: Duration = Duration::from_millis(20);
/// How long output is waited for after the process ended: what it left behind may hold the pipe.
const DRAIN: Duration = Duration::from_millis(200);
/// Times that something is taken in any case, however long that takes on a host that is busy: more than the socket and the pipes can
/// hold when the process ends, as each has room for 64 KiB or some messages.
const DRAIN_TURNS: usize = 1024;
/// Largest packet of the socket; see `guest-init`.
const PACKET_BYTES: usize = 256 << 10;
/// Most bytes of output in one event.
const PIECE_BYTES: usize = 16 << 10;

/// A body that is to run on the host.
#[derive(Debug)]
pub struct HostRequest {
    /// Where the trace goes, as that of a run in a machine.
    pub trace: PathBuf,
    /// What is known of the run beforehand.
    pub manifest: Manifest,
    /// What is to be judged, kept in the trace.
    pub claims: Vec<ClaimRecord>,
    /// The program whose process runs the body.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// The variable by which it knows its socket: number, device and inode, `5 8:123`.
    pub variable: &'static str,
    /// How long it may run.
    pub timeout: Duration,
}

/// Run a body on the host, in a process of its own, and record what it says and writes.
///
/// # Errors
/// [`RecordError`] when the process cannot be started or the trace not be begun. A body that fails, crashes or hangs is no error: the
/// trace tells of it.
pub fn record_on_host(request: HostRequest) -> Result<Recording, RecordError> {
    let host = |what| move |source| RecordError::Host { what, source };
    let guard = Guard::of_recording()?;
    let (mut body, socket) = start(&request).map_err(host("start the process of the body"))?;
    let begun = || -> Result<_, RecordError> {
        let (path, writer) = begin_with_claims(&request.trace, &manifest(&request), &request.claims)
            .map_err(|source| RecordError::Trace { path: request.trace.clone(), source })?;
        Ok((path, WriterThread::start(writer).map_err(host("start a thread"))?))
    };
    let (path, writer) = match begun() {
        Ok(begun) => begun,
        Err(error) => {
            let _ended = end(&mut body);
            return Err(error);
        }
    };
    let mut session = HostSession::new(Outbox::new(writer), socket, &mut body);
    let (how_it_ended, detail) = session.run(&mut body, request.timeout);
    let exited = end(&mut body).map_or_else(|error| error.to_string(), describe);
    session.drain();
    session.tell(EventBody::Stage { stage: Stage::TestExited, detail: exited });
    session.tell(EventBody::End { end: how_it_ended, detail });
    let duration = session.clock.running();
    let Written { writer, error } = session.outbox.close(session.clock.host_ns()).finish();
    Ok(Recording {
        path,
        writer,
        start: None,
        interrupted: how_it_ended == GuestEnd::Interrupted,
        write_error: error,
        duration,
        _guard: guard,
    })
}

fn manifest(request: &HostRequest) -> Manifest {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
    let mut manifest = Manifest {
        kernel: KernelInfo {
            release: rustix::system::uname().release().to_string_lossy().into_owned(),
            ..KernelInfo::default()
        },
        machine: MachineInfo {
            kind: MachineInfo::HOST.to_owned(),
            why: "the test is `host_only`".to_owned(),
            cpus,
            host_cpus: cpus,
            ..MachineInfo::default()
        },
        ..request.manifest.clone()
    };
    say_who_records(&mut manifest);
    manifest
}

/// The process, in a group of its own, and our end of its socket.
fn start(request: &HostRequest) -> std::io::Result<(Child, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let stat = fstat(&theirs)?;
    let fd = theirs.as_raw_fd();
    let mut command = Command::new(&request.program);
    command
        .args(&request.args)
        .env(request.variable, format!("{fd} {}:{}", stat.st_dev, stat.st_ino))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // The first leaves the socket open for this program and no other, the second has it end with the thread that records it.
    let prepare = move || -> std::io::Result<()> {
        fcntl_setfd(&theirs, FdFlags::empty())?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(())
    };
    // SAFETY: the closure only makes two system calls, and neither allocates nor locks, as is required between fork and exec of a
    // program with threads.
    unsafe { command.pre_exec(prepare) };
    Ok((command.spawn()?, ours))
}

/// End what is left of it, with all processes of its group.
fn end(body: &mut Child) -> std::io::Result<ExitStatus> {
    let ended = body.try_wait()?;
    if let Some(pid) = i32::try_from(body.id()).ok().and_then(Pid::from_raw) {
        let _gone = kill_process_group(pid, Signal::KILL);
    }
    ended.map_or_else(|| body.wait(), Ok)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// What comes from the process, and where it goes.
struct HostSession {
    outbox: Outbox,
    /// `None` once the other end is closed.
    socket: Option<OwnedFd>,
    /// Standard output and standard error, likewise.
    pipes: [Option<File>; 2],
    clock: RunClock,
}

impl HostSession {
    fn new(outbox: Outbox, socket: OwnedFd, body: &mut Child) -> Self {
        let stdout = body.stdout.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        let stderr = body.stderr.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        Self { outbox, socket: Some(socket), pipes: [stdout, stderr], clock: RunClock::start() }
    }

    /// Both clocks are that of the host, from the begin of the recording.
    fn tell(&mut self, body: EventBody) {
        let now = self.clock.host_ns();
        self.outbox.event(GuestNs(now.0), now, body);
    }

    /// Record until the process ends, its time is up, or this process is to end.
    fn run(&mut self, body: &mut Child, timeout: Duration) -> (GuestEnd, String) {
        loop {
            self.turn(TICK);
            self.outbox.flush();
            match body.try_wait() {
                Ok(None) => {}
                Ok(Some(_)) => return (GuestEnd::PoweredOff, String::new()),
                Err(error) => {
                    return (GuestEnd::TimedOut, format!("its process cannot be waited for: {error}"));
                }
            }
            if let Some(why) = interrupt::why() {
                return (GuestEnd::Interrupted, why.to_owned());
            }
            if self.clock.running() >= timeout {
                return (GuestEnd::TimedOut, format!("within {:.1} s", timeout.as_secs_f64()));
            }
        }
    }

    /// Take in what the process has left.
    fn drain(&mut self) {
        let begin = Instant::now();
        let mut turns = 0;
        while self.turn(Duration::from_millis(1)) && (turns < DRAIN_TURNS || begin.elapsed() < DRAIN) {
            turns += 1;
        }
    }

    /// Wait for something, at most for `timeout`, and record it; whether anything came.
    fn turn(&mut self, timeout: Duration) -> bool {
        let (ready_socket, ready_pipes) = self.wait(timeout);
        if ready_socket {
            self.hear();
        }
        for (at, _) in ready_pipes.iter().enumerate().filter(|(_, ready)| **ready) {
            self.relay(at);
        }
        ready_socket || ready_pipes.contains(&true)
    }

    fn wait(&self, timeout: Duration) -> (bool, [bool; 2]) {
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        let mut names = Vec::new();
        let open = self.socket.iter().map(|fd| (2, fd.as_fd()));
        let pipes = self.pipes.iter().enumerate().filter_map(|(at, pipe)| Some((at, pipe.as_ref()?.as_fd())));
        for (name, fd) in open.chain(pipes) {
            names.push(name);
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: timeout.subsec_nanos().into() };
        if poll(&mut fds, Some(&timeout)).is_err() {
            return (false, [false; 2]);
        }
        let is_ready = |wanted: usize| {
            names.iter().zip(&fds).any(|(name, fd)| *name == wanted && !fd.revents().is_empty())
        };
        (is_ready(2), [is_ready(0), is_ready(1)])
    }

    /// Take one message of the body.
    fn hear(&mut self) {
        let Some(socket) = &self.socket else { return };
        let mut packet = vec![0; PACKET_BYTES];
        let length = match recv(socket, &mut packet[..], RecvFlags::TRUNC) {
            Ok((_, length)) if length > 0 => length,
            _ => return self.socket = None,
        };
        let said = packet.get(..length).ok_or_else(|| format!("a message of {length} bytes is too large"));
        match said.and_then(events::decode_test) {
            Ok(said) => events::of_test(said).into_iter().for_each(|body| self.tell(body)),
            Err(why) => self.outbox.loss(self.clock.host_ns(), LossKind::GuestFrames, 1, why),
        }
    }

    /// Take one piece of output. It is there, so that reading does not block.
    fn relay(&mut self, at: usize) {
        let mut piece = [0; PIECE_BYTES];
        let Some(pipe) = &mut self.pipes[at] else { return };
        match pipe.read(&mut piece) {
            Ok(0) | Err(_) => self.pipes[at] = None,
            Ok(length) => {
                let bytes = piece[..length].to_vec();
                self.tell(EventBody::Output { source: OutputSource::Test, stderr: at == 1, bytes });
            }
        }
    }
}
