//! The socket to the test binary.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use guest_init::message::{
    ArchivedFromTest, ArchivedSchedulerOrder, CaptureReason, MemoryAnswer, SchedulerOrder, ShellInput,
    TEST_SOCKET_FD, ToHost,
};
use rkyv::rancor;
use rkyv::util::AlignedVec;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use crate::Failure;
use crate::link::Link;

/// Largest packet that is taken; the kernel's default send buffer allows no larger one.
const PACKET_BYTES: usize = 256 << 10;

/// Both ends, until the test binary has its own.
pub struct TestSocket {
    ours: Option<OwnedFd>,
    theirs: Option<OwnedFd>,
    packet: AlignedVec,
    /// What the test wants done with the scheduler, until it is.
    order: Option<SchedulerOrder>,
    /// The test waits for something that the host does without the doorbell.
    awaits_host: bool,
}

impl TestSocket {
    /// A socket whose other end is [`TEST_SOCKET_FD`] in init, too: a child inherits the number, and needs no
    /// code between fork and exec. To be called before init opens anything else.
    pub fn pair() -> Result<Self, Failure> {
        let (theirs, ours) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|error| format!("making the test's socket: {error}"))?;
        if theirs.as_raw_fd() != TEST_SOCKET_FD {
            return Err(format!(
                "the test's socket is descriptor {}, not {TEST_SOCKET_FD}",
                theirs.as_raw_fd()
            ));
        }
        let mut packet = AlignedVec::new();
        packet.resize(PACKET_BYTES, 0);
        Ok(Self { ours: Some(ours), theirs: Some(theirs), packet, order: None, awaits_host: false })
    }

    /// Run `start` so that what it starts inherits the other end, and close that end in init.
    pub fn hand_over<T>(&mut self, start: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        if let Some(theirs) = &self.theirs {
            fcntl_setfd(theirs, FdFlags::empty())
                .map_err(|error| format!("handing over the test's socket: {error}"))?;
        }
        let started = start();
        self.theirs = None;
        started
    }

    /// Tell a test binary that waits for it to begin. One that has ended meanwhile hears nothing.
    pub fn begin(&self) {
        if let Some(ours) = &self.ours {
            let _closed = send(ours, &[1], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    }

    /// What the test wants done with the scheduler, and waits for.
    pub fn take_order(&mut self) -> Option<SchedulerOrder> {
        self.order.take()
    }

    /// Say how an order went: the scheduler's process id, or why it could not be done.
    pub fn answer_order(&self, done: &Result<i32, Failure>) {
        match done {
            Ok(pid) => self.answer(Ok(&pid.to_le_bytes()[..])),
            Err(why) => self.answer(Err(why.as_str())),
        }
    }

    /// What came of something, or why it could not be done.
    fn answer(&self, done: Result<&[u8], &str>) {
        let Some(ours) = &self.ours else { return };
        let packet = match done {
            Ok(value) => [&[1], value].concat(),
            Err(why) => [&[0], why.as_bytes()].concat(),
        };
        // The test may have ended meanwhile; then nobody waits for the answer.
        let _closed = send(ours, &packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }

    /// Whether the test waits for an answer of the host, which no descriptor tells of.
    pub fn awaits_host(&self) -> bool {
        self.awaits_host
    }

    /// Pass on what came of an order on kernel memory.
    pub fn answer_memory(&mut self, answer: &MemoryAnswer) {
        self.awaits_host = false;
        match answer {
            MemoryAnswer::Value(value) => self.answer(Ok(&value.to_le_bytes()[..])),
            MemoryAnswer::Refused(why) => self.answer(Err(why.as_str())),
        }
    }

    /// Pass on input for the shell. Whether it need not be tried again: it was taken, or nobody is there to take it.
    pub fn pass_on(&self, input: &ShellInput) -> bool {
        let Some(ours) = &self.ours else { return true };
        let sent = send(ours, &input.to_packet(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        sent != Err(rustix::io::Errno::AGAIN)
    }

    /// The descriptor to poll, while the other end is open.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.ours.as_ref().map(AsFd::as_fd)
    }

    /// Serve one packet. Only to be called when poll says that there is something.
    pub fn serve(&mut self, link: &mut Link) {
        let Some(ours) = &self.ours else { return };
        let length = match recv(ours, &mut self.packet[..], RecvFlags::TRUNC) {
            Ok((_, length)) if length > 0 => length,
            _ => return self.ours = None,
        };
        let archive = self.packet.get(..length);
        let message = archive.and_then(|bytes| rkyv::access::<ArchivedFromTest, rancor::Error>(bytes).ok());
        match (message, archive) {
            (Some(ArchivedFromTest::Capture { tag }), _) => {
                let taken = link.capture(tag, CaptureReason::OnDemand);
                // The test may have ended meanwhile; then nobody waits for the answer.
                let _closed = send(ours, &[u8::from(taken)], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            }
            (Some(ArchivedFromTest::Watch(order)), Some(bytes)) => {
                ask_for(link, ours, bytes, &order.target, CaptureReason::Watch);
            }
            (Some(ArchivedFromTest::Probe(order)), Some(bytes)) => {
                ask_for(link, ours, bytes, &order.target, CaptureReason::Probe);
            }
            (Some(ArchivedFromTest::Scheduler(order)), _) => {
                self.order = Some(match order {
                    ArchivedSchedulerOrder::Detach => SchedulerOrder::Detach,
                    ArchivedSchedulerOrder::Attach { name } => {
                        SchedulerOrder::Attach { name: name.as_ref().map(|name| name.as_str().to_owned()) }
                    }
                });
            }
            (Some(message), Some(bytes)) => {
                self.awaits_host |= matches!(message, ArchivedFromTest::Memory(_));
                link.send(&ToHost::Test(bytes.to_vec()));
            }
            _ => link.note(&format!("the test binary sent a packet of {length} bytes that is no message")),
        }
    }
}

/// Pass on that the test wants something watched or probed, have the host look for it at once, and answer.
fn ask_for(link: &mut Link, ours: &OwnedFd, message: &[u8], target: &str, reason: CaptureReason) {
    link.send(&ToHost::Test(message.to_vec()));
    let answer = match link.ask(target, reason) {
        Some(true) => 1,
        Some(false) => 2,
        None => 0,
    };
    // The test may have ended meanwhile; then nobody waits for the answer.
    let _closed = send(ours, &[answer], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}
