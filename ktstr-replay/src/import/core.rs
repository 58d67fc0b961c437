//! A core file that is open: its memory, and what its notes say.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::elf::{self, Segment};
use super::flattened::{self, Flattened};
use super::kdump::{self, Kdump};
use super::notes::Notes;
use super::source::{Plain, Source};
use crate::memory::{LeftOut, Memory, MemoryError};
use crate::trace::record::{PAGE_BYTES, VcpuRegs};
use crate::units::GuestPhys;

const PAGE: u64 = PAGE_BYTES as u64;
/// Most memory that a core is read to have: 16 TiB, as of the longest bitmap of a kdump-compressed one. Files with holes can claim any.
const MAX_MEMORY_BYTES: u64 = 1 << 44;
/// Decompressed pages that are kept.
const KEPT_PAGES: usize = 4096;

/// Why a core cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// It cannot be opened.
    #[error("could not open it")]
    Open(#[source] io::Error),
    /// It is none that is known.
    #[error(
        "it is no core file: those that are read are ELF cores of x86-64 and kdump-compressed ones, also in makedumpfile's flattened form"
    )]
    Unknown,
    /// Its headers cannot be used.
    #[error("its headers cannot be used")]
    Headers(#[source] io::Error),
    /// It has no memory.
    #[error("it has no memory with physical addresses")]
    NoMemory,
}

/// A core file: physical memory of a machine at one moment.
pub struct Core {
    file: Box<dyn Source>,
    form: Form,
    flattened: bool,
    /// In frames.
    ram: Vec<Range<u64>>,
    /// Frames that the file has.
    there: Vec<Range<u64>>,
    vcpus: Vec<VcpuRegs>,
    names_cpus: bool,
    vmcoreinfo: Option<Vec<u8>>,
    pages: Mutex<Pages>,
}

enum Form {
    /// Ascending and disjoint.
    Elf(Vec<CorePart>),
    Kdump(Kdump),
}

/// Where in an ELF core a part of memory is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CorePart {
    memory: Range<u64>,
    /// Of its first byte.
    at: u64,
}

/// Pages that were decompressed last.
#[derive(Default)]
struct Pages {
    pages: HashMap<u64, Box<[u8; PAGE_BYTES]>>,
    order: VecDeque<u64>,
}

impl Core {
    /// Open a core file.
    ///
    /// # Errors
    /// [`CoreError`].
    pub fn open(path: &Path) -> Result<Self, CoreError> {
        let file = File::open(path).and_then(Plain::new).map_err(CoreError::Open)?;
        Self::of(Box::new(file))
    }

    pub(super) fn of(file: Box<dyn Source>) -> Result<Self, CoreError> {
        let flattened = begins(&*file, flattened::SIGNATURE);
        let file: Box<dyn Source> = match flattened {
            true => Box::new(Flattened::new(file).map_err(CoreError::Headers)?),
            false => file,
        };
        let (form, ram, there, vmcoreinfo, notes) = if begins(&*file, kdump::SIGNATURE) {
            let mut kdump = Kdump::read(&*file).map_err(CoreError::Headers)?;
            let (info, notes) = (kdump.vmcoreinfo.take(), std::mem::take(&mut kdump.notes));
            let (ram, there) = (kdump.ram(), kdump.there());
            (Form::Kdump(kdump), ram, there, info, notes)
        } else if begins(&*file, b"\x7fELF") {
            let elf::Elf { segments, notes } = elf::read(&*file).map_err(CoreError::Headers)?;
            let places = places(&segments);
            let total = places
                .iter()
                .fold(0u64, |sum, place| sum.saturating_add(place.memory.end - place.memory.start));
            if total > MAX_MEMORY_BYTES {
                let text = format!("it claims more than {} TiB of memory", MAX_MEMORY_BYTES >> 40);
                return Err(CoreError::Headers(io::Error::new(io::ErrorKind::InvalidData, text)));
            }
            // A page may be in two segments, a part in each.
            let whole = |ranges: Vec<Range<u64>>| ranges.iter().filter_map(frames).collect::<Vec<_>>();
            let ram = whole(merged(segments.iter().map(|segment| segment.memory.clone())));
            let there = whole(merged(places.iter().map(|place| place.memory.clone())));
            (Form::Elf(places), ram, there, None, notes)
        } else {
            return Err(CoreError::Unknown);
        };
        if there.is_empty() {
            return Err(CoreError::NoMemory);
        }
        let notes = Notes::parse(&notes);
        Ok(Self {
            file,
            form,
            flattened,
            ram: merged(ram.into_iter().chain(there.iter().cloned())),
            there,
            vcpus: notes.vcpus,
            names_cpus: notes.names_cpus,
            vmcoreinfo: vmcoreinfo.or(notes.vmcoreinfo),
            pages: Mutex::default(),
        })
    }

