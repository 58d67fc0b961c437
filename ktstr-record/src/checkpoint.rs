//! The capture side of checkpoints: which pages of a guest changed since the last one.
//!
//! While the guest is stopped, [`ChangeTracker`] reads the populated part of its RAM once, and copies the pages that
//! differ. The copies are owned; hashing for the trace, compression and writing happen later, on another thread.

mod pieces;

use std::ops::Range;
use std::thread;

use ktstr_replay::kernel::PageClasses;
use ktstr_replay::memory::LeftOut;
use ktstr_replay::memory::Memory;
use ktstr_replay::trace::record::{PAGE_BYTES, PageId};
use ktstr_replay::trace::{CaptureBase, CapturedCheckpoint, PageBatch};
use ktstr_replay::units::{GuestNs, GuestPhys, HostNs};

use pieces::{Piece, gfns, pieces, shares};

/// Pages that are read at once: they stay in a core's cache while they are hashed.
const READ_PAGES: usize = 32;

/// Pages below which a second thread costs more than it saves.
const PAGES_WORTH_A_THREAD: usize = 1024;

/// The id of a page whose contents are not known, so that it counts as changed when it is seen again. That a page has
/// it by chance is as likely as any other collision of 128 bits.
const UNKNOWN: PageId = PageId([0xff; 16]);

/// What stands for the id of a page that is left out for a reason. As unlikely to be a page's own.
fn left_out_id(why: LeftOut) -> PageId {
    let mut id = UNKNOWN;
    id.0[0] = why as u8;
    id
}

/// Knows every page of a guest by its hash, and finds those that changed.
///
/// 16 bytes a page, where a shadow copy would need 4096; and the hash is the page's identity in the trace.
pub struct ChangeTracker {
    ram: Vec<Range<u64>>,
    /// `ram` in frames.
    ram_gfns: Vec<Range<u64>>,
    /// Frames that are never read.
    excluded: Vec<Range<u64>>,
    /// The id of each page of RAM, in ascending order, as of the last capture.
    ids: Vec<PageId>,
    base: CaptureBase,
    threads: usize,
}

/// What one thread found.
#[derive(Default)]
struct Found {
    changed: PageBatch,
    zeroed: Vec<Range<u64>>,
    left_out: Vec<(Range<u64>, LeftOut)>,
}

impl ChangeTracker {
    /// A tracker of a guest with RAM at `ram` (bytes, ascending, disjoint), that never reads `channel` (bytes) and
    /// uses up to `threads` threads.
    pub fn new(ram: Vec<Range<u64>>, channel: Option<Range<u64>>, threads: usize) -> Self {
        let ram_gfns: Vec<_> = ram.iter().map(gfns).collect();
        let pages = ram_gfns.iter().map(|range| (range.end - range.start) as usize).sum();
        Self {
            ram,
            ram_gfns,
            excluded: channel.iter().map(gfns).collect(),
            ids: vec![PageId::zero(); pages],
            base: CaptureBase::Zero,
            threads,
        }
    }

    /// Forget all pages: the next capture has every page that is not zero. For when a capture did not reach the trace.
    pub(crate) fn reset(&mut self) {
        self.ids.fill(PageId::zero());
        self.base = CaptureBase::Zero;
    }

