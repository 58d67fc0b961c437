//! What the pages of a trace's checkpoints are, and what keeping them costs: `classify_pages TRACE [CHECKPOINT]`.
//!
//! For each class the pages, those of them that are not zero, and the bytes that zstd makes of these. Traces that were recorded
//! with `--pages all` have all classes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ktstr_replay::kernel::{KernelProfile, PageClassifier};
use ktstr_replay::memory::Memory;
use ktstr_replay::trace::Trace;
use ktstr_replay::trace::record::PAGE_BYTES;
use ktstr_replay::units::GuestPhys;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: classify_pages TRACE [CHECKPOINT]")?;
    let trace = Trace::open(Path::new(&path))?;
    let only: Option<u32> = arguments.next().map(|n| n.parse()).transpose()?;
    let mut classifier = None;
    for info in trace.checkpoints().iter().filter(|info| only.is_none_or(|only| only == info.index)) {
        let memory = trace.checkpoint_memory(info.index)?;
        let classifier = match &classifier {
            Some(classifier) => classifier,
            None => {
                let profile = Arc::new(KernelProfile::from_memory(&memory)?);
                let (start, end) = (profile.symbol("_text")?, profile.symbol("_end")?);
                println!("image {start} to {end}");
                classifier.insert(PageClassifier::new(profile)?)
            }
        };
        let begun = Instant::now();
        let classes = classifier.classify(&memory, memory.ram())?;
        println!("checkpoint {}: classified in {:?}", info.index, begun.elapsed());
        let mut found: BTreeMap<String, (usize, Vec<u8>)> = BTreeMap::new();
        for range in memory.ram() {
            for gfn in range.start / PAGE_BYTES as u64..range.end / PAGE_BYTES as u64 {
                let class = classes.get(gfn).map_or_else(|| "kept".to_owned(), |class| format!("{class:?}"));
                let (pages, bytes) = found.entry(class).or_default();
                *pages += 1;
                let mut page = [0u8; PAGE_BYTES];
                if memory.read(GuestPhys(gfn * PAGE_BYTES as u64), &mut page).is_ok()
                    && page.iter().any(|byte| *byte != 0)
                {
                    bytes.extend_from_slice(&page);
                }
            }
        }
        for (class, (pages, bytes)) in found {
            let small = zstd::bulk::compress(&bytes, 1)?.len();
            println!(
                "  {class:10} {pages:7} pages, {:6} not zero, {:7} KiB by zstd -1",
                bytes.len() / PAGE_BYTES,
                small >> 10
            );
        }
    }
    Ok(())
}
