//! The socket to the test binary.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use guest_init::message::{ArchivedFromTest, CaptureReason, ToHost};
use rkyv::rancor;
use rkyv::util::AlignedVec;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use crate::Failure;
use crate::link::Link;

/// Largest packet that is taken; the kernel's default send buffer allows no larger one.
const PACKET_BYTES: usize = 256 << 10;

/// Init's end.
pub struct TestSocket {
    end: Option<OwnedFd>,
    packet: AlignedVec,
}

impl TestSocket {
    /// A pair: this end, and the one for the test binary.
    pub fn pair() -> Result<(Self, OwnedFd), Failure> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|error| format!("making the test's socket: {error}"))?;
        let mut packet = AlignedVec::new();
        packet.resize(PACKET_BYTES, 0);
        Ok((Self { end: Some(ours), packet }, theirs))
    }

    /// The descriptor to poll, while the other end is open.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().map(AsFd::as_fd)
    }

    /// Serve one packet. Only to be called when poll says that there is something.
    pub fn serve(&mut self, link: &mut Link) {
        let Some(end) = &self.end else { return };
        let length = match recv(end, &mut self.packet[..], RecvFlags::TRUNC) {
            Ok((_, length)) if length > 0 => length,
            _ => return self.end = None,
        };
        let archive = self.packet.get(..length);
        let message = archive.and_then(|bytes| rkyv::access::<ArchivedFromTest, rancor::Error>(bytes).ok());
        match (message, archive) {
            (Some(ArchivedFromTest::Capture { tag }), _) => {
                let taken = link.capture(tag, CaptureReason::OnDemand);
                // The test may have ended meanwhile; then nobody waits for the answer.
                let _closed = send(end, &[u8::from(taken)], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            }
            (Some(_), Some(bytes)) => link.send(&ToHost::Test(bytes.to_vec())),
            _ => link.note(&format!("the test binary sent a packet of {length} bytes that is no message")),
        }
    }
}
