//! The host's end of the guest channel.
//!
//! Layout, frames and messages are in the crate `guest_init`. Nothing in the channel memory is trusted: the guest may be
//! dead, or have written anything anywhere.

use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use guest_init::layout::{
    ChannelMemory, MAGIC, OFF_TO_HOST_HEAD, PROTOCOL_VERSION, STATE_ATTACHED, STATE_BUSY, STATE_DONE,
    STATE_EMPTY, STATE_READY, TO_HOST_BYTES,
};
use guest_init::message::{ToGuest, ToHost};
use guest_init::ring::{Event, Loss, PushError, Reader, Writer};
use ktstr_replay::units::GuestNs;
use rkyv::rancor;
use rkyv::util::AlignedVec;

/// Most events that one poll returns: a bound for a guest that writes garbage as fast as it can.
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
                    (sequence, GuestNs(time_ns))
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
        self.send_while(message, deadline, &mut || ())
    }

    /// As [`send`](Self::send), calling `idle` again and again while there is no room.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) fn send_while(
        &mut self,
        message: &ToGuest,
        deadline: Instant,
        idle: &mut dyn FnMut(),
    ) -> Result<(), SendError> {
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
            idle();
            sleep(ROOM_PERIOD);
        }
    }

    /// Tell the guest that this capture was taken.
    pub fn ack_capture(&self, id: u64) {
        self.memory.capture_ack().store(id, Ordering::Release);
    }

    /// Tell the guest that what it asked for with this id cannot be done.
    pub(crate) fn refuse_capture(&self, id: u64) {
        self.memory.capture_ack().store(!id, Ordering::Release);
    }

    /// Whether all that the guest has ever sent is still in the ring, so that another channel over it hears it again.
    pub(crate) fn has_all(&self) -> bool {
        self.memory.words()[OFF_TO_HOST_HEAD / 8].load(Ordering::Acquire) <= TO_HOST_BYTES as u64
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
            STATE_ATTACHED => GuestState::Attached,
            STATE_DONE => GuestState::Done,
            state => GuestState::Unknown { state },
        }
    }
}

/// One thing that a poll found.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// A message.
    Frame {
        /// The guest's `CLOCK_MONOTONIC` when it was sent, ns.
        guest_ns: GuestNs,
        /// Its number; init counts those that it dropped, too.
        sequence: u64,
        /// What it says.
        message: ToHost,
    },
    /// Something that was sent, or that lies where frames are, cannot be had.
    Loss(ChannelLoss),
}

/// What was lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelLoss {
    /// Frames, or bytes that were none.
    #[error(transparent)]
    Ring(Loss),
    /// A frame was whole, but no message of this version.
    #[error("frame {sequence} is no message: {why}")]
    Undecodable {
        /// Its number.
        sequence: u64,
        /// What rkyv said.
        why: String,
    },
}

