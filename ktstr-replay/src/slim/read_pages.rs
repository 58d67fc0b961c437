//! The pages that our own readings read: what [`KeepPages::Read`](super::KeepPages::Read) keeps.

use std::collections::{BTreeMap, BTreeSet};

use crate::judge::CheckSource;
use crate::kernel::maps::BpfObjects;
use crate::kernel::{Caps, SampleReader};
use crate::memory::LeftOut;
use crate::report;
use crate::run::{Checkpoints, OpenCheckpoint, Run};
use crate::trace::Trace;
use crate::trace::record::{PageRun, PageState};
use crate::trace::table::PageTable;
use crate::view::View;
use crate::why;

/// Numbers of the stored pages that are read by the judgement, the report, `why`, and every view of the checkpoints that
/// are kept.
pub(super) fn read_pages(trace: &Trace, kept: &BTreeMap<u32, u32>) -> BTreeSet<u32> {
    trace.note_read_pages();
    let run = Run::load(trace);
    let verdict = run.judge(None, CheckSource::Recorded);
    report::render(&run, &verdict);
    // What cannot be read now cannot be read of the new trace either, so here and below an error changes nothing.
    let _ = why::explain(&run, &verdict);
    if let Ok(checkpoints) = Checkpoints::of(&run) {
        for info in checkpoints.all().iter().filter(|info| kept.contains_key(&info.index)) {
            if let Ok(checkpoint) = checkpoints.open(*info) {
                look(&checkpoint);
            }
        }
    }
    trace.take_read_pages()
}

/// Make each view of a checkpoint, and a sample of it.
fn look(checkpoint: &OpenCheckpoint<'_>) {
    let kernel = checkpoint.kernel();
    SampleReader::new(Caps::default()).read(&kernel);
    let maps = BpfObjects::read(&kernel).map(|objects| {
        let ids = objects.maps().iter().map(|map| map.state.id.to_string());
        ids.map(|wanted| View::Map { wanted, follow: true }).collect::<Vec<_>>()
    });
    for view in View::plain().into_iter().chain(maps.into_iter().flatten()) {
        let _ = view.show(checkpoint);
    }
}

/// Leave the stored pages out of `table` whose numbers are not in `read`.
pub(super) fn leave_out_unread(table: &mut PageTable, read: &BTreeSet<u32>) {
    let runs: Vec<PageRun> = table.runs().collect();
    for run in runs {
        let PageState::Stored(first) = run.state else { continue };
        let unread = (0..run.count).filter(|nth| !read.contains(&(first + nth)));
        for nth in unread {
            let state = PageState::LeftOut(LeftOut::NotRead);
            // A run of one page is never one without an end.
            let _ = table.set(PageRun { gfn: run.gfn + u64::from(nth), count: 1, state });
        }
    }
}
