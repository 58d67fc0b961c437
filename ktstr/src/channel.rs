//! The socket to guest-init: one archive of `FromTest` a packet.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use guest_init::message::{FromTest, MemoryOrder, ProbeOrder, SchedulerOrder, WatchOrder};
use ktstr_replay::path::SyntaxError;
use rkyv::rancor;
use rustix::io::{self, Errno};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Longest text in a message, in bytes: with its neighbours it must fit into one packet (208 KiB by default).
const MAX_TEXT_BYTES: usize = 16 << 10;
/// Most failures in a message.
const MAX_FAILURES: usize = 8;
/// How long init may take to answer a capture request.
const CAPTURE_TIMEOUT: Duration = Duration::from_secs(60);

/// The way to the host.
#[derive(Debug)]
pub struct Channel {
    socket: Mutex<OwnedFd>,
    /// There is a guest, with init and a machine.
    has_guest: bool,
}

/// Why init could not be told something.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// A message could not be archived.
    #[error("could not encode a message for guest-init")]
    Encode(#[source] rancor::Error),
    /// The socket failed.
    #[error("could not {what} guest-init's socket")]
    Socket {
        /// `write to`, `read from` or `set up`.
        what: &'static str,
        /// Why.
        source: Errno,
    },
    /// init closed the socket instead of letting the body begin.
    #[error("guest-init sent {bytes} bytes instead of letting the body begin")]
    Begin {
        /// What came, 0 at a closed socket.
        bytes: usize,
    },
    /// init closed the socket or answered something unknown.
    #[error("guest-init answered {found} to the capture request `{tag}`")]
    Answer {
        /// Name of the capture.
        tag: String,
        /// What came.
        found: String,
    },
    /// init could not do with the scheduler what it was to do.
    #[error("guest-init could not do it: {why}")]
    Scheduler {
        /// Why.
        why: String,
    },
    /// The host could not watch it.
    #[error("`{target}` cannot be watched; the report and `ktstr replay --watches` have the reason")]
    NotWatched {
        /// What was to be watched.
        target: String,
    },
    /// The host could not probe it.
    #[error("`{target}` cannot be probed; the report and `ktstr replay --probes` have the reason")]
    NotProbed {
        /// What was to be probed.
        target: String,
    },
    /// The host could not read or change a number in the kernel's memory.
    #[error("could not {what} `{target}` in the kernel's memory: {why}")]
    Memory {
        /// `read` or `write`.
        what: &'static str,
        /// The number.
        target: String,
        /// Why not.
        why: String,
    },
    /// There is nothing to do it with.
    #[error(
        "could not {what}: the test is `host_only`, so that there is no guest; leave that out to run the body in one"
    )]
    OnHost {
        /// `take a capture`.
        what: &'static str,
    },
    /// What a watch or a probe is of, or under which condition, cannot be read.
    #[error("{}", .0.render())]
    Syntax(SyntaxError),
    /// The host could not take the capture.
    #[error("the host did not take the capture `{tag}`; its placeholder in the trace has the reason")]
    NotTaken {
        /// Name of the capture.
        tag: String,
    },
}

impl Channel {
    /// A channel over init's socket.
    ///
    /// # Errors
    /// The kernel's, when the socket takes no timeout.
    pub fn new(socket: OwnedFd) -> Result<Self, ChannelError> {
        set_socket_timeout(&socket, Timeout::Recv, Some(CAPTURE_TIMEOUT))
            .map_err(|source| ChannelError::Socket { what: "set up", source })?;
        Ok(Self { socket: Mutex::new(socket), has_guest: true })
    }

    /// A channel to the recorder of a body that runs on the host.
    pub fn on_host(socket: OwnedFd) -> Self {
        Self { socket: Mutex::new(socket), has_guest: false }
    }

    /// Whether there is a guest.
    pub fn has_guest(&self) -> bool {
        self.has_guest
    }

    fn needs_guest(&self, what: &'static str) -> Result<(), ChannelError> {
        if self.has_guest { Ok(()) } else { Err(ChannelError::OnHost { what }) }
    }

