//! The ring buffers: the pages of a CPU in their order, and copies of what is new in them.
//!
//! Source: `kernel/trace/ring_buffer.c`. The pages of a CPU are a ring without a head; a bit in the pointer to the oldest page marks it
//! (`RB_PAGE_HEAD`), another one while it is being moved on (`RB_PAGE_UPDATE`). The newest that counts is `commit_page`. A reader of the
//! guest takes whole pages out of the ring, so that the oldest may be `reader_page`, which is not in it.

use crate::kernel::history::INSTANCE;
use crate::kernel::history::page::{Entries, Header};
use crate::kernel::mirror::{At, mirror};
use crate::kernel::{FieldMissing, Gaps, KernelError, KernelView, list_entries};
use crate::trace::record::PAGE_BYTES;
use crate::units::{Cpu, GuestPhys, KernelVirt};

/// Most trace instances.
const MAX_INSTANCES: usize = 1024;
/// Instances of others that are named where ours is not there.
const NAMED: usize = 8;
/// Most pages of all CPUs together: ours have 128 each.
const MAX_PAGES: u64 = 65_536;
/// Most bytes that are copied at once of all CPUs together. Decoded they take several times as much.
const MAX_BYTES: u64 = 128 << 20;
/// Largest page of a buffer, in bytes.
const MAX_PAGE_BYTES: u64 = 64 << 10;
/// Most bytes of an instance's name.
const NAME_BYTES: usize = 64;
/// Low bits of the pointers of the ring that are no part of the address.
const FLAGS: u64 = 3;
/// The part of `commit` that is a length (`RB_WRITE_MASK`).
const LENGTH: u64 = 0xf_ffff;
/// The function that is the clock `mono`.
const MONO: &str = "ktime_get_mono_fast_ns";

mirror! {
    /// `struct trace_array`.
    struct TraceArray, TraceArrayLayout = "trace_array" {
        name: KernelVirt,
        buffer: KernelVirt = "array_buffer.buffer",
    }
}

mirror! {
    /// `struct trace_buffer`.
    struct TraceBuffer, TraceBufferLayout = "trace_buffer" {
        buffers: KernelVirt,
        clock: KernelVirt,
        subbuf_size: Result<u64, FieldMissing>,
    }
}

mirror! {
    /// `struct ring_buffer_per_cpu`.
    struct CpuBuffer, CpuBufferLayout = "ring_buffer_per_cpu" {
        nr_pages: u64,
        pages: KernelVirt,
        commit_page: KernelVirt,
        reader_page: KernelVirt,
        entries: u64,
    }
}

mirror! {
    /// `struct buffer_page`.
    struct BufferPage, BufferPageLayout = "buffer_page" {
        next: u64 = "list.next",
        page: KernelVirt,
    }
}

mirror! {
    /// `struct buffer_data_page`.
    struct DataPage, DataPageLayout = "buffer_data_page" {
        time_stamp: u64,
        commit: u64,
        data: At,
    }
}

/// How far a CPU's buffer was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    page: KernelVirt,
    /// That of the page: a page that is used again has another one.
    time_stamp: u64,
    at: usize,
    time: u64,
}

/// What is new of a CPU.
#[derive(Debug, Default)]
pub(super) struct UndecodedCpu {
    pub(super) cpu: Cpu,
    /// How many entries the CPU has written since the buffer was made.
    pub(super) entries: u64,
    /// It begins where was read last.
    pub(super) goes_on: bool,
    pub(super) pages: Vec<TakenPage>,
}

/// A copy of a page, and where what is new begins.
#[derive(Debug)]
pub(super) struct TakenPage {
    page: KernelVirt,
    time_stamp: u64,
    bytes: Vec<u8>,
    at: usize,
    time: u64,
}

impl TakenPage {
    /// What is new in it.
    pub(super) fn entries<'p>(&'p self, header: &'p Header) -> Entries<'p> {
        Entries::new(header, &self.bytes, self.at, self.time)
    }
}

impl Entries<'_> {
    /// The place that was reached, in `page`.
    pub(super) fn position(&self, page: &TakenPage) -> Position {
        let (at, time) = self.place();
        Position { page: page.page, time_stamp: page.time_stamp, at, time }
    }
}

/// What may still be read at once: a guest can have its buffers claim anything.
pub(super) struct Room {
    pages: u64,
    bytes: u64,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { pages: MAX_PAGES, bytes: MAX_BYTES }
    }
}

/// The buffer of our instance.
pub(super) struct Buffer {
    buffers: KernelVirt,
    page_bytes: u64,
}

/// Find it.
///
/// # Errors
/// [`KernelError::NoHistory`] when there is none, or it has another clock; [`KernelError::Field`], [`KernelError::NoSymbol`].
pub(super) fn buffer(view: &KernelView<'_>, gaps: &mut Gaps) -> Result<Buffer, KernelError> {
    let none = |why: String| KernelError::NoHistory { why };
    let arrays = view.symbol("ftrace_trace_arrays")?;
    let mut names = Vec::new();
    for at in list_entries(view, arrays, ("trace_array", "list"), MAX_INSTANCES, gaps) {
        let Some(array) = readable(view.mirror::<TraceArray>(at), gaps)? else { continue };
        // The instance that everybody has is without a name.
        if array.name.0 == 0 {
            continue;
        }
        let Some(name) = readable(view.text(array.name, NAME_BYTES), gaps)? else { continue };
        if name != INSTANCE {
            if names.len() < NAMED {
                names.push(name);
            }
            continue;
        }
        let buffer: TraceBuffer = view.mirror(array.buffer)?;
        if buffer.clock != view.symbol(MONO)? {
            let clock = view.profile().symbols().containing(buffer.clock);
            let clock = clock.map_or_else(|| buffer.clock.to_string(), |(symbol, _)| symbol.name.to_string());
            return Err(none(format!("the clock of its trace instance `{INSTANCE}` is {clock}, not {MONO}")));
        }
        // Where the kernel does not say, a buffer's page is a page.
        let page_bytes = buffer.subbuf_size.unwrap_or(PAGE_BYTES as u64).min(MAX_PAGE_BYTES);
        return Ok(Buffer { buffers: buffer.buffers, page_bytes });
    }
    let others = if names.is_empty() { String::new() } else { format!("; there are {}", names.join(", ")) };
    Err(none(format!("it has no trace instance `{INSTANCE}`, which init makes where it can{others}")))
}