    /// Copy the pages of `memory` that changed since the last capture. The guest must be stopped.
    ///
    /// `written` has the frames that were written since the last capture, ascending, where that is known: others are not read again.
    ///
    /// Pages that `classes` says need not be kept are neither read nor copied; `None` keeps all. `sample`, `guest_ns`
    /// and `host_ns` go into the checkpoint as they are. Pages that cannot be read are left out of this checkpoint, and
    /// tried again with the next.
    pub fn capture(
        &mut self,
        memory: &(impl Memory + Sync),
        classes: Option<&PageClasses>,
        written: Option<&[Range<u64>]>,
        sample: Option<u32>,
        guest_ns: GuestNs,
        host_ns: HostNs,
    ) -> CapturedCheckpoint {
        // The first capture knows no earlier contents.
        let known = Known { classes, written: written.filter(|_| self.base == CaptureBase::Previous) };
        let populated: Vec<_> = memory.populated().iter().map(gfns).collect();
        let work = pieces(&self.ram_gfns, &populated, &self.excluded);
        let mut zeroed = self.forget_unpopulated(&work);
        let pages: usize = work.iter().map(|piece| piece.pages.len()).sum();
        let work = shares(work, self.threads.min(pages / PAGES_WORTH_A_THREAD + 1));
        let found = look_at_all(memory, known, &mut self.ids, &work);

        let mut left_out = Vec::new();
        if self.base == CaptureBase::Zero {
            left_out.extend(self.excluded.iter().map(|range| (range.clone(), LeftOut::Channel)));
        }
        let mut changed = Vec::new();
        for part in found {
            changed.push(part.changed);
            zeroed.extend(part.zeroed);
            left_out.extend(part.left_out);
        }
        let base = std::mem::replace(&mut self.base, CaptureBase::Previous);
        CapturedCheckpoint {
            sample,
            guest_ns,
            host_ns,
            ram: self.ram.clone(),
            base,
            changed,
            zeroed,
            left_out,
        }
    }

    /// Frames that were not zero and are holes now: the guest gave them back.
    fn forget_unpopulated(&mut self, work: &[Piece]) -> Vec<Range<u64>> {
        let zero = PageId::zero();
        let mut zeroed = Vec::new();
        let mut work = work.iter().peekable();
        let mut page = 0;
        for region in &self.ram_gfns {
            let mut gfn = region.start;
            while gfn < region.end {
                if let Some(piece) = work.next_if(|piece| piece.gfns.start == gfn) {
                    page += piece.pages.len();
                    gfn = piece.gfns.end;
                    continue;
                }
                let end = work.peek().map_or(region.end, |piece| piece.gfns.start.min(region.end));
                let holes = &mut self.ids[page..page + (end - gfn) as usize];
                for (i, id) in holes.iter_mut().enumerate().filter(|(_, id)| **id != zero) {
                    *id = zero;
                    push_gfn(&mut zeroed, gfn + i as u64);
                }
                page += (end - gfn) as usize;
                gfn = end;
            }
        }
        zeroed
    }
}

/// Look at the shares in parallel; the first one on this thread.
fn look_at_all(
    memory: &(impl Memory + Sync),
    known: Known<'_>,
    ids: &mut [PageId],
    work: &[Vec<Piece>],
) -> Vec<Found> {
    // Each share's part of the ids: shares are ascending, so that they can be split off from the front.
    let mut parts = Vec::new();
    let mut rest = ids;
    let mut first_page = 0;
    for share in work {
        let end = share.last().map_or(first_page, |piece| piece.pages.end);
        let (part, after) = rest.split_at_mut(end - first_page);
        parts.push((share, first_page, part));
        rest = after;
        first_page = end;
    }
    thread::scope(|scope| {
        let mut parts = parts.into_iter();
        let mine = parts.next();
        let others: Vec<_> = parts
            .map(|(share, first, ids)| scope.spawn(move || look_at(memory, known, share, first, ids)))
            .collect();
        let mut found: Vec<Found> =
            mine.map(|(share, first, ids)| look_at(memory, known, share, first, ids)).into_iter().collect();
        for other in others {
            match other.join() {
                Ok(part) => found.push(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        found
    })
}

/// Look at every page of `share` that is to be kept; `ids` begins with that of page `first_page`.
fn look_at(
    memory: &impl Memory,
    known: Known<'_>,
    share: &[Piece],
    first_page: usize,
    ids: &mut [PageId],
) -> Found {
    let mut found = Found::default();
    let mut buffer = vec![0; READ_PAGES * PAGE_BYTES];
    for piece in share {
        let mut ids = &mut ids[piece.pages.start - first_page..piece.pages.end - first_page];
        let mut gfn = piece.gfns.start;
        while !ids.is_empty() {
            let action = PageAction::of(known, gfn, ids[0]);
            let most = ids.len().min(if action == PageAction::Read { READ_PAGES } else { usize::MAX });
            let same =
                (1..most).take_while(|&i| PageAction::of(known, gfn + i as u64, ids[i]) == action).count();
            let (now, rest) = std::mem::take(&mut ids).split_at_mut(1 + same);
            let after = gfn + now.len() as u64;
            match action {
                PageAction::LeaveOut(why) => leave_out(gfn, now, why, &mut found),
                PageAction::Known => {}
                PageAction::Read => read(memory, gfn, now, &mut buffer, &mut found),
            }
            gfn = after;
            ids = rest;
        }
    }
    found
}

/// What is done with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageAction {
    LeaveOut(LeftOut),
    /// It was read before, and is as it was.
    Known,
    Read,
}

/// What is known of pages before they are read.
#[derive(Clone, Copy)]
struct Known<'k> {
    classes: Option<&'k PageClasses>,
    /// Frames that were written since the last capture, if that is known.
    written: Option<&'k [Range<u64>]>,
}

impl Known<'_> {
    /// Whether the page at `gfn`, of which `id` is known, is as it was.
    fn is_as_before(&self, gfn: u64, id: PageId) -> bool {
        let is_constant = self.classes.is_some_and(|classes| classes.is_constant(gfn)) && is_contents(id);
        let Some(written) = self.written.filter(|_| !is_constant && is_known(id)) else { return is_constant };
        let next = written.partition_point(|range| range.end <= gfn);
        written.get(next).is_none_or(|range| range.start > gfn)
    }
}

