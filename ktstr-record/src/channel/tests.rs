//! Both ends of a channel in one process; the guest's end is the ring that init uses.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use guest_init::layout::{CHANNEL_WORDS, OFF_TO_HOST_RING};
use guest_init::message::{GuestStage, Job};
use guest_init::ring::Loss;
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
        guest_ns: 77,
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
    let job = ToGuest::Job(Job { wall_clock_ns: 5, seed: vec![1, 2, 3], ..Job::default() });
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
    assert!(matches!(received[0], Received::Loss(ChannelLoss::Ring(Loss::Garbage { .. }))), "{received:?}");
    assert!(
        received.iter().any(|r| matches!(r, Received::Frame { message, .. } if *message == stage("heard")))
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