/// How far a guest's init says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestState {
    /// Not there yet.
    Empty,
    /// Up, and waiting for its job: the moment to save a template.
    Ready,
    /// At its job.
    Busy,
    /// Its scheduler is enabled, and it waits for the test: the moment to save a template of that.
    Attached,
    /// About to power off; nothing follows.
    Done,
    /// The init of another version of this program.
    OtherVersion {
        /// Its protocol's version.
        version: u32,
    },
    /// No state that there is: something wrote over it.
    Unknown {
        /// The word.
        state: u32,
    },
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use guest_init::layout::{CHANNEL_WORDS, OFF_TO_HOST_RING};
    use guest_init::message::{GuestStage, TestJob};
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone)]
    struct Shared(Arc<[AtomicU64; CHANNEL_WORDS]>);

    impl Shared {
        fn new() -> Self {
            let words: Box<[AtomicU64]> = (0..CHANNEL_WORDS).map(|_| AtomicU64::new(0)).collect();
            let words: Box<[AtomicU64; CHANNEL_WORDS]> = words.try_into().expect("as many as that");
            Self(Arc::from(words))
        }
    }

    impl ChannelMemory for Shared {
        fn words(&self) -> &[AtomicU64; CHANNEL_WORDS] {
            &self.0
        }
    }

    fn stage(detail: &str) -> ToHost {
        ToHost::Stage { stage: GuestStage::TestExited, detail: detail.into() }
    }

    fn say(guest: &mut Writer, memory: &Shared, message: &ToHost) {
        let payload = rkyv::to_bytes::<rancor::Error>(message).expect("archived");
        guest.push(&memory.to_host(), 77, &payload, 0).expect("room");
    }

    #[test]
    fn messages_arrive_in_order_with_time_and_number() {
        let memory = Shared::new();
        let (mut host, mut guest) = (HostChannel::new(memory.clone()), Writer::default());
        say(&mut guest, &memory, &stage("one"));
        say(&mut guest, &memory, &stage("two"));
        let expected = [("one", 0), ("two", 1)].map(|(detail, sequence)| Received::Frame {
            guest_ns: GuestNs(77),
            sequence,
            message: stage(detail),
        });
        assert_eq!(host.poll(), expected);
        assert_eq!(host.poll(), []);
    }

    #[test]
    fn a_channel_over_a_restored_guest_hears_what_the_first_one_heard() {
        let memory = Shared::new();
        let mut guest = Writer::default();
        say(&mut guest, &memory, &ToHost::Ready { release: "7.3.4".into() });
        let first = HostChannel::new(memory.clone()).poll();
        assert_eq!(first.len(), 1);
        assert_eq!(HostChannel::new(memory).poll(), first);
    }

    #[test]
    fn a_whole_frame_that_is_no_message_is_a_loss_and_the_next_is_heard() {
        let memory = Shared::new();
        let (mut host, mut guest) = (HostChannel::new(memory.clone()), Writer::default());
        guest.push(&memory.to_host(), 0, &[0xff; 40], 0).expect("room");
        say(&mut guest, &memory, &stage("after"));
        let received = host.poll();
        assert!(
            matches!(received[0], Received::Loss(ChannelLoss::Undecodable { sequence: 0, .. })),
            "{received:?}"
        );
        assert!(matches!(received[1], Received::Frame { sequence: 1, .. }), "{received:?}");
    }

    #[test]
    fn a_job_reaches_the_guest() {
        let memory = Shared::new();
        let mut host = HostChannel::new(memory.clone());
        let job = ToGuest::Test(TestJob { timeout_ms: 5, waits: true, ..TestJob::default() });
        host.send(&job, Instant::now()).expect("room");
        let mut payload = AlignedVec::new();
        let event = Reader::default().next(&memory.to_guest(), &mut payload);
        assert!(matches!(event, Some(Event::Frame { gap: None, .. })), "{event:?}");
        assert_eq!(rkyv::from_bytes::<ToGuest, rancor::Error>(&payload).expect("valid"), job);
    }

    #[test]
    fn a_guest_that_reads_nothing_is_an_error_at_the_deadline() {
        let mut host = HostChannel::new(Shared::new());
        let piece = ToGuest::File { path: "/x".into(), mode: 0, first: true, bytes: vec![0; 256 << 10] };
        let begin = Instant::now();
        let refused = (0..100).find_map(|_| host.send(&piece, begin + Duration::from_millis(50)).err());
        assert!(matches!(refused, Some(SendError::NoRoom { .. })), "{refused:?}");
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    /// A machine that stopped for something of its own makes no room before someone attends to it.
    #[test]
    fn who_waits_for_room_attends_to_other_things() {
        let memory = Shared::new();
        let mut host = HostChannel::new(memory.clone());
        let (mut guest, mut payload, mut attended) = (Reader::default(), AlignedVec::new(), 0);
        let mut idle = || {
            attended += 1;
            while guest.next(&memory.to_guest(), &mut payload).is_some() {}
        };
        let piece = ToGuest::File { path: "/x".into(), mode: 0, first: true, bytes: vec![0; 256 << 10] };
        let deadline = Instant::now() + Duration::from_secs(60);
        for _ in 0..100 {
            host.send_while(&piece, deadline, &mut idle).expect("room");
        }
        assert!((1..100).contains(&attended), "{attended} times for 25 MiB through less than 8");
    }

    #[test]
    fn the_state_is_what_init_publishes() {
        let memory = Shared::new();
        let host = HostChannel::new(memory.clone());
        assert_eq!(host.state(), GuestState::Empty);
        memory.magic().store(MAGIC, Ordering::Relaxed);
        let other = PROTOCOL_VERSION + 1;
        for (version, state, read) in [
            (PROTOCOL_VERSION, 1, GuestState::Ready),
            (PROTOCOL_VERSION, 2, GuestState::Busy),
            (PROTOCOL_VERSION, 3, GuestState::Done),
            (PROTOCOL_VERSION, 4, GuestState::Attached),
            (PROTOCOL_VERSION, 9, GuestState::Unknown { state: 9 }),
            (other, 1, GuestState::OtherVersion { version: other }),
        ] {
            let word = u64::from(version) | state << 32;
            memory.version_and_state().store(word, Ordering::Relaxed);
            assert_eq!(host.state(), read);
        }
    }

    #[test]
    fn a_guest_that_overwrites_its_own_ring_costs_a_loss_and_no_more() {
        let memory = Shared::new();
        let (mut host, mut guest) = (HostChannel::new(memory.clone()), Writer::default());
        say(&mut guest, &memory, &stage("lost"));
        memory.words()[OFF_TO_HOST_RING / 8 + 6].store(0xdead_beef, Ordering::Relaxed);
        say(&mut guest, &memory, &stage("heard"));
        let received = host.poll();
        assert!(
            matches!(received[0], Received::Loss(ChannelLoss::Ring(Loss::Garbage { .. }))),
            "{received:?}"
        );
        assert!(
            received
                .iter()
                .any(|r| matches!(r, Received::Frame { message, .. } if *message == stage("heard")))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_hole_is_polled_to_an_end(
            words in prop::collection::vec(any::<u64>(), 0..4096),
            counters in prop::array::uniform8(prop_oneof![any::<u64>(), (0..1_u64 << 19).prop_map(|w| w * 8)]),
        ) {
            let memory = Shared::new();
            for (slot, word) in memory.words()[OFF_TO_HOST_RING / 8..].iter().zip(words) {
                slot.store(word, Ordering::Relaxed);
            }
            for (slot, word) in memory.words().iter().step_by(8).zip(counters) {
                slot.store(word, Ordering::Relaxed);
            }
            let mut host = HostChannel::new(memory.clone());
            for _ in 0..3 {
                let received = host.poll();
                prop_assert!(received.iter().all(|r| matches!(r, Received::Loss(_))));
            }
            let _room_or_not = host.send(&ToGuest::Stop, Instant::now());
            let _any = host.state();
        }
    }
}