impl PageAction {
    fn of(known: Known<'_>, gfn: u64, id: PageId) -> Self {
        match known.classes.and_then(|classes| classes.get(gfn)) {
            Some(why) => Self::LeaveOut(why),
            None if known.is_as_before(gfn, id) => Self::Known,
            None => Self::Read,
        }
    }
}

/// Whether `id` names a page that was read and was not a hole.
fn is_contents(id: PageId) -> bool {
    id != PageId::zero() && is_known(id)
}

/// Whether `id` names a page whose contents are known: one that was read, or a hole.
fn is_known(id: PageId) -> bool {
    id.0[1..] != UNKNOWN.0[1..]
}

/// Leave out the pages from frame `gfn` on.
fn leave_out(gfn: u64, ids: &mut [PageId], why: LeftOut, found: &mut Found) {
    let id = left_out_id(why);
    for (gfn, known) in (gfn..).zip(ids) {
        if *known == id {
            continue;
        }
        *known = id;
        match found.left_out.last_mut() {
            Some((last, reason)) if last.end == gfn && *reason == why => last.end += 1,
            _ => found.left_out.push((gfn..gfn + 1, why)),
        }
    }
}

/// Read the pages from frame `gfn` on, at most [`READ_PAGES`], and copy what changed.
fn read(memory: &impl Memory, gfn: u64, ids: &mut [PageId], buffer: &mut [u8], found: &mut Found) {
    let zero = PageId::zero();
    let bytes = &mut buffer[..ids.len() * PAGE_BYTES];
    if memory.read(GuestPhys(gfn * PAGE_BYTES as u64), bytes).is_err() {
        ids.fill(UNKNOWN);
        found.left_out.push((gfn..gfn + ids.len() as u64, LeftOut::Unreadable));
        return;
    }
    let (pages, _) = bytes.as_chunks::<PAGE_BYTES>();
    for ((gfn, page), known) in (gfn..).zip(pages).zip(ids) {
        let id = PageId::of(page);
        if id == *known {
            continue;
        }
        *known = id;
        if id == zero {
            push_gfn(&mut found.zeroed, gfn);
        } else {
            found.changed.push_identified(gfn, id, page);
        }
    }
}

