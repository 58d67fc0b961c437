//! The pages of a template: RAM without its zero pages, packed into one file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::machine::ram::{GuestRam, PAGE_BYTES, data_ranges};

/// Copied at once: fits the second-level cache of any host, together with the kernel's side of the copy.
const CHUNK_BYTES: usize = 256 << 10;
const PAGE: usize = PAGE_BYTES as usize;

/// What is in the file of pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PageIndex {
    /// For each NUMA node its size and its runs of pages.
    pub nodes: Vec<NodePages>,
    /// XXH3-128 of the file, hex.
    pub xxh3: String,
}

/// The pages of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodePages {
    /// Size of the node in bytes.
    pub bytes: u64,
    /// Offset and length in bytes of each run of pages that are not zero, ascending.
    pub runs: Vec<(u64, u64)>,
}

/// Why pages could not be put back.
#[derive(Debug, thiserror::Error)]
pub(super) enum PageError {
    /// Index, file and machine do not fit each other.
    #[error("{0}")]
    Damaged(String),
    /// Reading or writing failed.
    #[error("could not copy the saved RAM")]
    Io(#[from] io::Error),
}

/// Write the pages of `ram` that are not zero to `out`.
pub(super) fn pack(ram: &GuestRam, out: &mut impl Write) -> io::Result<PageIndex> {
    let (mut hash, mut nodes) = (Xxh3::new(), Vec::new());
    let mut chunk = vec![0; CHUNK_BYTES];
    for node in ram.nodes() {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for range in data_ranges(&node.file, 0, node.bytes) {
            for at in range.clone().step_by(CHUNK_BYTES) {
                let len = (range.end - at).min(CHUNK_BYTES as u64) as usize;
                let chunk = &mut chunk[..len];
                node.file.read_exact_at(chunk, at)?;
                for (page, page_at) in chunk.chunks(PAGE).zip((at..).step_by(PAGE)) {
                    if is_zero(page) {
                        continue;
                    }
                    hash.update(page);
                    out.write_all(page)?;
                    match runs.last_mut() {
                        Some((start, len)) if *start + *len == page_at => *len += PAGE_BYTES,
                        _ => runs.push((page_at, PAGE_BYTES)),
                    }
                }
            }
        }
        nodes.push(NodePages { bytes: node.bytes, runs });
    }
    Ok(PageIndex { nodes, xxh3: format!("{:032x}", hash.digest128()) })
}

/// Put the pages of `file` into `ram`, which is all hole.
pub(super) fn unpack(index: &PageIndex, file: &mut File, ram: &GuestRam) -> Result<(), PageError> {
    let damaged = |why: String| Err(PageError::Damaged(why));
    let sizes: Vec<u64> = index.nodes.iter().map(|n| n.bytes).collect();
    let wanted: Vec<u64> = ram.nodes().iter().map(|n| n.bytes).collect();
    if sizes != wanted {
        return damaged(format!("its nodes have {sizes:?} bytes, the machine's {wanted:?}"));
    }
    let mut hash = Xxh3::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    for (number, (node, pages)) in ram.nodes().iter().zip(&index.nodes).enumerate() {
        for &(start, len) in &pages.runs {
            let end = start.checked_add(len).filter(|end| *end <= node.bytes);
            let Some(end) = end else {
                return damaged(format!("a run of {len} bytes at {start:#x} exceeds its node"));
            };
            for at in (start..end).step_by(CHUNK_BYTES) {
                let chunk = &mut chunk[..(end - at).min(CHUNK_BYTES as u64) as usize];
                match file.read_exact(chunk) {
                    Ok(()) => {}
                    Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                        return damaged("its RAM ends too early".into());
                    }
                    Err(e) => return Err(e.into()),
                }
                hash.update(chunk);
                ram.put_saved(number, at, chunk)?;
            }
        }
    }
    if file.read(&mut [0])? != 0 {
        return damaged("its RAM is longer than its index".into());
    }
    if format!("{:032x}", hash.digest128()) != index.xxh3 {
        return damaged("the checksum of its RAM is wrong".into());
    }
    Ok(())
}

fn is_zero(page: &[u8]) -> bool {
    let (words, rest) = page.as_chunks::<32>();
    let any = words.iter().fold([0u8; 32], |any, word| std::array::from_fn(|i| any[i] | word[i]));
    any == [0; 32] && rest.iter().all(|b| *b == 0)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use ktstr_replay::memory::Memory;
    use ktstr_replay::units::GuestPhys;
    use proptest::prelude::*;

    use super::{PageError, pack, unpack};
    use crate::machine::ram::GuestRam;

    const NODES: [u64; 2] = [2 << 20, 1 << 20];

    fn contents(ram: &GuestRam) -> Vec<u8> {
        let mut bytes = vec![0; ram.bytes() as usize];
        ram.read(GuestPhys(0), &mut bytes).unwrap();
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn ram_comes_back_as_it_was(writes in proptest::collection::vec((0u64..3 << 20, 0u8..3), 0..40)) {
            let ram = GuestRam::new(&NODES).unwrap();
            for (at, value) in &writes {
                ram.write(GuestPhys(*at), &[*value]).unwrap();
            }
            let mut file = tempfile::tempfile().unwrap();
            let index = pack(&ram, &mut file).unwrap();
            file.rewind().unwrap();
            let back = GuestRam::new(&NODES).unwrap();
            unpack(&index, &mut file, &back).unwrap();
            prop_assert!(contents(&back) == contents(&ram));
        }
    }

    #[test]
    fn zero_pages_are_left_out() {
        let ram = GuestRam::new(&NODES).unwrap();
        ram.write(GuestPhys(0), &[0; 64 << 10]).unwrap();
        ram.write(GuestPhys(0x5fff), &[1, 1]).unwrap();
        let mut packed = Vec::new();
        let index = pack(&ram, &mut packed).unwrap();
        assert_eq!(index.nodes[0].runs, [(0x5000, 0x2000)]);
        assert_eq!(packed.len(), 0x2000);
    }

    #[test]
    fn every_damage_is_told() {
        let ram = GuestRam::new(&NODES).unwrap();
        ram.write(GuestPhys(0x3000), &[7; 5000]).unwrap();
        let mut packed = Vec::new();
        let index = pack(&ram, &mut packed).unwrap();
        let attempt = |index: &_, bytes: &[u8], nodes: &[u64]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file.rewind().unwrap();
            match unpack(index, &mut file, &GuestRam::new(nodes).unwrap()) {
                Err(PageError::Damaged(why)) => why,
                other => panic!("{other:?}"),
            }
        };
        assert!(attempt(&index, &packed[..packed.len() - 1], &NODES).contains("ends too early"));
        assert!(attempt(&index, &[&packed[..], &[0]].concat(), &NODES).contains("longer"));
        let mut flipped = packed.clone();
        flipped[100] ^= 1;
        assert!(attempt(&index, &flipped, &NODES).contains("checksum"));
        assert!(attempt(&index, &packed, &[1 << 20]).contains("nodes"));
        let mut outside = index.clone();
        outside.nodes[0].runs[0].0 = u64::MAX - 10;
        assert!(attempt(&outside, &packed, &NODES).contains("exceeds"));
    }
}