    /// Wait until init says that the body may begin: that the scheduler is enabled, and captured. There is
    /// no timeout: init ends a process that has waited too long.
    ///
    /// # Errors
    /// [`ChannelError::Begin`], [`ChannelError::Socket`].
    pub fn await_begin(socket: &OwnedFd) -> Result<(), ChannelError> {
        let mut word = [0_u8; 1];
        let bytes = receive(socket, &mut word)?;
        if bytes == 1 { Ok(()) } else { Err(ChannelError::Begin { bytes }) }
    }

    /// The socket once more, for input of a shell: packets that nobody asked for.
    ///
    /// # Errors
    /// The kernel's, when there can be no further descriptor.
    pub fn input(&self) -> Result<OwnedFd, ChannelError> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.try_clone().map_err(|source| ChannelError::Socket {
            what: "duplicate",
            source: Errno::from_io_error(&source).unwrap_or(Errno::MFILE),
        })
    }

    /// Tell init something. Long texts are cut, and say so.
    ///
    /// # Errors
    /// [`ChannelError::Encode`], [`ChannelError::Socket`].
    pub fn send(&self, message: FromTest) -> Result<(), ChannelError> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        send_packet(&socket, message)
    }

    /// Have the host take a capture. Returns once it was taken.
    ///
    /// # Errors
    /// As [`Channel::send`], a host that could not take it, no answer within a minute.
    pub fn capture(&self, tag: &str) -> Result<(), ChannelError> {
        self.needs_guest("take a capture")?;
        // Held over the answer, so that two threads cannot take each other's.
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answer = [0_u8; 1];
        let bytes = ask(&socket, FromTest::Capture { tag: clip(tag.to_owned()) }, &mut answer)?;
        let found = match (bytes, answer) {
            (1, [1]) => return Ok(()),
            (1, [0]) => return Err(ChannelError::NotTaken { tag: tag.to_owned() }),
            (0, _) => "nothing, and closed its socket,".to_owned(),
            (bytes, [first]) => format!("{bytes} bytes beginning with {first}"),
        };
        Err(ChannelError::Answer { tag: tag.to_owned(), found })
    }

    /// Have the host watch something. Returns once it does, or will as soon as that is there.
    ///
    /// # Errors
    /// As [`Channel::capture`]; what cannot be watched.
    pub fn watch(&self, order: WatchOrder) -> Result<(), ChannelError> {
        self.needs_guest("watch something")?;
        let target = order.target.clone();
        match self.looked_for(FromTest::Watch(order), || format!("watch:{target}"))? {
            true => Ok(()),
            false => Err(ChannelError::NotWatched { target }),
        }
    }

    /// Have the host record the calls of a function. Returns once it does, or will as soon as that is there.
    ///
    /// # Errors
    /// As [`Channel::capture`]; what cannot be probed.
    pub fn probe(&self, order: ProbeOrder) -> Result<(), ChannelError> {
        self.needs_guest("probe something")?;
        let target = order.target.clone();
        match self.looked_for(FromTest::Probe(order), || format!("probe:{target}"))? {
            true => Ok(()),
            false => Err(ChannelError::NotProbed { target }),
        }
    }

    /// Whether the host can have what it was asked to look for.
    fn looked_for(&self, order: FromTest, tag: impl Fn() -> String) -> Result<bool, ChannelError> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answer = [0_u8; 1];
        let bytes = ask(&socket, order, &mut answer)?;
        match (bytes, answer) {
            (1, [1]) => Ok(true),
            (1, [2]) => Ok(false),
            (1, [0]) => Err(ChannelError::NotTaken { tag: tag() }),
            (bytes, [first]) => {
                let found = format!("{bytes} bytes beginning with {first}");
                Err(ChannelError::Answer { tag: tag(), found })
            }
        }
    }

    /// Have the host read a number in the kernel's memory, or change it. Returns what it was.
    ///
    /// # Errors
    /// As [`Channel::capture`]; a number that cannot be had, or that cannot become what is wanted.
    pub fn memory(&self, order: MemoryOrder) -> Result<i128, ChannelError> {
        self.needs_guest("use the kernel's memory")?;
        let what = if order.write.is_some() { "write" } else { "read" };
        let target = order.target.clone();
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let done = have_done(&socket, FromTest::Memory(order))?;
        done.map(i128::from_le_bytes).map_err(|why| ChannelError::Memory { what, target, why })
    }

    /// Have init do something with the scheduler. Returns the scheduler's process id, 0 where there is none, once it is done: init
    /// bounds how long that takes.
    ///
    /// # Errors
    /// As [`Channel::send`], what init could not do and why.
    pub fn order(&self, order: SchedulerOrder) -> Result<u32, ChannelError> {
        self.needs_guest("do something with a scheduler")?;
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let timeout = |timeout| {
            set_socket_timeout(&*socket, Timeout::Recv, timeout)
                .map_err(|source| ChannelError::Socket { what: "set up", source })
        };
        timeout(None)?;
        let done = have_done(&socket, FromTest::Scheduler(order))?;
        timeout(Some(CAPTURE_TIMEOUT))?;
        done.map(u32::from_le_bytes).map_err(|why| ChannelError::Scheduler { why })
    }
}

