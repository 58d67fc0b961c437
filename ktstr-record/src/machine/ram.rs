//! The guest's RAM: shared memory files, mapped by what runs the machine and by us.
//!
//! ```text
//! guest physical   0 ............ low limit     4 GiB ............
//!                  |- RAM, first part -|        |- RAM, the rest -|
//! files            |-- node 0 --|-- node 1 --------|-- node 2 ----|
//! ```
//!
//! One file for each NUMA node, without a name (memfd), so that no tmpfs mount limits its size and nothing is left
//! behind. Pages that the guest never touched are holes of the file: reading them through the mapping would allocate
//! them, so whatever goes over all of RAM asks [`GuestRam::populated`] first.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use guest_init::layout::{CHANNEL_BYTES, CHANNEL_WORDS, ChannelMemory};
use ktstr_replay::memory::{Memory, MemoryError};
use ktstr_replay::units::GuestPhys;
use rustix::fs::{FallocateFlags, MemfdFlags, SeekFrom, fallocate, memfd_create, seek};
use rustix::io::Errno;
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, VolatileSlice,
};

use crate::spec::LOW_RAM_LIMIT_BYTES;

/// Where the RAM that does not fit below the low limit begins.
const HIGH_RAM_BASE: u64 = 4 << 30;
/// Holes and data of the files are whole pages.
pub(super) const PAGE_BYTES: u64 = 4096;
/// The size of a huge page.
pub(super) const HUGE_PAGE_BYTES: u64 = 2 << 20;
/// Words of a set of NUMA nodes: 1024 of them, as many as Linux can have on x86-64.
const NODE_WORDS: usize = 16;
/// How many ranges of written pages are looked at before another one is kept: more than there are watched pages, so that a guest
/// which stores to them by turns does not make the list grow for ever.
const RECENT: usize = 64;

/// A guest's RAM.
#[derive(Debug)]
pub struct GuestRam {
    memory: GuestMemoryMmap<()>,
    nodes: Vec<Node>,
    spans: Vec<Span>,
    pages: PageSize,
    /// For each span, where its file was found to hold data, in bytes of the file. Asking for it is slow, as the kernel
    /// goes over every page, and a capture asks while the guest is stopped.
    data: Mutex<Vec<Vec<Range<u64>>>>,
    /// Page frames that [`write`](Self::write) wrote since somebody asked.
    written: Mutex<Vec<Range<u64>>>,
}

/// Of what pages the host makes the RAM of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageSize {
    /// Ordinary ones, made when they are first touched.
    Small,
    /// Huge ones of 2 MiB, out of the host's pool. Such a file has no holes that could be asked for.
    Huge,
}

/// The RAM of a NUMA node.
#[derive(Debug)]
pub(super) struct Node {
    pub file: File,
    pub bytes: u64,
}

/// A range of guest-physical addresses, and where it is mapped in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    /// Its first guest-physical address.
    pub base: u64,
    /// Its size.
    pub bytes: u64,
    /// The address of its first byte here.
    pub host: u64,
}

/// A range of guest-physical addresses that lies in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub base: u64,
    pub bytes: u64,
    pub node: usize,
    offset: u64,
}

impl GuestRam {
    /// RAM of `nodes` NUMA nodes with these sizes in bytes, all hole.
    pub(crate) fn new(nodes: &[u64]) -> io::Result<Self> {
        Self::of(nodes, PageSize::Small)
    }

    /// The same of pages of this size, of which the nodes' sizes are multiples.
    pub(super) fn of(nodes: &[u64], pages: PageSize) -> io::Result<Self> {
        let flags = match pages {
            PageSize::Small => MemfdFlags::CLOEXEC,
            PageSize::Huge => MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB,
        };
        let nodes = nodes
            .iter()
            .map(|&bytes| Ok(Node { file: memory_file("ktstr-ram", bytes, flags)?, bytes }))
            .collect::<io::Result<Vec<_>>>()?;
        let spans = spans(&nodes.iter().map(|n| n.bytes).collect::<Vec<_>>());
        let ranges = spans
            .iter()
            .map(|span| {
                let len = usize::try_from(span.bytes).map_err(io::Error::other)?;
                let file = FileOffset::new(nodes[span.node].file.try_clone()?, span.offset);
                Ok((GuestAddress(span.base), len, Some(file)))
            })
            .collect::<io::Result<Vec<_>>>()?;
        let memory = GuestMemoryMmap::from_ranges_with_files(ranges).map_err(io::Error::other)?;
        let data = Mutex::new(vec![Vec::new(); spans.len()]);
        Ok(Self { memory, nodes, spans, pages, data, written: Mutex::default() })
    }

