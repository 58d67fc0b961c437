//! What a trace has that another one has, too: `shared_pages TRACE OTHER`. For `docs/decisions/base-pack.md`.
//!
//! Prints the pages of TRACE's first checkpoint, those of them that OTHER's first checkpoint has anywhere, and what zstd
//! makes of both parts and of frames of other lengths.

use std::collections::HashSet;
use std::path::Path;

use ktstr_replay::memory::Memory;
use ktstr_replay::trace::Trace;
use ktstr_replay::trace::record::{PAGE_BYTES, PageId};
use ktstr_replay::units::GuestPhys;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, other] = arguments.as_slice() else { return Err("usage: shared_pages TRACE OTHER".into()) };
    let (pages, other) = (pages(path)?, pages(other)?);
    let known: HashSet<PageId> = other.iter().map(|page| PageId::of(page)).collect();
    let (shared, own): (Vec<_>, Vec<_>) = pages.iter().partition(|page| known.contains(&PageId::of(page)));
    for (name, part) in [("all", pages.iter().collect()), ("shared", shared), ("own", own)] {
        println!("{name}: {} pages", part.len());
        for (level, frame) in [(1, 64), (3, 64), (19, 64), (19, 256), (19, 1024)] {
            let mut stored = 0;
            for frame in part.chunks(frame) {
                let bytes: Vec<u8> = frame.iter().flat_map(|page| page.iter().copied()).collect();
                stored += zstd::bulk::compress(&bytes, level)?.len();
            }
            println!("  level {level:2}, {frame:4} pages a frame: {:6} KiB", stored >> 10);
        }
    }
    Ok(())
}

/// The different pages of a trace's first checkpoint that are not zero.
fn pages(path: &str) -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
    let trace = Trace::open(Path::new(path))?;
    let memory = trace.checkpoint_memory(0)?;
    let mut seen = HashSet::from([PageId::zero()]);
    let mut found = Vec::new();
    for at in memory.ram().iter().flat_map(|range| (range.start..range.end).step_by(PAGE_BYTES)) {
        let mut page = vec![0; PAGE_BYTES];
        if memory.read(GuestPhys(at), &mut page).is_ok() && seen.insert(PageId::of(&page)) {
            found.push(page);
        }
    }
    Ok(found)
}
