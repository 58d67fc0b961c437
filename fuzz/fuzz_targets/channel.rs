//! The host's end of the guest channel, over channel memory that a guest wrote anything into.
//!
//! The first bytes are the ring's two counters, the rest its data; where the frames in it are broken, a frame with
//! the same bytes as its payload is sealed and sent, so that messages are reached, too.
#![no_main]

use std::sync::atomic::{AtomicU64, Ordering};

use guest_init::layout::{CHANNEL_WORDS, ChannelMemory, OFF_TO_HOST_HEAD, OFF_TO_HOST_RING, OFF_TO_HOST_TAIL};
use guest_init::message::ToHost;
use guest_init::ring::{Event, Reader, Writer};
use libfuzzer_sys::fuzz_target;
use rkyv::rancor;
use rkyv::util::AlignedVec;

struct Shared(Box<[AtomicU64; CHANNEL_WORDS]>);

impl ChannelMemory for Shared {
    fn words(&self) -> &[AtomicU64; CHANNEL_WORDS] {
        &self.0
    }
}

thread_local! {
    static MEMORY: Shared = {
        let words: Box<[AtomicU64]> = (0..CHANNEL_WORDS).map(|_| AtomicU64::new(0)).collect();
        Shared(words.try_into().expect("as many as that"))
    };
}

/// Read until the ring is empty. The rings are 2 MiB: there are no more events than words.
fn drain(reader: &mut Reader, memory: &Shared) {
    let mut payload = AlignedVec::new();
    for _ in 0..=CHANNEL_WORDS {
        match reader.next(&memory.to_host(), &mut payload) {
            None => return,
            Some(Event::Loss(loss)) => drop(loss.to_string()),
            Some(Event::Frame { gap, .. }) => {
                drop(gap.map(|loss| loss.to_string()));
                let _ = rkyv::from_bytes::<ToHost, rancor::Error>(&payload);
            }
        }
    }
    panic!("the ring has no end");
}

fuzz_target!(|input: &[u8]| {
    let Some((counters, data)) = input.split_first_chunk::<16>() else { return };
    MEMORY.with(|memory| {
        let words = memory.words();
        // Mostly a few pages apart: a search through all of the ring for each input would be all that is done.
        let bits = if counters[7] & 7 == 7 { u64::MAX } else { 0x3fff };
        let number = |at: usize| bits & u64::from_le_bytes(std::array::from_fn(|i| counters[at + i]));
        words[OFF_TO_HOST_HEAD / 8].store(number(0), Ordering::Relaxed);
        words[OFF_TO_HOST_TAIL / 8].store(number(8), Ordering::Relaxed);
        let ring = &words[OFF_TO_HOST_RING / 8..];
        for (word, chunk) in ring.iter().zip(data.as_chunks::<8>().0) {
            word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
        }
        let mut reader = Reader::rewound(&memory.to_host());
        drain(&mut reader, memory);
        drain(&mut Reader::default(), memory);

        words[OFF_TO_HOST_HEAD / 8].store(0, Ordering::Relaxed);
        words[OFF_TO_HOST_TAIL / 8].store(0, Ordering::Relaxed);
        let mut writer = Writer::default();
        if writer.push(&memory.to_host(), 1, data, 0).is_ok() {
            let mut payload = AlignedVec::new();
            let event = Reader::default().next(&memory.to_host(), &mut payload);
            assert!(matches!(event, Some(Event::Frame { gap: None, .. })), "{event:?}");
            assert_eq!(payload.as_slice(), data);
            let _ = rkyv::from_bytes::<ToHost, rancor::Error>(&payload);
        }
        for word in &ring[..(data.len() / 8 + 16).min(ring.len())] {
            word.store(0, Ordering::Relaxed);
        }
    });
});