/// Send an order that is carried out before it is answered; returns its result, or why it failed.
fn have_done<const BYTES: usize>(
    socket: &OwnedFd,
    message: FromTest,
) -> Result<Result<[u8; BYTES], String>, ChannelError> {
    let mut answer = [0_u8; 4 << 10];
    let bytes = ask(socket, message, &mut answer)?;
    Ok(match answer.get(..bytes) {
        Some([1, value @ ..]) if let Ok(value) = <[u8; BYTES]>::try_from(value) => Ok(value),
        Some([0, why @ ..]) => Err(String::from_utf8_lossy(why).into_owned()),
        _ => Err("guest-init closed its socket".to_owned()),
    })
}

/// Tell init something, and take its answer. Returns the answer's length.
fn ask(socket: &OwnedFd, message: FromTest, answer: &mut [u8]) -> Result<usize, ChannelError> {
    send_packet(socket, message)?;
    receive(socket, answer)
}

fn receive(socket: &OwnedFd, packet: &mut [u8]) -> Result<usize, ChannelError> {
    let (_, bytes) = io::retry_on_intr(|| recv(socket, &mut *packet, RecvFlags::empty()))
        .map_err(|source| ChannelError::Socket { what: "read from", source })?;
    Ok(bytes)
}

fn send_packet(socket: &OwnedFd, message: FromTest) -> Result<(), ChannelError> {
    let bytes = rkyv::to_bytes::<rancor::Error>(&clipped(message)).map_err(ChannelError::Encode)?;
    io::retry_on_intr(|| send(socket, &bytes, SendFlags::NOSIGNAL))
        .map_err(|source| ChannelError::Socket { what: "write to", source })?;
    Ok(())
}

fn clipped(message: FromTest) -> FromTest {
    match message {
        FromTest::BodyEnded { error, failures } => {
            let more = failures.len().saturating_sub(MAX_FAILURES);
            let mut failures: Vec<String> = failures.into_iter().take(MAX_FAILURES).map(clip).collect();
            if more > 0 {
                failures.push(format!("(and {more} more)"));
            }
            FromTest::BodyEnded { error: error.map(clip), failures }
        }
        FromTest::PhaseBegin { index, name } => FromTest::PhaseBegin { index, name: clip(name) },
        FromTest::Op { name, detail } => FromTest::Op { name: clip(name), detail: clip(detail) },
        other => other,
    }
}

