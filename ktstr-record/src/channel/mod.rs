//! The host's end of the guest channel.
//!
//! Layout, frames and messages are in the crate `guest_init`. Nothing in the channel memory is trusted: the guest may be
//! dead, or have written anything anywhere.

mod received;

use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use guest_init::layout::{
    ChannelMemory, MAGIC, PROTOCOL_VERSION, STATE_BUSY, STATE_DONE, STATE_EMPTY, STATE_READY,
};
use guest_init::message::{ToGuest, ToHost};
use guest_init::ring::{Event, PushError, Reader, Writer};
use rkyv::rancor;
use rkyv::util::AlignedVec;

pub use received::{ChannelLoss, GuestState, Received};

/// Most events that one poll returns, so that a guest that writes nonsense as fast as it can is not listened to
/// for ever.
const POLL_EVENTS: usize = 4096;
/// Most losses among them: each may have cost a scan of the ring.
const POLL_LOSSES: usize = 16;
/// How long to sleep while the guest makes room.
const ROOM_PERIOD: Duration = Duration::from_micros(100);

/// The host's end of the channel of one guest.
pub struct HostChannel<H> {
    memory: H,
    reader: Reader,
    writer: Writer,
    payload: AlignedVec,
}

/// Why a message could not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The guest did not read what was sent before.
    #[error(
        "the guest took nothing from the channel for {waited_ms} ms ({needed_bytes} bytes to send, {free_bytes} free); it hangs or is gone"
    )]
    NoRoom {
        /// How long there was no room.
        waited_ms: u128,
        /// Size of the frame.
        needed_bytes: u64,
        /// Room in the ring.
        free_bytes: u64,
    },
    /// The guest is about to power off; what it sent before says why.
    #[error("the guest ended before it took everything that was sent")]
    GuestDone,
    /// The message is larger than a frame can be.
    #[error("a message of {bytes} bytes does not fit into a frame")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The message could not be archived.
    #[error("archiving a message: {why}")]
    Archive {
        /// What rkyv said.
        why: String,
    },
}

impl<H: ChannelMemory> HostChannel<H> {
    /// A channel over a guest's channel memory, whether that guest was just started or restored from a template.
    ///
    /// The first polls hear everything that is still in the ring, so that a restored guest's `Ready` and kernel
    /// log come again.
    pub fn new(memory: H) -> Self {
        let reader = Reader::rewound(&memory.to_host());
        let writer = Writer::resume(&memory.to_guest());
        Self { memory, reader, writer, payload: AlignedVec::new() }
    }

    /// What the guest has sent since the last poll, in order. Bounded: a flood takes several polls.
    pub fn poll(&mut self) -> Vec<Received> {
        let mut received = Vec::new();
        let mut losses = 0;
        while received.len() < POLL_EVENTS && losses < POLL_LOSSES {
            let Some(event) = self.reader.next(&self.memory.to_host(), &mut self.payload) else { break };
            let (sequence, guest_ns) = match event {
                Event::Loss(loss) => {
                    losses += 1;
                    received.push(Received::Loss(ChannelLoss::Ring(loss)));
                    continue;
                }
                Event::Frame { sequence, time_ns, gap } => {
                    received.extend(gap.map(|loss| Received::Loss(ChannelLoss::Ring(loss))));
                    (sequence, time_ns)
                }
            };
            received.push(match rkyv::from_bytes::<ToHost, rancor::Error>(&self.payload) {
                Ok(message) => Received::Frame { guest_ns, sequence, message },
                Err(error) => {
                    losses += 1;
                    Received::Loss(ChannelLoss::Undecodable { sequence, why: error.to_string() })
                }
            });
        }
        received
    }

    /// Send a message, waiting for room until `deadline`.
    ///
    /// # Errors
    /// [`SendError`]; nothing of the message has then been sent.
    pub fn send(&mut self, message: &ToGuest, deadline: Instant) -> Result<(), SendError> {
        let payload = rkyv::to_bytes::<rancor::Error>(message)
            .map_err(|error| SendError::Archive { why: error.to_string() })?;
        let begin = Instant::now();
        loop {
            match self.writer.push(&self.memory.to_guest(), 0, &payload, 0) {
                Ok(()) => return Ok(()),
                Err(PushError::TooLarge { bytes }) => return Err(SendError::TooLarge { bytes }),
                Err(PushError::Full { free_bytes, needed_bytes }) => {
                    if self.state() == GuestState::Done {
                        return Err(SendError::GuestDone);
                    }
                    if Instant::now() >= deadline {
                        let waited_ms = begin.elapsed().as_millis();
                        return Err(SendError::NoRoom { waited_ms, needed_bytes, free_bytes });
                    }
                }
            }
            sleep(ROOM_PERIOD);
        }
    }

    /// Tell the guest that this capture was taken.
    pub fn ack_capture(&self, id: u64) {
        self.memory.capture_ack().store(id, Ordering::Release);
    }

    /// How far the guest says it is.
    pub fn state(&self) -> GuestState {
        if self.memory.magic().load(Ordering::Acquire) != MAGIC {
            return GuestState::Empty;
        }
        let word = self.memory.version_and_state().load(Ordering::Acquire);
        let (version, state) = (word as u32, (word >> 32) as u32);
        match state {
            _ if version != PROTOCOL_VERSION => GuestState::OtherVersion { version },
            STATE_EMPTY => GuestState::Empty,
            STATE_READY => GuestState::Ready,
            STATE_BUSY => GuestState::Busy,
            STATE_DONE => GuestState::Done,
            state => GuestState::Unknown { state },
        }
    }
}

#[cfg(test)]
mod tests;