/// What is at an address; `None`, and a fault, where nothing can be read: that one instance is broken takes nothing from another.
fn readable<T>(found: Result<T, KernelError>, gaps: &mut Gaps) -> Result<Option<T>, KernelError> {
    match found {
        Err(error @ (KernelError::NotMapped { .. } | KernelError::Memory(_))) => {
            gaps.fault(format_args!("a trace instance: {error}"));
            Ok(None)
        }
        found => found.map(Some),
    }
}

impl Buffer {
    /// Copy what is new of `cpu` since `position`, and say which `frames` its pages are. `None`: it has no buffer.
    ///
    /// # Errors
    /// [`KernelError::Broken`] for a ring that makes no sense; those of reading memory.
    pub(super) fn take(
        &self,
        view: &KernelView<'_>,
        cpu: Cpu,
        position: Option<Position>,
        frames: &mut Vec<GuestPhys>,
        room: &mut Room,
    ) -> Result<Option<UndecodedCpu>, KernelError> {
        let at = KernelVirt(self.buffers.0.wrapping_add(u64::from(cpu.0) * 8));
        let Some(at) = view.pointer(at)? else { return Ok(None) };
        let own: CpuBuffer = view.mirror(at)?;
        let ring = ring(view, at, &own, room)?;
        for page in &ring.all {
            frames.push(view.place_of(*page)?.0);
        }
        let mut heads = Vec::new();
        for page in ring.filled {
            heads.push((page, view.mirror::<DataPage>(page)?));
        }
        let known = position.and_then(|known| {
            let same = |(page, head): &(KernelVirt, DataPage)| {
                *page == known.page && head.time_stamp == known.time_stamp
            };
            heads.iter().position(same).map(|first| (first, known))
        });
        let mut taken =
            UndecodedCpu { cpu, entries: own.entries, goes_on: known.is_some(), ..UndecodedCpu::default() };
        for (nth, (page, head)) in heads.into_iter().enumerate().skip(known.map_or(0, |(first, _)| first)) {
            let len = (head.commit & LENGTH).min(self.page_bytes) as usize;
            let (at, time) = match known {
                Some((first, known)) if nth == first => (known.at, known.time),
                _ => (0, head.time_stamp),
            };
            if at >= len {
                continue;
            }
            let Some(left) = room.bytes.checked_sub(len as u64) else {
                let why = format!("with those before it has more than {} MiB that are new", MAX_BYTES >> 20);
                return Err(KernelError::Broken { what: "a ring buffer", at: page, why });
            };
            room.bytes = left;
            let bytes = view.bytes(head.data.0, len)?;
            taken.pages.push(TakenPage { page, time_stamp: head.time_stamp, bytes, at, time });
        }
        Ok(Some(taken))
    }
}

/// The pages of a CPU, by the addresses of their data.
struct Ring {
    all: Vec<KernelVirt>,
    /// Those that may have something, the oldest first.
    filled: Vec<KernelVirt>,
}

fn ring(
    view: &KernelView<'_>,
    at: KernelVirt,
    own: &CpuBuffer,
    room: &mut Room,
) -> Result<Ring, KernelError> {
    let broken = |why: String| KernelError::Broken { what: "a ring buffer", at, why };
    // With that of the reader.
    let Some(left) = room.pages.checked_sub(own.nr_pages.saturating_add(1)) else {
        return Err(broken(format!("it claims {} pages; all have {MAX_PAGES} at most", own.nr_pages)));
    };
    room.pages = left;
    let list = view.offset_of("buffer_page", "list")?;
    // Each page by its node, with whether the pointer to it is marked.
    let mut pages: Vec<(KernelVirt, KernelVirt)> = Vec::new();
    let mut oldest = 0;
    let first = KernelVirt(own.pages.0 & !FLAGS);
    let mut node = first;
    loop {
        let page_at = KernelVirt(node.0.wrapping_sub(list));
        let page: BufferPage = view.mirror(page_at)?;
        pages.push((page_at, page.page));
        node = KernelVirt(page.next & !FLAGS);
        let is_oldest = page.next & FLAGS != 0;
        if node == first {
            oldest = if is_oldest { 0 } else { oldest };
            break;
        }
        if is_oldest {
            oldest = pages.len();
        }
        if pages.len() as u64 >= own.nr_pages {
            return Err(broken(format!("its {} pages are no ring", own.nr_pages)));
        }
    }
    let mut all: Vec<KernelVirt> = pages.iter().map(|(_, data)| *data).collect();
    let reader: BufferPage = view.mirror(own.reader_page)?;
    all.push(reader.page);
    let mut filled = vec![reader.page];
    if own.commit_page != own.reader_page {
        let Some(newest) = pages.iter().position(|(page, _)| *page == own.commit_page) else {
            return Err(broken("the page that is written to is not in it".to_owned()));
        };
        let count = (newest + pages.len() - oldest) % pages.len() + 1;
        filled.extend(pages.iter().cycle().skip(oldest).take(count).map(|(_, data)| *data));
    }
    Ok(Ring { all, filled })
}