fn clip(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let end = text.floor_char_boundary(MAX_TEXT_BYTES);
        let cut = text.len() - end;
        text.truncate(end);
        text.push_str(&format!(" (and {cut} bytes more)"));
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use std::thread;

    use guest_init::message::{Latencies, WorkerDetail, WorkerReport};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;
    use crate::worker::SAMPLES;

    /// A channel and init's end of it.
    pub fn pair() -> (Channel, OwnedFd) {
        let (ours, inits) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("sockets");
        (Channel::new(ours).expect("a channel"), inits)
    }

    /// The next message that arrived at init's end; `None` once the other end is closed.
    pub fn next(inits: &OwnedFd) -> Option<FromTest> {
        let mut packet = vec![0_u8; 256 << 10];
        let (_, bytes) = recv(inits, &mut packet[..], RecvFlags::empty()).expect("a packet");
        if bytes == 0 {
            return None;
        }
        let mut aligned = rkyv::util::AlignedVec::<16>::new();
        aligned.extend_from_slice(&packet[..bytes]);
        Some(rkyv::from_bytes::<FromTest, rancor::Error>(&aligned).expect("a message"))
    }

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let (channel, inits) = pair();
        let message = FromTest::PhaseBegin { index: 3, name: "steady".to_owned() };
        channel.send(message.clone()).expect("room");
        assert_eq!(next(&inits), Some(message));
    }

    #[test]
    fn texts_that_fit_no_packet_are_cut_and_say_so() {
        let (channel, inits) = pair();
        let failures = vec!["\u{e9}".repeat(1 << 20); 100];
        channel.send(FromTest::BodyEnded { error: None, failures }).expect("room");
        let Some(FromTest::BodyEnded { failures, .. }) = next(&inits) else {
            panic!("not the message that was sent");
        };
        assert_eq!(failures.len(), MAX_FAILURES + 1);
        assert!(failures[0].ends_with("bytes more)"));
        assert_eq!(failures[MAX_FAILURES], "(and 92 more)");
    }

    /// 64 workers, each with as many latencies as are kept of it, on the most CPUs that a machine has.
    #[test]
    fn reports_of_64_workers_take_at_most_a_mebibyte() {
        let full = Latencies { samples_ns: vec![u64::MAX; SAMPLES], ..Latencies::default() };
        let detail = WorkerDetail { wakes: full.clone(), timers: full, ..WorkerDetail::default() };
        let report = WorkerReport { cpus_used: (0..252).collect(), detail, ..WorkerReport::default() };
        let (channel, inits) = pair();
        let mut bytes = 0;
        for index in 0..64 {
            let report = WorkerReport { index, cgroup: "a".repeat(255), ..report.clone() };
            channel.send(FromTest::Worker(Box::new(report))).expect("room");
            let mut packet = vec![0_u8; 256 << 10];
            bytes += recv(&inits, &mut packet[..], RecvFlags::empty()).expect("a packet").1;
        }
        assert!((1 << 19..=1 << 20).contains(&bytes), "{bytes} bytes");
    }

    #[test]
    fn a_capture_waits_for_its_answer() {
        for (answer, taken) in [(1_u8, true), (0, false)] {
            let (channel, inits) = pair();
            let init = thread::spawn(move || {
                let asked = next(&inits);
                send(&inits, &[answer], SendFlags::empty()).expect("room");
                asked
            });
            assert_eq!(channel.capture("here").is_ok(), taken);
            let asked = init.join().expect("init");
            assert_eq!(asked, Some(FromTest::Capture { tag: "here".to_owned() }));
        }
    }

    #[test]
    fn a_watch_waits_for_its_answer() {
        for answer in [1_u8, 2, 0] {
            let (channel, inits) = pair();
            let init = thread::spawn(move || {
                let asked = next(&inits);
                send(&inits, &[answer], SendFlags::empty()).expect("room");
                asked
            });
            let answered = channel.watch(WatchOrder::of("bss.x"));
            assert_eq!(answered.is_ok(), answer == 1);
            assert_eq!(matches!(answered, Err(ChannelError::NotWatched { .. })), answer == 2);
            assert_eq!(init.join().expect("init"), Some(FromTest::Watch(WatchOrder::of("bss.x"))));
        }
    }

    #[test]
    fn the_body_begins_at_inits_word_and_not_when_init_has_gone() {
        let (ours, inits) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("sockets");
        send(&inits, &[1], SendFlags::empty()).expect("room");
        Channel::await_begin(&ours).expect("the word");
        drop(inits);
        assert!(matches!(Channel::await_begin(&ours), Err(ChannelError::Begin { bytes: 0 })));
    }

    #[test]
    fn a_capture_fails_when_init_has_gone() {
        let (channel, inits) = pair();
        drop(inits);
        assert!(matches!(channel.capture("here"), Err(ChannelError::Socket { .. })));
    }
}