    /// What sort of file it is, for people.
    #[must_use]
    pub fn format(&self) -> String {
        let form = match &self.form {
            Form::Elf(_) => "ELF core".to_owned(),
            Form::Kdump(kdump) => format!("kdump-compressed core of dump level {}", kdump.level),
        };
        if self.flattened { format!("{form}, flattened") } else { form }
    }

    /// Where there is RAM, as far as the file says, in bytes: ascending, disjoint, whole pages.
    #[must_use]
    pub fn ram(&self) -> Vec<Range<u64>> {
        bytes(&self.ram)
    }

    /// Frames of RAM that the file does not have, and that may have been anything: ascending and disjoint.
    #[must_use]
    pub fn absent(&self) -> Vec<Range<u64>> {
        if matches!(&self.form, Form::Kdump(kdump) if kdump.absent_is_zero()) {
            return Vec::new();
        }
        let mut absent = Vec::new();
        let mut there = self.there.iter().peekable();
        for range in &self.ram {
            let mut at = range.start;
            while at < range.end {
                // Those that end before are behind us.
                while there.next_if(|have| have.end <= at).is_some() {}
                match there.peek() {
                    Some(have) if have.start <= at => at = have.end.min(range.end),
                    next => {
                        let end = next.map_or(range.end, |have| have.start.min(range.end));
                        absent.push(at..end);
                        at = end;
                    }
                }
            }
        }
        absent
    }

    /// Registers of the CPUs, if the file has them.
    #[must_use]
    pub fn vcpus(&self) -> &[VcpuRegs] {
        &self.vcpus
    }

    /// Whether the file says of which CPU the registers are; else they are numbered in the order in which it has them.
    #[must_use]
    pub(crate) fn names_cpus(&self) -> bool {
        self.names_cpus
    }

    /// The text in which the kernel describes itself, if the file has it beside the memory.
    #[must_use]
    pub fn vmcoreinfo(&self) -> Option<&[u8]> {
        self.vmcoreinfo.as_deref()
    }

    /// The file ends before all of the memory was written.
    #[must_use]
    pub(crate) fn is_incomplete(&self) -> bool {
        matches!(&self.form, Form::Kdump(kdump) if kdump.incomplete)
    }

    fn read_elf(&self, places: &[CorePart], at: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        let mut at = at;
        let mut rest = out;
        while !rest.is_empty() {
            let place = places.get(places.partition_point(|place| place.memory.end <= at));
            let place = place.filter(|place| place.memory.start <= at);
            let place = place.ok_or_else(|| self.absent_at(at, rest.len()))?;
            let there = usize::try_from(place.memory.end - at).unwrap_or(usize::MAX);
            let (now, after) = rest.split_at_mut(rest.len().min(there));
            let read = self.file.read(place.at + (at - place.memory.start), now);
            read.map_err(|error| MemoryError::Damaged { at: GuestPhys(at), why: error.to_string() })?;
            at += now.len() as u64;
            rest = after;
        }
        Ok(())
    }