    /// Have the host make the pages of the guest's `node` on its own nodes `on` only, also for whoever else maps the file. What
    /// is there already stays where it is.
    pub(super) fn bind(&self, node: usize, on: &[u32]) -> io::Result<()> {
        let mut mask = [0_u64; NODE_WORDS];
        for &on in on {
            let word = mask.get_mut(on as usize / 64).ok_or(io::ErrorKind::InvalidInput)?;
            *word |= 1 << (on % 64);
        }
        for (span, mapped) in self.spans.iter().zip(self.mapped()).filter(|(span, _)| span.node == node) {
            debug_assert_eq!(span.base, mapped.base);
            // SAFETY: the range is a mapping of ours, of which no byte is changed; the mask has as many bits as is said (the
            // kernel leaves the last one out), and is only read.
            let done = unsafe {
                libc::syscall(
                    libc::SYS_mbind,
                    mapped.host,
                    mapped.bytes,
                    i64::from(libc::MPOL_BIND),
                    mask.as_ptr(),
                    NODE_WORDS as u64 * 64 + 1,
                    0_u64,
                )
            };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// Have the host make all pages now.
    pub(super) fn fill(&self) -> io::Result<()> {
        for node in &self.nodes {
            fallocate(&node.file, FallocateFlags::empty(), 0, node.bytes)?;
        }
        Ok(())
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Where its parts are mapped: ascending, disjoint. They stay there for as long as `self` lives.
    pub(super) fn mapped(&self) -> Vec<Mapped> {
        let regions = self.memory.iter();
        regions
            .map(|region| Mapped {
                base: region.start_addr().0,
                bytes: region.len(),
                host: region.as_ptr().addr() as u64,
            })
            .collect()
    }

    /// RAM in bytes.
    pub fn bytes(&self) -> u64 {
        self.nodes.iter().map(|n| n.bytes).sum()
    }

    /// Where there is RAM, in bytes: ascending, disjoint.
    pub fn ranges(&self) -> Vec<Range<u64>> {
        let mut merged: Vec<Range<u64>> = Vec::new();
        for span in &self.spans {
            let end = span.base + span.bytes;
            match merged.last_mut() {
                Some(last) if last.end == span.base => last.end = end,
                _ => merged.push(span.base..end),
            }
        }
        merged
    }

    /// `len` bytes at `at`, without a copy. They change under the reader while the guest runs.
    ///
    /// # Errors
    /// [`MemoryError::OutOfRange`] when any of them is not RAM, or when they lie in two nodes.
    fn slice(&self, at: GuestPhys, len: usize) -> Result<VolatileSlice<'_, ()>, MemoryError> {
        self.memory.get_slice(GuestAddress(at.0), len).map_err(|_| MemoryError::OutOfRange { at, len })
    }

    /// Put `bytes` at `at`.
    ///
    /// # Errors
    /// [`MemoryError::OutOfRange`] when any of them is not RAM; those before it may have been written.
    pub fn write(&self, at: GuestPhys, bytes: &[u8]) -> Result<(), MemoryError> {
        let end = at.0.saturating_add(bytes.len() as u64);
        let frames = at.0 / PAGE_BYTES..end.div_ceil(PAGE_BYTES);
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = written
            .iter()
            .rev()
            .take(RECENT)
            .any(|range| range.start <= frames.start && frames.end <= range.end);
        match written.last_mut() {
            _ if is_known => {}
            Some(last) if last.start <= frames.start && frames.start <= last.end => {
                last.end = last.end.max(frames.end);
            }
            _ => written.push(frames),
        }
        drop(written);
        self.memory
            .write_slice(bytes, GuestAddress(at.0))
            .map_err(|_| MemoryError::OutOfRange { at, len: bytes.len() })
    }

    /// The page frames that the host wrote since this was called last, in the order of the writes. What goes to the channel memory by
    /// [`ChannelRam`] is not among them.
    pub(super) fn take_written(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Put what was saved of `node` back, `bytes` at the offset `at` of its file. [`take_written`](Self::take_written) does not tell of it.
    pub(super) fn put_saved(&self, node: usize, at: u64, bytes: &[u8]) -> io::Result<()> {
        match (self.pages, self.nodes.get(node)) {
            // Through the file, not the mapping: that spares a page fault and the zeroing of each page.
            (PageSize::Small, Some(of)) => of.file.write_all_at(bytes, at),
            // The kernel has no write(2) for files of huge pages.
            (PageSize::Huge, Some(_)) => self.put_mapped(node, at, bytes),
            (_, None) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn put_mapped(&self, node: usize, mut at: u64, mut bytes: &[u8]) -> io::Result<()> {
        for span in self.spans.iter().filter(|span| span.node == node) {
            let end = span.offset + span.bytes;
            if bytes.is_empty() || !(span.offset..end).contains(&at) {
                continue;
            }
            // A node may go on in another span.
            let len = usize::try_from(end - at).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (here, rest) = bytes.split_at(len);
            let to = GuestAddress(at - span.offset + span.base);
            self.memory.write_slice(here, to).map_err(|_| io::ErrorKind::InvalidInput)?;
            (at, bytes) = (at + len as u64, rest);
        }
        if bytes.is_empty() { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    fn populated_by_span(&self) -> Vec<Range<u64>> {
        let mut found = Vec::new();
        let mut known = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        for (span, known) in self.spans.iter().zip(known.iter_mut()) {
            *known = more_data(&self.nodes[span.node].file, span.offset, span.offset + span.bytes, known);
            found.extend(known.iter().map(|r| {
                let to_guest = |offset: u64| offset - span.offset + span.base;
                to_guest(r.start)..to_guest(r.end)
            }));
        }
        found
    }
}

impl Memory for GuestRam {
    fn read(&self, at: GuestPhys, out: &mut [u8]) -> Result<(), MemoryError> {
        self.memory
            .read_slice(out, GuestAddress(at.0))
            .map_err(|_| MemoryError::OutOfRange { at, len: out.len() })
    }

    fn populated(&self) -> Vec<Range<u64>> {
        let mut merged: Vec<Range<u64>> = Vec::new();
        for range in self.populated_by_span() {
            match merged.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => merged.push(range),
            }
        }
        merged
    }
}

/// As [`data_ranges`], when `known` held data before: only what was a hole is looked at. What became a hole since then
/// still counts as data, and reads as zero.
fn more_data(file: &File, from: u64, to: u64, known: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut found: Vec<Range<u64>> = Vec::with_capacity(known.len());
    let mut add = |range: Range<u64>| match found.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => found.push(range),
    };
    let mut at = from;
    for range in known {
        data_ranges(file, at, range.start).into_iter().for_each(&mut add);
        add(range.clone());
        at = range.end;
    }
    data_ranges(file, at, to).into_iter().for_each(add);
    found
}

/// The ranges of `file` between `from` and `to` that hold data. A file system that cannot tell has no holes.
pub(super) fn data_ranges(file: &File, from: u64, to: u64) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    let mut at = from;
    while at < to {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) if start < to => start,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(_) => at,
        };
        // The end of the file counts as a hole, so that this fails only where holes are unknown.
        let end = seek(file, SeekFrom::Hole(start)).unwrap_or(to).min(to);
        found.push(start..end);
        at = end;
    }
    found
}

/// Lay the nodes' files out over guest-physical memory.
pub(super) fn spans(nodes: &[u64]) -> Vec<Span> {
    let total: u64 = nodes.iter().sum();
    let low = total.min(LOW_RAM_LIMIT_BYTES);
    let (mut found, mut before) = (Vec::new(), 0u64);
    for (node, &bytes) in nodes.iter().enumerate() {
        let low_bytes = low.saturating_sub(before).min(bytes);
        if low_bytes > 0 {
            found.push(Span { base: before, bytes: low_bytes, node, offset: 0 });
        }
        if low_bytes < bytes {
            let base = HIGH_RAM_BASE + (before + low_bytes - low);
            found.push(Span { base, bytes: bytes - low_bytes, node, offset: low_bytes });
        }
        before += bytes;
    }
    found
}

/// The channel memory of a guest, mapped by the host.
pub struct ChannelRam {
    words: NonNull<[AtomicU64; CHANNEL_WORDS]>,
    /// Keeps the mapping that `words` points into.
    _ram: Arc<GuestRam>,
}

impl ChannelRam {
    /// The channel memory at `base`.
    ///
    /// # Errors
    /// [`MemoryError::OutOfRange`] when it is not wholly in RAM, or not on a word.
    pub fn new(ram: Arc<GuestRam>, base: GuestPhys) -> Result<Self, MemoryError> {
        let slice = ram.slice(base, CHANNEL_BYTES)?;
        let words = NonNull::new(slice.ptr_guard_mut().as_ptr().cast::<[AtomicU64; CHANNEL_WORDS]>())
            .filter(|words| words.is_aligned())
            .ok_or(MemoryError::OutOfRange { at: base, len: CHANNEL_BYTES })?;
        Ok(Self { words, _ram: ram })
    }
}

impl ChannelMemory for ChannelRam {
    fn words(&self) -> &[AtomicU64; CHANNEL_WORDS] {
        // SAFETY: `words` is aligned and points to CHANNEL_BYTES bytes of a shared mapping, which `_ram` keeps for as long as
        // `self` lives. The guest writes there at the same time, which atomics allow.
        unsafe { self.words.as_ref() }
    }
}

// SAFETY: `words` points into a mapping that belongs to no thread, and all access to it is atomic.
unsafe impl Send for ChannelRam {}

/// A file in memory, closed on exec, `len` bytes long and all hole.
pub(super) fn memfd(name: &str, len: u64) -> io::Result<File> {
    memory_file(name, len, MemfdFlags::CLOEXEC)
}

fn memory_file(name: &str, len: u64, flags: MemfdFlags) -> io::Result<File> {
    let file = File::from(memfd_create(name, flags)?);
    file.set_len(len)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use guest_init::layout::ChannelMemory;
    use ktstr_replay::memory::{Memory, MemoryError};
    use ktstr_replay::units::GuestPhys;

    use super::{ChannelRam, GuestRam, HIGH_RAM_BASE, PageSize, Span, spans};

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    #[test]
    fn a_node_is_split_at_the_low_limit() {
        assert_eq!(spans(&[512 * MIB]), [Span { base: 0, bytes: 512 * MIB, node: 0, offset: 0 }]);
        assert_eq!(spans(&[3 * GIB]).len(), 1);
        assert_eq!(
            spans(&[2 * GIB, 2 * GIB, GIB]),
            [
                Span { base: 0, bytes: 2 * GIB, node: 0, offset: 0 },
                Span { base: 2 * GIB, bytes: GIB, node: 1, offset: 0 },
                Span { base: 4 * GIB, bytes: GIB, node: 1, offset: GIB },
                Span { base: 5 * GIB, bytes: GIB, node: 2, offset: 0 },
            ]
        );
    }

    /// A file of huge pages refuses to be written to, so that each template was taken for a damaged one there.
    #[test]
    fn what_was_saved_is_put_back_by_file_and_by_mapping() {
        let ram = GuestRam::new(&[MIB, 4 * GIB]).unwrap();
        // The second node goes on at 4 GiB where 3 GiB of RAM are full.
        let cut = 3 * GIB - MIB;
        type Put = fn(&GuestRam, u64, &[u8]) -> std::io::Result<()>;
        let puts: [Put; 2] =
            [|ram, at, bytes| ram.put_saved(1, at, bytes), |ram, at, bytes| ram.put_mapped(1, at, bytes)];
        for (put, bytes) in puts.into_iter().zip([b"abcdefgh", b"ABCDEFGH"]) {
            put(&ram, cut - 4, bytes).unwrap();
            for (at, part) in [(3 * GIB - 4, &bytes[..4]), (HIGH_RAM_BASE, &bytes[4..])] {
                let mut found = [0; 4];
                ram.read(GuestPhys(at), &mut found).unwrap();
                assert_eq!(found, part, "{at:#x}");
            }
        }
        assert!(ram.take_written().is_empty());
        assert!(ram.put_mapped(1, 4 * GIB - 4, &[1; 8]).is_err(), "beyond its end");
        assert!(ram.put_saved(2, 0, &[1]).is_err(), "no such node");
        if let Ok(huge) = GuestRam::of(&[2 * MIB], PageSize::Huge)
            && huge.fill().is_ok()
        {
            huge.put_saved(0, MIB, b"abcd").unwrap();
            let mut found = [0; 4];
            huge.read(GuestPhys(MIB), &mut found).unwrap();
            assert_eq!(&found, b"abcd");
        }
    }

    #[test]
    fn only_what_was_touched_is_populated() {
        let ram = GuestRam::new(&[2 * MIB, 2 * MIB]).unwrap();
        assert!(ram.populated().is_empty());
        ram.write(GuestPhys(2 * MIB - 4096), &[1; 8192]).unwrap();
        ram.write(GuestPhys(0x3000), &[7]).unwrap();
        assert_eq!(ram.populated(), [0x3000..0x4000, 2 * MIB - 4096..2 * MIB + 4096]);
        let spans = [0x3000..0x4000, 2 * MIB - 4096..2 * MIB, 2 * MIB..2 * MIB + 4096];
        assert_eq!(ram.populated_by_span(), spans, "cut where a node ends");
        assert_eq!(ram.populated().len(), 2, "looking at it populated nothing");

        // What was found before is not looked for again; what is new beside it, between and behind is found.
        ram.write(GuestPhys(0), &[1]).unwrap();
        ram.write(GuestPhys(0x2000), &[1; 0x3000]).unwrap();
        ram.write(GuestPhys(MIB), &[1]).unwrap();
        ram.write(GuestPhys(4 * MIB - 1), &[1]).unwrap();
        let expected = [
            0..0x1000,
            0x2000..0x5000,
            MIB..MIB + 0x1000,
            2 * MIB - 4096..2 * MIB + 4096,
            4 * MIB - 0x1000..4 * MIB,
        ];
        assert_eq!(ram.populated(), expected);
        assert_eq!(ram.populated(), expected);
    }

    #[test]
    fn reads_what_was_written_across_nodes_and_above_4_gib() {
        let ram = GuestRam::new(&[2 * MIB, 2 * MIB]).unwrap();
        ram.write(GuestPhys(2 * MIB - 2), b"node").unwrap();
        let mut four = [0; 4];
        ram.read(GuestPhys(2 * MIB - 2), &mut four).unwrap();
        assert_eq!(&four, b"node");

        let large = GuestRam::new(&[4 * GIB]).unwrap();
        large.write(GuestPhys(HIGH_RAM_BASE), b"high").unwrap();
        large.read(GuestPhys(HIGH_RAM_BASE), &mut four).unwrap();
        assert_eq!(&four, b"high");
        assert_eq!(large.populated()[0], HIGH_RAM_BASE..HIGH_RAM_BASE + 4096);
        assert_eq!(large.populated().len(), 1);
    }

    #[test]
    fn what_the_host_wrote_is_told_once() {
        let ram = GuestRam::new(&[2 * MIB]).unwrap();
        for (at, bytes) in [(0x1ffe, &b"node"[..]), (0x3000, b"x"), (0x3fff, b"yz"), (0x1000, b"")] {
            ram.write(GuestPhys(at), bytes).unwrap();
        }
        assert_eq!(ram.take_written(), std::slice::from_ref(&(1..5)));
        assert!(ram.take_written().is_empty());
        // By turns, as a guest stores to two watched pages.
        for at in (0..1000).map(|n| 0x1000 + n % 2 * 0x4000) {
            ram.write(GuestPhys(at), b"x").unwrap();
        }
        assert_eq!(ram.take_written(), [1..2, 5..6]);
    }

    #[test]
    fn outside_of_ram_is_an_error() {
        let ram = GuestRam::new(&[2 * MIB]).unwrap();
        let out_of_range = |at, len| Err(MemoryError::OutOfRange { at: GuestPhys(at), len });
        assert_eq!(ram.read(GuestPhys(2 * MIB - 1), &mut [0; 2]), out_of_range(2 * MIB - 1, 2));
        assert_eq!(ram.write(GuestPhys(u64::MAX), &[0; 2]), out_of_range(u64::MAX, 2));
        assert!(ram.slice(GuestPhys(0), usize::MAX).is_err());
        assert!(ram.slice(GuestPhys(MIB), MIB as usize).is_ok());
    }

    #[test]
    fn channel_memory_is_the_guests_memory() {
        let ram = Arc::new(GuestRam::new(&[32 << 20]).unwrap());
        let channel = ChannelRam::new(Arc::clone(&ram), GuestPhys(16 << 20)).unwrap();
        channel.words()[3].store(0x1122_3344_5566_7788, Ordering::Release);
        let mut bytes = [0; 8];
        ram.read(GuestPhys((16 << 20) + 24), &mut bytes).unwrap();
        assert_eq!(u64::from_le_bytes(bytes), 0x1122_3344_5566_7788);
    }

    #[test]
    fn channel_memory_outside_of_ram_is_refused() {
        let ram = Arc::new(GuestRam::new(&[32 << 20]).unwrap());
        assert!(ChannelRam::new(Arc::clone(&ram), GuestPhys(28 << 20)).is_err());
        assert!(ChannelRam::new(ram, GuestPhys((16 << 20) + 1)).is_err());
    }
}
