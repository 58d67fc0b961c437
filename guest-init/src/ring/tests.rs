//! Rings of a few hundred bytes, so that laps are short.

use proptest::prelude::*;

use super::*;

struct Memory {
    head: AtomicU64,
    tail: AtomicU64,
    data: Vec<AtomicU64>,
}

impl Memory {
    fn new(words: usize) -> Self {
        Self {
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            data: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn ring(&self) -> Ring<'_> {
        Ring::new(&self.head, &self.tail, &self.data)
    }
}

#[derive(Debug, Default, PartialEq)]
struct Heard {
    payloads: Vec<Vec<u8>>,
    losses: Vec<Loss>,
}

/// Everything that the reader finds, with a bound that only an endless reader passes.
fn drain(reader: &mut Reader, ring: &Ring<'_>) -> Heard {
    let mut heard = Heard::default();
    let mut payload = AlignedVec::new();
    for _ in 0..10_000 {
        match reader.next(ring, &mut payload) {
            None => return heard,
            Some(Event::Loss(loss)) => heard.losses.push(loss),
            Some(Event::Frame { gap, .. }) => {
                heard.losses.extend(gap);
                heard.payloads.push(payload.to_vec());
            }
        }
    }
    panic!("the reader does not come to an end");
}

fn payload(i: u32, length: usize) -> Vec<u8> {
    (0..length).map(|j| (i as usize * 31 + j) as u8).collect()
}

#[test]
fn frames_arrive_whole_over_many_laps() {
    let memory = Memory::new(64);
    let (mut writer, mut reader) = (Writer::default(), Reader::default());
    for i in 0..1000 {
        let sent = payload(i, i as usize % 300);
        writer.push(&memory.ring(), 5, &sent, 0).expect("the ring is empty");
        assert_eq!(drain(&mut reader, &memory.ring()), Heard { payloads: vec![sent], losses: vec![] });
    }
}

#[test]
fn a_full_ring_refuses_and_keeps_what_it_has() {
    let memory = Memory::new(32);
    let mut writer = Writer::default();
    writer.push(&memory.ring(), 0, b"one", 0).expect("room");
    writer.push(&memory.ring(), 0, &payload(2, 144), 0).expect("room for exactly this");
    assert_eq!(
        writer.push(&memory.ring(), 0, b"", 0),
        Err(PushError::Full { free_bytes: 8, needed_bytes: 48 })
    );
    let heard = drain(&mut Reader::default(), &memory.ring());
    assert_eq!(heard.payloads, [b"one".to_vec(), payload(2, 144)]);
    writer.push(&memory.ring(), 0, b"", 0).expect("room again");
}

#[test]
fn the_reserve_stays_free() {
    let memory = Memory::new(32);
    let mut writer = Writer::default();
    assert!(matches!(writer.push(&memory.ring(), 0, b"", 209), Err(PushError::Full { .. })));
    writer.push(&memory.ring(), 0, b"", 208).expect("room");
}

#[test]
fn a_payload_above_the_limit_is_refused() {
    let memory = Memory::new(32);
    let bytes = MAX_PAYLOAD + 1;
    let refused = Writer::default().push(&memory.ring(), 0, &vec![0; bytes], 0);
    assert_eq!(refused, Err(PushError::TooLarge { bytes }));
}

#[test]
fn dropped_frames_are_a_gap_in_the_numbers() {
    let memory = Memory::new(64);
    let (mut writer, mut reader) = (Writer::default(), Reader::default());
    writer.push(&memory.ring(), 0, b"a", 0).expect("room");
    writer.skip();
    writer.skip();
    writer.push(&memory.ring(), 0, b"b", 0).expect("room");
    let heard = drain(&mut reader, &memory.ring());
    assert_eq!(heard.payloads, [b"a", b"b"]);
    assert_eq!(heard.losses, [Loss::Sequence { expected: 1, found: 3 }]);
}

#[test]
fn a_damaged_frame_costs_itself_only() {
    let memory = Memory::new(64);
    let mut writer = Writer::default();
    for text in [b"aaaa", b"bbbb", b"cccc"] {
        writer.push(&memory.ring(), 0, text, 0).expect("room");
    }
    memory.data[7 + 6].fetch_xor(1, Ordering::Relaxed);
    let heard = drain(&mut Reader::default(), &memory.ring());
    assert_eq!(heard.payloads, [b"aaaa", b"cccc"]);
    assert_eq!(heard.losses, [Loss::Garbage { bytes: 56 }, Loss::Sequence { expected: 1, found: 2 }]);
}

#[test]
fn frames_of_an_earlier_lap_are_not_heard_again() {
    let memory = Memory::new(32);
    let (mut writer, mut reader) = (Writer::default(), Reader::default());
    for _ in 0..4 {
        writer.push(&memory.ring(), 0, &payload(0, 16), 0).expect("room");
    }
    assert_eq!(drain(&mut reader, &memory.ring()).payloads.len(), 4);
    // The head lies: it says that another whole lap has come. What lies there are the four frames from above.
    memory.head.store(512, Ordering::Relaxed);
    let heard = drain(&mut reader, &memory.ring());
    assert_eq!(heard, Heard { payloads: vec![], losses: vec![Loss::Garbage { bytes: 256 }] });
    // The writer knows better: it finds a tail that cannot be, the reader corrects it, and the frame is heard.
    assert!(matches!(writer.push(&memory.ring(), 0, b"new", 0), Err(PushError::Full { free_bytes: 0, .. })));
    let heard = drain(&mut reader, &memory.ring());
    assert_eq!(heard, Heard { payloads: vec![], losses: vec![Loss::Head { found: 256, position: 512 }] });
    writer.push(&memory.ring(), 0, b"new", 0).expect("room");
    assert_eq!(drain(&mut reader, &memory.ring()), Heard { payloads: vec![b"new".to_vec()], losses: vec![] });
}

#[test]
fn an_unaligned_head_is_reported_once_and_waited_out() {
    let memory = Memory::new(32);
    let (mut writer, mut reader) = (Writer::default(), Reader::default());
    memory.head.store(13, Ordering::Relaxed);
    assert_eq!(drain(&mut reader, &memory.ring()).losses, [Loss::Head { found: 13, position: 0 }]);
    assert_eq!(drain(&mut reader, &memory.ring()), Heard::default());
    writer.push(&memory.ring(), 0, b"x", 0).expect("room");
    assert_eq!(drain(&mut reader, &memory.ring()).payloads, [b"x"]);
}

#[test]
fn a_tail_out_of_range_leaves_no_room() {
    let memory = Memory::new(32);
    memory.tail.store(1 << 40, Ordering::Relaxed);
    assert!(matches!(
        Writer::default().push(&memory.ring(), 0, b"x", 0),
        Err(PushError::Full { free_bytes: 0, .. })
    ));
}

#[test]
fn an_overwritten_tail_is_put_right_by_the_next_read() {
    let memory = Memory::new(32);
    let (mut writer, mut reader) = (Writer::default(), Reader::default());
    writer.push(&memory.ring(), 0, b"one", 0).expect("room");
    drain(&mut reader, &memory.ring());
    memory.tail.store(u64::MAX, Ordering::Relaxed);
    assert!(writer.push(&memory.ring(), 0, b"two", 0).is_err());
    assert_eq!(drain(&mut reader, &memory.ring()), Heard::default());
    writer.push(&memory.ring(), 0, b"two", 0).expect("room");
    assert_eq!(drain(&mut reader, &memory.ring()).payloads, [b"two"]);
}

proptest! {
    /// Whatever is written over heads and tails, once it stops both sides find together again: at most one frame
    /// is refused and at most one is lost.
    #[test]
    fn both_sides_recover_from_overwritten_counters(
        writes in prop::collection::vec((prop_oneof![any::<u64>(), (0..600_u64).prop_map(|w| w * 8)], any::<bool>()), 1..6),
        before in 0..40_usize,
    ) {
        let memory = Memory::new(64);
        let (mut writer, mut reader) = (Writer::default(), Reader::default());
        for _ in 0..before {
            writer.push(&memory.ring(), 0, b"before", 0).expect("room");
            drain(&mut reader, &memory.ring());
        }
        for (value, at_head) in writes {
            let counter = if at_head { &memory.head } else { &memory.tail };
            counter.store(value, Ordering::Relaxed);
            prop_assert_eq!(drain(&mut reader, &memory.ring()).payloads, Vec::<Vec<u8>>::new());
        }
        for _ in 0..2 {
            let _refused_or_lost = writer.push(&memory.ring(), 0, b"during", 0);
            drain(&mut reader, &memory.ring());
        }
        writer.push(&memory.ring(), 0, b"after", 0).expect("room");
        prop_assert_eq!(drain(&mut reader, &memory.ring()).payloads, [b"after"]);
    }
}

#[test]
fn a_second_reader_hears_what_the_first_consumed() {
    let memory = Memory::new(64);
    let mut writer = Writer::default();
    writer.push(&memory.ring(), 0, b"ready", 0).expect("room");
    assert_eq!(drain(&mut Reader::default(), &memory.ring()).payloads, [b"ready"]);
    let mut second = Reader::rewound(&memory.ring());
    assert_eq!(drain(&mut second, &memory.ring()).payloads, [b"ready"]);
}

#[test]
fn another_writer_may_count_anew_where_it_is_expected() {
    let memory = Memory::new(64);
    let (mut writer, mut reader) = (Writer::default(), Reader::default());
    for i in 0..3 {
        writer.push(&memory.ring(), 0, &payload(i, 9), 0).expect("room");
    }
    assert_eq!(drain(&mut reader, &memory.ring()).losses, []);
    let mut other = Writer::resume(&memory.ring());
    reader.expect_another_writer();
    other.push(&memory.ring(), 0, &payload(7, 5), 0).expect("room");
    let heard = drain(&mut reader, &memory.ring());
    assert_eq!((heard.payloads, heard.losses), (vec![payload(7, 5)], vec![]));
    // Once only: from there on, each number is due.
    Writer::resume(&memory.ring()).push(&memory.ring(), 0, &payload(8, 5), 0).expect("room");
    let loss = Loss::Sequence { expected: 1, found: 0 };
    assert_eq!(drain(&mut reader, &memory.ring()).losses, [loss]);
}

#[test]
fn forged_headers_cost_two_laps_of_checksums_at_most() {
    let memory = Memory::new(1 << 15);
    // At every word of the magic's kind a header that claims the rest of the ring and is where it says.
    for at in (0..memory.data.len() as u64).step_by(3) {
        let header = Header { length: 150_000, position: at * 8, sequence: 0, time_ns: 0 };
        let words = header.seal(b"");
        for (i, word) in words[..3].iter().enumerate() {
            if let Some(slot) = memory.data.get(at as usize + i) {
                slot.store(*word, Ordering::Relaxed);
            }
        }
    }
    memory.head.store(1 << 18, Ordering::Relaxed);
    let heard = drain(&mut Reader::default(), &memory.ring());
    assert_eq!(heard, Heard { payloads: vec![], losses: vec![Loss::Garbage { bytes: 1 << 18 }] });
}

proptest! {
    #[test]
    fn any_memory_ends_without_a_frame(
        words in prop::collection::vec(any::<u64>(), 64),
        heads in prop::collection::vec(prop_oneof![any::<u64>(), 0..2048_u64, (0..64_u64).prop_map(|w| w * 8)], 1..8),
    ) {
        let memory = Memory::new(64);
        for (slot, word) in memory.data.iter().zip(words) {
            slot.store(word, Ordering::Relaxed);
        }
        let mut reader = Reader::default();
        for head in heads {
            memory.head.store(head, Ordering::Relaxed);
            prop_assert_eq!(drain(&mut reader, &memory.ring()).payloads, Vec::<Vec<u8>>::new());
        }
    }

    #[test]
    fn frames_after_garbage_are_recovered(
        garbage in prop::collection::vec(any::<u64>(), 1..100),
        lengths in prop::collection::vec(0..200_usize, 1..5),
    ) {
        let memory = Memory::new(256);
        let mut writer = Writer { position: garbage.len() as u64 * 8, sequence: 0 };
        for (slot, word) in memory.data.iter().zip(&garbage) {
            slot.store(*word, Ordering::Relaxed);
        }
        let sent: Vec<_> = lengths.iter().enumerate().map(|(i, length)| payload(i as u32, *length)).collect();
        for payload in &sent {
            writer.push(&memory.ring(), 0, payload, 0).expect("room");
        }
        let heard = drain(&mut Reader::default(), &memory.ring());
        prop_assert_eq!(heard.payloads, sent);
        prop_assert_eq!(heard.losses, [Loss::Garbage { bytes: garbage.len() as u64 * 8 }]);
    }

    #[test]
    fn one_overwritten_word_never_changes_a_payload_that_is_heard(
        lengths in prop::collection::vec(0..100_usize, 1..8),
        at in 0..256_usize,
        word in any::<u64>(),
    ) {
        let memory = Memory::new(256);
        let mut writer = Writer::default();
        let sent: Vec<_> = lengths.iter().enumerate().map(|(i, length)| payload(i as u32, *length)).collect();
        for payload in &sent {
            writer.push(&memory.ring(), 0, payload, 0).expect("room");
        }
        memory.data[at].store(word, Ordering::Relaxed);
        let heard = drain(&mut Reader::default(), &memory.ring());
        prop_assert!(heard.payloads.len() + 1 >= sent.len());
        prop_assert!(heard.payloads.iter().all(|payload| sent.contains(payload)));
    }
}
