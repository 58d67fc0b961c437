//! Which ranges of memory the file has and where, and writing it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::elf::{self, PT_LOAD, PT_NOTE, Program, notes};
use crate::kernel::{KernelView, Levels};
use crate::memory::Memory;
use crate::run::OpenCheckpoint;
use crate::trace::folder_of;
use crate::trace::record::PAGE_BYTES;
use crate::units::GuestPhys;

const PAGE: u64 = PAGE_BYTES as u64;
/// Pages that are read and written at once.
const BATCH_PAGES: u64 = 64;
/// Where RAM is mapped without KASLR, with page tables of 4 and of 5 levels (`__PAGE_OFFSET_BASE_L4` and `_L5` of
/// `arch/x86/include/asm/page_64_types.h`).
const DIRECT_MAP: [u64; 2] = [0xffff_8880_0000_0000, 0xff11_0000_0000_0000];

/// Why a core was not made.
#[derive(Debug, thiserror::Error)]
pub enum VmcoreError {
    /// There is such a file.
    #[error("{} exists already; name a file that does not", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The memory cannot be laid out in a file.
    #[error("the checkpoint's memory cannot be put into a file: {0}")]
    Layout(&'static str),
    /// The file cannot be written.
    #[error("{} cannot be written; nothing is left of it", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What a core has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct VmcoreWritten {
    /// Bytes of memory in it, zero pages counted.
    pub memory_bytes: u64,
    /// Bytes of memory that are not zero: what it takes on disk.
    pub stored_bytes: u64,
    /// Bytes of RAM that it does not have, as the checkpoint left them out.
    pub left_out_bytes: u64,
    /// Bytes of RAM that it does not have, as they are damaged in the trace.
    pub damaged_bytes: u64,
    /// vCPUs whose registers it has.
    pub vcpus: usize,
}

/// Write the memory of a checkpoint to `path`, which must not exist, as an ELF core. It appears there whole, or not at all.
///
/// # Errors
/// [`VmcoreError`].
pub fn write_vmcore(checkpoint: &OpenCheckpoint<'_>, path: &Path) -> Result<VmcoreWritten, VmcoreError> {
    if path.exists() {
        return Err(VmcoreError::Exists { path: path.to_owned() });
    }
    let io = |source| VmcoreError::Io { path: path.to_owned(), source };
    let mut file = tempfile::NamedTempFile::new_in(folder_of(path)).map_err(io)?;
    let mut damaged = BTreeSet::new();
    let mut core = Core::of(checkpoint, &damaged)?;
    if core.write_memory(file.as_file_mut(), checkpoint.memory(), &mut damaged).map_err(io)? {
        // Headers that claim damaged pages were laid out: again, without them.
        file.as_file_mut().set_len(0).map_err(io)?;
        core = Core::of(checkpoint, &damaged)?;
        core.write_memory(file.as_file_mut(), checkpoint.memory(), &mut damaged).map_err(io)?;
    }
    core.write_headers(file.as_file_mut()).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist_noclobber(path).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => VmcoreError::Exists { path: path.to_owned() },
        _ => io(error.error),
    })?;
    Ok(core.written)
}

/// A core that is being made.
struct Core {
    places: Places,
    headers: Vec<u8>,
    notes: Vec<u8>,
    notes_at: u64,
    /// Ranges with bytes other than zero.
    stored: Vec<Range<u64>>,
    written: VmcoreWritten,
}

impl Core {
    fn of(checkpoint: &OpenCheckpoint<'_>, damaged: &BTreeSet<u64>) -> Result<Self, VmcoreError> {
        let (memory, kernel) = (checkpoint.memory(), checkpoint.kernel());
        let ram: Vec<_> = memory.ram().iter().filter_map(whole_pages).collect();
        let left_out = memory.left_out().into_iter();
        let left_out: Vec<_> = left_out
            .map(|(gfns, _)| gfns.start.saturating_mul(PAGE)..gfns.end.saturating_mul(PAGE))
            .collect();
        let damaged: Vec<_> = damaged.iter().map(|at| *at..at.saturating_add(PAGE)).collect();
        let there = subtract(&ram, &left_out);
        let kept = subtract(&there, &damaged);
        let image = kernel_image(&kernel);
        let image_pieces = image.as_ref().map(|(phys, _)| intersect(&kept, phys)).unwrap_or_default();

        let vcpus = checkpoint.vcpus();
        let notes = notes(vcpus, kernel.profile().vmcoreinfo().text().as_bytes());
        let notes_at = elf::headers_bytes((kept.len() + image_pieces.len() + 1) as u64);
        let start = notes_at.saturating_add(notes.len() as u64).next_multiple_of(PAGE);
        let layout = VmcoreError::Layout;
        let places = Places::new(&ram, start).ok_or(layout("it would be longer than a file can be"))?;

        let mut programs = Vec::with_capacity(kept.len() + image_pieces.len() + 1);
        programs.push(Program {
            kind: PT_NOTE,
            offset: notes_at,
            vaddr: 0,
            paddr: 0,
            bytes: notes.len() as u64,
        });
        let mut load = |range: &Range<u64>, base: u64| {
            let offset = places.of(range.start).ok_or(layout("a page is in no range of RAM"))?;
            let (vaddr, paddr) = (base.wrapping_add(range.start), range.start);
            programs.push(Program { kind: PT_LOAD, offset, vaddr, paddr, bytes: range.end - range.start });
            Ok(())
        };
        if let Some((_, base)) = image {
            image_pieces.iter().try_for_each(|range| load(range, base))?;
        }
        let base = direct_map(&kernel);
        kept.iter().try_for_each(|range| load(range, base))?;
        let bytes = |ranges: &[Range<u64>]| ranges.iter().map(|range| range.end - range.start).sum::<u64>();
        let stored: Vec<_> = memory.populated().iter().filter_map(whole_pages).collect();
        // Damaged pages are no more to be read than those that are left out.
        let stored = subtract(&subtract(&stored, &left_out), &damaged);
        let written = VmcoreWritten {
            memory_bytes: bytes(&kept),
            stored_bytes: bytes(&stored),
            left_out_bytes: bytes(&ram) - bytes(&there),
            damaged_bytes: bytes(&there) - bytes(&kept),
            vcpus: vcpus.len(),
        };
        Ok(Self { places, headers: elf::headers(&programs), notes, notes_at, stored, written })
    }

