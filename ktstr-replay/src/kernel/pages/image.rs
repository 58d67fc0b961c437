//! The parts of the kernel's image that no decoder reads out of a checkpoint: they are where symbols say that they are.
//!
//! Code is read by nobody; types and symbols are blobs of the trace.

use std::ops::Range;

use crate::kernel::KernelView;
use crate::memory::LeftOut;
use crate::trace::record::PAGE_BYTES;
use crate::units::KernelVirt;

/// Longest part that is looked for.
const MAX_BYTES: u64 = 256 << 20;

/// The tables of kallsyms that are worth a page and more, and the most bytes that a symbol has in each (scripts/kallsyms.c).
/// The next symbol alone does not say where a table ends: strings, which have no symbols, follow the last one. Names are
/// of any length, and another table follows them.
const SYMBOL_TABLES: [(&str, u64); 4] = [
    ("kallsyms_names", u64::MAX),
    ("kallsyms_markers", 4),
    ("kallsyms_offsets", 4),
    ("kallsyms_seqs_of_names", 3),
];

/// The frames of code and types, with what they are. Only whole pages; what is not found is left out.
#[must_use]
pub(crate) fn image_pages(view: &KernelView<'_>) -> Vec<(Range<u64>, LeftOut)> {
    let mut found = Vec::new();
    let between = |start: &str, end: &str| Some(view.symbol(start).ok()?.0..view.symbol(end).ok()?.0);
    let parts = [
        (between("_text", "_etext"), LeftOut::KernelText),
        (between("__start_BTF", "__stop_BTF"), LeftOut::KernelTypes),
    ];
    for (part, why) in parts {
        if let Some(part) = part {
            frames(view, &part, |gfns| found.push((gfns, why)));
        }
    }
    found
}

/// The frames of the symbol tables, likewise. The trace has the symbols as a blob, but drgn and crash find them in an
/// exported core only where the kernel has them: only who wants a small trace leaves them out.
#[must_use]
pub(crate) fn symbol_pages(view: &KernelView<'_>) -> Vec<(Range<u64>, LeftOut)> {
    let mut found = Vec::new();
    for part in SYMBOL_TABLES.into_iter().filter_map(|(name, width)| table(view, name, width)) {
        frames(view, &part, |gfns| found.push((gfns, LeftOut::KernelSymbols)));
    }
    found
}

/// The frames of the kernel's read-only data and ORC tables. Both are as they were built, or as init left them: the
/// first is write-protected before anything is run, the second is sorted at build time.
#[must_use]
pub(crate) fn constant_pages(view: &KernelView<'_>) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    for (start, end) in [
        ("__start_rodata", "__end_rodata"),
        ("__start_orc_unwind", "__stop_orc_unwind"),
        ("__start_orc_unwind_ip", "__stop_orc_unwind_ip"),
    ] {
        let (Ok(start), Ok(end)) = (view.symbol(start), view.symbol(end)) else { continue };
        frames(view, &(start.0..end.0), |gfns| found.push(gfns));
    }
    found
}

fn table(view: &KernelView<'_>, name: &str, width: u64) -> Option<Range<u64>> {
    let start = view.symbol(name).ok()?;
    let symbols = view.profile().symbols();
    let (_, bytes) = symbols.containing(start)?;
    Some(start.0..start.0.checked_add(bytes.min(width.saturating_mul(symbols.len() as u64)))?)
}

/// The frames of the whole pages in a range of virtual addresses.
fn frames(view: &KernelView<'_>, part: &Range<u64>, mut found: impl FnMut(Range<u64>)) {
    let page = PAGE_BYTES as u64;
    let Some(mut at) = part.start.checked_next_multiple_of(page) else { return };
    let end = part.end.min(part.start.saturating_add(MAX_BYTES));
    while at.checked_add(page).is_some_and(|after| after <= end) {
        let Ok((place, rest)) = view.place_of(KernelVirt(at)) else { return };
        let pages = (rest.min(end - at) / page).max(1);
        let gfn = place.0 / page;
        found(gfn..gfn + pages);
        at += pages * page;
    }
}
