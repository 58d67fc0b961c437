//! The body of every kind of record: the first byte is the kind, the second the version.
#![no_main]

use ktstr_replay::trace::record::{
    Blob, Checkpoint, ClaimRecord, Clock, Commit, EventChunk, Index, Loss, Manifest, PageChunk, Sample, VerdictText,
};
use ktstr_replay::trace::{Body, Kind};
use libfuzzer_sys::fuzz_target;

/// What decodes must encode, and decode again to what encodes to the same.
fn round<B: Body>(version: u16, bytes: &[u8]) {
    let Ok(value) = B::decode(version, bytes) else { return };
    let once = value.encode().expect("what was decoded encodes");
    let back = B::decode(B::VERSION, &once).expect("what was encoded decodes");
    assert_eq!(once.as_slice(), back.encode().expect("encodes").as_slice());
}

fuzz_target!(|input: &[u8]| {
    let Some(([kind, version], bytes)) = input.split_first_chunk::<2>() else { return };
    let version = u16::from(*version);
    let Some(kind) = Kind::from_code(u16::from(*kind)) else { return };
    match kind {
        Kind::Manifest => round::<Manifest>(version, bytes),
        Kind::Blob => round::<Blob>(version, bytes),
        Kind::Events => round::<EventChunk>(version, bytes),
        Kind::Sample => round::<Sample>(version, bytes),
        Kind::PageChunk => round::<PageChunk>(version, bytes),
        Kind::Checkpoint => round::<Checkpoint>(version, bytes),
        Kind::Claim => round::<ClaimRecord>(version, bytes),
        Kind::Verdict => round::<VerdictText>(version, bytes),
        Kind::Loss => round::<Loss>(version, bytes),
        Kind::Clock => round::<Clock>(version, bytes),
        Kind::Commit => round::<Commit>(version, bytes),
        Kind::Index => round::<Index>(version, bytes),
    }
});