    /// Write the pages that are not zero; pages that turn out to be damaged are added to `damaged`. Says whether there
    /// were any.
    fn write_memory(
        &self,
        file: &mut File,
        memory: &dyn Memory,
        damaged: &mut BTreeSet<u64>,
    ) -> io::Result<bool> {
        let before = damaged.len();
        // All between what is written below is a hole.
        file.set_len(self.places.end)?;
        let mut batch = vec![0; (BATCH_PAGES * PAGE) as usize];
        for range in &self.stored {
            let mut at = range.start;
            while at < range.end {
                let len = (range.end - at).min(BATCH_PAGES * PAGE);
                let Some(offset) = self.places.of(at) else { break };
                let part = batch.get_mut(..len as usize).unwrap_or_default();
                if memory.read(GuestPhys(at), part).is_err() {
                    let pages = (0..len).step_by(PAGE_BYTES).zip(part.chunks_mut(PAGE_BYTES));
                    let bad = pages.filter_map(|(n, page)| {
                        memory.read(GuestPhys(at + n), page).is_err().then_some(at + n)
                    });
                    damaged.extend(bad);
                }
                file.seek(SeekFrom::Start(offset))?;
                file.write_all(part)?;
                at += len;
            }
        }
        Ok(damaged.len() > before)
    }

    fn write_headers(&self, file: &mut File) -> io::Result<()> {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&self.headers)?;
        file.seek(SeekFrom::Start(self.notes_at))?;
        file.write_all(&self.notes)
    }
}

/// The whole pages of a range.
fn whole_pages(range: &Range<u64>) -> Option<Range<u64>> {
    let (start, end) = (range.start.checked_next_multiple_of(PAGE)?, range.end / PAGE * PAGE);
    (start < end).then_some(start..end)
}

/// Where the kernel's image is in guest-physical memory, and what to add to that for its addresses.
fn kernel_image(kernel: &KernelView<'_>) -> Option<(Range<u64>, u64)> {
    let base = kernel.profile().image_base()?;
    let phys = |name| Some(kernel.symbol(name).ok()?.0.wrapping_sub(base));
    let (start, end) = (phys("_text")? / PAGE * PAGE, phys("_end")?.checked_next_multiple_of(PAGE)?);
    (start < end).then_some((start..end, base))
}

/// Where RAM is mapped: what to add to a physical address.
fn direct_map(kernel: &KernelView<'_>) -> u64 {
    let stated = kernel.symbol("page_offset_base").and_then(|at| kernel.u64(at));
    let [four, five] = DIRECT_MAP;
    stated.unwrap_or(match kernel.profile().page_table().levels {
        Levels::Four => four,
        Levels::Five => five,
    })
}

/// The parts of `ranges` that no range of `without` covers. Both ascending and disjoint.
pub(super) fn subtract(ranges: &[Range<u64>], without: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut out = Vec::new();
    for range in ranges {
        let mut from = range.start;
        let first = without.partition_point(|gap| gap.end <= range.start);
        for gap in without.iter().skip(first).take_while(|gap| gap.start < range.end) {
            if from < gap.start {
                out.push(from..gap.start);
            }
            from = from.max(gap.end);
        }
        if from < range.end {
            out.push(from..range.end);
        }
    }
    out
}

/// The parts of `ranges`, ascending and disjoint, that are in `within`.
pub(super) fn intersect(ranges: &[Range<u64>], within: &Range<u64>) -> Vec<Range<u64>> {
    let both = |range: &Range<u64>| range.start.max(within.start)..range.end.min(within.end);
    ranges.iter().map(both).filter(|range| range.start < range.end).collect()
}

/// Where the bytes of RAM are in the file: one range after the other.
pub(super) struct Places {
    /// Ranges of RAM with the file's offset of their first byte.
    ranges: Vec<(Range<u64>, u64)>,
    /// Just past the last byte of the file.
    pub end: u64,
}

impl Places {
    /// Places from `start` on; `None` where a file cannot be as long.
    pub(super) fn new(ram: &[Range<u64>], start: u64) -> Option<Self> {
        let mut end = start;
        let mut ranges = Vec::with_capacity(ram.len());
        for range in ram {
            ranges.push((range.clone(), end));
            end = end.checked_add(range.end.checked_sub(range.start)?)?;
        }
        (i64::try_from(end).is_ok()).then_some(Self { ranges, end })
    }

    /// The offset of the byte at `at`, which is in RAM.
    pub(super) fn of(&self, at: u64) -> Option<u64> {
        let after = self.ranges.partition_point(|(range, _)| range.start <= at);
        let (range, offset) = self.ranges.get(after.checked_sub(1)?)?;
        range.contains(&at).then(|| offset + (at - range.start))
    }
}