/// Add a frame at the end of ascending ranges.
pub(crate) fn push_gfn(ranges: &mut Vec<Range<u64>>, gfn: u64) {
    match ranges.last_mut() {
        Some(last) if last.end == gfn => last.end += 1,
        _ => ranges.push(gfn..gfn + 1),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ktstr_replay::memory::MemoryError;
    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = PAGE_BYTES as u64;

    /// Pages by frame number; what is not there is a hole. Frame `bad` cannot be read.
    #[derive(Default)]
    struct Pages {
        pages: BTreeMap<u64, u8>,
        bad: Option<u64>,
    }

    impl Memory for Pages {
        fn read(&self, at: GuestPhys, out: &mut [u8]) -> Result<(), MemoryError> {
            for (gfn, page) in (at.0 / PAGE..).zip(out.chunks_mut(PAGE_BYTES)) {
                if self.bad == Some(gfn) {
                    return Err(MemoryError::OutOfRange { at, len: page.len() });
                }
                page.fill(0);
                page[7] = *self.pages.get(&gfn).expect("a hole was read");
            }
            Ok(())
        }

        fn populated(&self) -> Vec<Range<u64>> {
            let mut ranges = Vec::new();
            for gfn in self.pages.keys() {
                push_gfn(&mut ranges, *gfn);
            }
            ranges.iter().map(|range| range.start * PAGE..range.end * PAGE).collect()
        }
    }

    fn range(gfns: Range<u64>) -> Vec<Range<u64>> {
        std::iter::once(gfns.start * PAGE..gfns.end * PAGE).collect()
    }

    fn changed(captured: &CapturedCheckpoint) -> BTreeMap<u64, u8> {
        captured.changed.iter().flat_map(|batch| batch.iter()).map(|(gfn, _, page)| (gfn, page[7])).collect()
    }

    #[test]
    fn the_first_capture_has_all_pages_and_the_next_ones_what_changed() {
        let mut memory = Pages { pages: (0..200).map(|gfn| (gfn, 1)).collect(), bad: None };
        memory.pages.insert(3, 0);
        let mut tracker = ChangeTracker::new(range(0..150), Some(10 * PAGE..20 * PAGE), 4);
        let first = tracker.capture(&memory, None, None, Some(5), GuestNs(6), HostNs(7));
        assert_eq!((first.sample, first.guest_ns, first.host_ns), (Some(5), GuestNs(6), HostNs(7)));
        assert_eq!(first.base, CaptureBase::Zero);
        let expected =
            (0..150).filter(|gfn| *gfn != 3 && !(10..20).contains(gfn)).map(|gfn| (gfn, 1)).collect();
        assert_eq!(changed(&first), expected);
        assert_eq!(first.left_out, [(10..20, LeftOut::Channel)]);
        assert!(first.zeroed.is_empty());

        memory.pages.extend([(4, 9), (15, 9), (60, 0)]);
        memory.pages.remove(&70);
        let second = tracker.capture(&memory, None, None, None, GuestNs(8), HostNs(9));
        assert_eq!(second.base, CaptureBase::Previous);
        assert_eq!(changed(&second), [(4, 9)].into());
        assert_eq!(second.zeroed, [70..71, 60..61]);
        assert!(second.left_out.is_empty());

        let third = tracker.capture(&memory, None, None, None, GuestNs(8), HostNs(9));
        assert!(changed(&third).is_empty() && third.zeroed.is_empty());
        tracker.reset();
        assert_eq!(changed(&tracker.capture(&memory, None, None, None, GuestNs(8), HostNs(9))).len(), 137);
    }

    #[test]
    fn pages_are_left_out_by_class_and_constant_ones_read_once() {
        let mut memory = Pages { pages: (0..64).map(|gfn| (gfn, 1)).collect(), bad: None };
        let mut tracker = ChangeTracker::new(range(0..64), None, 1);
        let classes = |left_out| PageClasses::of(0..64, left_out, std::iter::once(40..50).collect());
        let few = classes(&[(8..16, LeftOut::Free), (20..21, LeftOut::User), (44..46, LeftOut::KernelTypes)]);
        memory.pages.remove(&41);
        let first = tracker.capture(&memory, Some(&few), None, None, GuestNs(0), HostNs(0));
        assert_eq!(
            first.left_out,
            [(8..16, LeftOut::Free), (20..21, LeftOut::User), (44..46, LeftOut::KernelTypes)]
        );
        assert_eq!(changed(&first).len(), 63 - 11);
        // 41 was a hole; 45 is no longer left out; 12 and 20 change sides; 47 is constant, whatever happens to it.
        memory.pages.extend([(41, 1), (47, 9), (60, 9)]);
        let few =
            classes(&[(8..12, LeftOut::Free), (20..21, LeftOut::PageCache), (44..45, LeftOut::KernelTypes)]);
        let second = tracker.capture(&memory, Some(&few), None, None, GuestNs(0), HostNs(0));
        assert_eq!(second.left_out, [(20..21, LeftOut::PageCache)]);
        let expected: Vec<u64> = [12, 13, 14, 15, 41, 45, 60].to_vec();
        assert_eq!(changed(&second).into_keys().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_was_not_written_is_read_again_only_where_nothing_is_known_of_it() {
        let mut memory = Pages { pages: (0..8).map(|gfn| (gfn, 1)).collect(), bad: Some(7) };
        let mut tracker = ChangeTracker::new(range(0..8), None, 1);
        let few = PageClasses::of(0..8, &[(2..3, LeftOut::Free)], Vec::new());
        tracker.capture(&memory, Some(&few), Some(&[]), None, GuestNs(0), HostNs(0));
        // 0 and 5 are written, of which only 5 is told; 2 is no longer free; all were unreadable beside 7.
        memory.bad = None;
        memory.pages.extend([(0, 9), (5, 9)]);
        let second =
            tracker.capture(&memory, None, Some(std::slice::from_ref(&(5..6))), None, GuestNs(0), HostNs(0));
        let all: Vec<u64> = changed(&second).into_keys().collect();
        assert!(all.contains(&5) && all.contains(&2) && all.contains(&7), "{all:?}");
        memory.pages.extend([(0, 8), (1, 8)]);
        let third =
            tracker.capture(&memory, None, Some(std::slice::from_ref(&(1..2))), None, GuestNs(0), HostNs(0));
        assert_eq!(changed(&third), [(1, 8)].into());
        tracker.reset();
        let anew = tracker.capture(&memory, None, Some(&[]), None, GuestNs(0), HostNs(0));
        assert_eq!(changed(&anew).len(), 8);
    }

    #[test]
    fn pages_that_cannot_be_read_are_left_out_and_tried_again() {
        let mut memory = Pages { pages: (0..64).map(|gfn| (gfn, 1)).collect(), bad: Some(40) };
        let mut tracker = ChangeTracker::new(range(0..64), None, 1);
        let first = tracker.capture(&memory, None, None, None, GuestNs(0), HostNs(0));
        assert_eq!(first.left_out, [(32..64, LeftOut::Unreadable)]);
        assert_eq!(changed(&first).len(), 32);
        memory.bad = None;
        assert_eq!(
            changed(&tracker.capture(&memory, None, None, None, GuestNs(0), HostNs(0))),
            (32..64).map(|gfn| (gfn, 1)).collect()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Captures laid over each other are the memory, on one thread as on four, and where only what was written is read.
        #[test]
        fn captures_add_up_to_the_memory(
            steps in proptest::collection::vec(proptest::collection::btree_map(0..5000u64, 0..4u8, 0..60), 1..6),
        ) {
            let mut memory = Pages::default();
            // Enough pages that there is work for more than one thread.
            memory.pages.extend((0..4500).map(|gfn| (gfn, 5)));
            let ram = vec![0..4096 * PAGE, 4200 * PAGE..5000 * PAGE];
            let new = |threads| ChangeTracker::new(ram.clone(), None, threads);
            let mut trackers = [new(1), new(4), new(1)];
            let mut models = [BTreeMap::new(), BTreeMap::new(), BTreeMap::new()];
            for step in steps {
                let written: Vec<_> = step.keys().map(|gfn| *gfn..*gfn + 1).collect();
                for (gfn, value) in step {
                    if value == 3 {
                        memory.pages.remove(&gfn);
                    } else {
                        memory.pages.insert(gfn, value);
                    }
                }
                // The last of them reads only what was written.
                let told = [None, None, Some(&written[..])];
                for ((tracker, model), written) in trackers.iter_mut().zip(&mut models).zip(told) {
                    let captured = tracker.capture(&memory, None, written, None, GuestNs(0), HostNs(0));
                    for gfn in captured.zeroed.iter().cloned().flatten() {
                        model.remove(&gfn);
                    }
                    model.extend(changed(&captured));
                    let expected: BTreeMap<u64, u8> = memory
                        .pages
                        .iter()
                        .filter(|(gfn, value)| **value != 0 && !(4096..4200).contains(*gfn))
                        .map(|(gfn, value)| (*gfn, *value))
                        .collect();
                    prop_assert_eq!(&*model, &expected);
                }
            }
        }
    }
}
