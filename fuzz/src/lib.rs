//! What the fuzz targets share: traces whose checksums are right, however wrong the rest is.
//!
//! A mutation of a trace is found by its checksums, and nothing behind them would ever be reached. So a seed is a
//! trace *unpacked*: its records with their bodies decompressed. [`pack`] makes a file of it again, whatever became
//! of it, and seals it.

use xxhash_rust::xxh3::xxh3_64;

const HEADER: usize = 128;
const TAIL: usize = 56;
const STORED_LEN: usize = 64;
const RAW_LEN: usize = 72;
/// Bodies are cut here: a mutated length must not make one input as slow as a thousand.
const MAX_BODY: usize = 1 << 20;

/// Decompress the bodies of the trace `packed`; the length of each then stands where the stored length was.
///
/// # Panics
/// If it is not a sound trace: seeds are made from the writer's output.
pub fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while packed.len() - at > TAIL {
        let header = &packed[at..at + HEADER];
        let stored = number(header, STORED_LEN);
        let body = &packed[at + HEADER..at + HEADER + stored];
        let raw = zstd::bulk::decompress(body, MAX_BODY).expect("a sound body");
        let begin = out.len();
        out.extend_from_slice(header);
        out[begin + STORED_LEN..][..8].copy_from_slice(&(raw.len() as u64).to_le_bytes());
        out.extend_from_slice(&raw);
        at += HEADER + stored;
    }
    out.extend_from_slice(&packed[at..]);
    out
}

/// The trace file of an unpacked one. Whatever is no record is left as it is.
pub fn pack(unpacked: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(unpacked.len());
    let mut compressor = zstd::bulk::Compressor::new(1).expect("zstd has a level 1");
    compressor.include_checksum(true).expect("zstd has checksums");
    let mut index_at = 0;
    let mut rest = unpacked;
    while rest.len() > TAIL.max(HEADER) && rest[8..16] == *b"KTSTRTRC" {
        let (header, after) = rest.split_at(HEADER);
        let raw_len = number(header, STORED_LEN).min(after.len()).min(MAX_BODY);
        let (raw, after) = after.split_at(raw_len);
        let body = compressor.compress(raw).expect("memory");
        index_at = out.len() as u64;
        let mut header = header.to_vec();
        // A length that lies stays a lie: the difference to the seed's is carried over.
        let lie = (number(&header, RAW_LEN) as u64).wrapping_sub(number(&header, STORED_LEN) as u64);
        header[RAW_LEN..][..8].copy_from_slice(&(raw_len as u64).wrapping_add(lie).to_le_bytes());
        header[STORED_LEN..][..8].copy_from_slice(&(body.len() as u64).to_le_bytes());
        header[112..120].copy_from_slice(&xxh3_64(&body).to_le_bytes());
        seal(&mut header, 32);
        seal(&mut header, 120);
        out.extend_from_slice(&header);
        out.extend_from_slice(&body);
        rest = after;
    }
    let tail = out.len();
    out.extend_from_slice(rest);
    if rest.len() == TAIL {
        let len = out.len() as u64;
        out[tail + 24..][..8].copy_from_slice(&index_at.to_le_bytes());
        out[tail + 32..][..8].copy_from_slice(&len.to_le_bytes());
        seal(&mut out[tail..], 48);
    }
    out
}

fn seal(bytes: &mut [u8], at: usize) {
    let sum = xxh3_64(&bytes[..at]);
    bytes[at..at + 8].copy_from_slice(&sum.to_le_bytes());
}

fn number(bytes: &[u8], at: usize) -> usize {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    usize::try_from(u64::from_le_bytes(number)).unwrap_or(usize::MAX)
}