    fn read_kdump(&self, kdump: &Kdump, at: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        let mut at = at;
        let mut rest = out;
        while !rest.is_empty() {
            let (gfn, from) = (at / PAGE, (at % PAGE) as usize);
            let (now, after) = rest.split_at_mut(rest.len().min(PAGE_BYTES - from));
            self.with_page(kdump, gfn, |page| {
                now.copy_from_slice(page.get(from..from + now.len()).unwrap_or_default());
            })?;
            at += now.len() as u64;
            rest = after;
        }
        Ok(())
    }

    fn with_page(
        &self,
        kdump: &Kdump,
        gfn: u64,
        then: impl FnOnce(&[u8; PAGE_BYTES]),
    ) -> Result<(), MemoryError> {
        let mut kept = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(page) = kept.pages.get(&gfn) {
            then(page);
            return Ok(());
        }
        let mut page = Box::new([0; PAGE_BYTES]);
        match kdump.page(&*self.file, gfn, &mut page) {
            Some(Ok(())) => {}
            Some(Err(why)) => return Err(MemoryError::Damaged { at: GuestPhys(gfn * PAGE), why }),
            None if kdump.absent_is_zero() && contains(&self.ram, gfn) => {}
            None => return Err(self.absent_at(gfn * PAGE, PAGE_BYTES)),
        }
        then(&page);
        if kept.order.len() >= KEPT_PAGES
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.pages.remove(&oldest);
        }
        kept.order.push_back(gfn);
        kept.pages.insert(gfn, page);
        Ok(())
    }

    fn absent_at(&self, at: u64, len: usize) -> MemoryError {
        match contains(&self.ram, at / PAGE) {
            true => MemoryError::LeftOut { at: GuestPhys(at), why: LeftOut::NotInCore },
            false => MemoryError::OutOfRange { at: GuestPhys(at), len },
        }
    }
}

impl Memory for Core {
    fn read(&self, at: GuestPhys, out: &mut [u8]) -> Result<(), MemoryError> {
        if at.0.checked_add(out.len() as u64).is_none() {
            return Err(MemoryError::OutOfRange { at, len: out.len() });
        }
        match &self.form {
            Form::Elf(places) => self.read_elf(places, at.0, out),
            Form::Kdump(kdump) => self.read_kdump(kdump, at.0, out),
        }
    }

    fn populated(&self) -> Vec<Range<u64>> {
        bytes(&self.there)
    }
}

/// Where the bytes of segments are, which are in the order of where they begin. A core may have the same memory twice, as that of the
/// kernel's image: the first is taken.
fn places(segments: &[Segment]) -> Vec<CorePart> {
    let mut places = Vec::with_capacity(segments.len());
    let mut end = 0;
    for Segment { memory, at, bytes } in segments {
        let there = memory.start.max(end)..memory.start.saturating_add(*bytes).min(memory.end);
        // What is beyond any file's end is not there.
        let Some(at) =
            at.checked_add(there.start - memory.start).filter(|at| at.checked_add(*bytes).is_some())
        else {
            continue;
        };
        if there.start < there.end {
            end = there.end;
            places.push(CorePart { memory: there, at });
        }
    }
    places
}

fn begins(file: &dyn Source, signature: &[u8]) -> bool {
    let len = signature.len() as u64;
    file.take(0, len, len).is_ok_and(|bytes| bytes == signature)
}

/// The whole frames of a range of addresses.
fn frames(range: &Range<u64>) -> Option<Range<u64>> {
    let frames = range.start.div_ceil(PAGE)..range.end / PAGE;
    (frames.start < frames.end).then_some(frames)
}

fn bytes(frames: &[Range<u64>]) -> Vec<Range<u64>> {
    frames.iter().map(|range| range.start.saturating_mul(PAGE)..range.end.saturating_mul(PAGE)).collect()
}

/// Whether a frame is in one of these ranges, which are ascending and disjoint.
fn contains(ranges: &[Range<u64>], gfn: u64) -> bool {
    let next = ranges.partition_point(|range| range.end <= gfn);
    ranges.get(next).is_some_and(|range| range.start <= gfn)
}

/// These ranges, ascending and disjoint.
fn merged(ranges: impl IntoIterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = ranges.into_iter().collect();
    all.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in all {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}
