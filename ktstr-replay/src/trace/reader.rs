//! Reading a trace: finished, unfinished, or still being written.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::body::Body;
use super::checkpoint::parse_checkpoint_links;
use super::error::{Fault, FaultKind, TraceError};
use super::file::{Source, name_format};
use super::format::FormatStamp;
use super::header::Header;
use super::kind::{Kind, MAX_EVENT_BYTES, MAX_SAMPLE_BYTES, MAX_SEGMENTS, MAX_SMALL_BYTES};
use super::locate::{Located, first_stamp, locate, read_body, read_record};
use super::memory::ChunkCache;
use super::record::{
    Blob, BlobId, BlobRole, ClaimRecord, Clock, Event, EventChunk, IndexEntry, Loss, Manifest, PageChunk,
    Sample, StoredPages, VerdictText, blob_id,
};
use crate::units::{GuestNs, HostNs};

/// A trace, open for reading.
///
/// Opening reads the index only (or, of an unfinished trace, the record headers); everything else is read when it
/// is asked for. A damaged record costs itself and no other: methods that return one record fail with it, those
/// that return many go without it, and [`Trace::faults`] names it.
///
/// ```
/// # use std::path::Path;
/// use ktstr_replay::trace::Trace;
///
/// # let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces");
/// let trace = Trace::open(&folder.join("stall.trace.zst"))?;
/// assert!(trace.is_finalized());
/// assert_eq!(trace.manifest()?.test.name, "stall");
/// for sample in trace.samples() {
///     let sample = sample?;
///     println!("{} at {} ns has {} maps", sample.tag, sample.guest_ns.0, sample.maps.len());
/// }
/// # Ok::<(), ktstr_replay::trace::TraceError>(())
/// ```
pub struct Trace {
    path: PathBuf,
    source: Source,
    located: Arc<Located>,
    /// Which machine of the run this is of.
    segment: u16,
    /// Its records.
    entries: Vec<IndexEntry>,
    manifest: Result<Manifest, Fault>,
    /// Found since the trace was opened, by offset.
    faults: Mutex<BTreeMap<u64, Fault>>,
    pub(crate) chunks: Mutex<ChunkCache>,
    /// What those who decode the trace keep of it.
    kept: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// What is known of a checkpoint without decoding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Position among the trace's checkpoints, from 0.
    pub index: u32,
    /// The checkpoint that its table lies over; `None`: it has a full table.
    pub parent: Option<u32>,
    /// The sample that was taken with it.
    pub sample: Option<u32>,
    /// Guest time, in ns.
    pub guest_ns: GuestNs,
    /// Host time since the recording began, in ns.
    pub host_ns: HostNs,
}

/// How whole a trace is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completeness {
    /// It was finished, and its index is intact.
    pub finalized: bool,
    /// Whole records after the last commit mark; they are not used.
    pub uncommitted_records: u64,
    /// Bytes of the file after the last commit mark.
    pub uncommitted_bytes: u64,
    /// Records that the sequence numbers say were there.
    pub absent_records: u64,
    /// Records of kinds that this release does not know, by code.
    pub unknown_kinds: BTreeMap<u16, u64>,
    /// Records of known kinds with bodies newer than this release knows.
    pub newer_bodies: u64,
    /// Records of the run's other machines: [`Trace::segment`] gives them.
    pub other_segments: u64,
    /// Of those, the records of more machines than are read, which are 64.
    pub unread_segments: u64,
    /// What follows the trace in its file.
    pub after_end: Option<AfterEnd>,
}

/// Bytes that follow a trace in its file. They are no part of it, and not a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AfterEnd {
    /// Where it begins: offset in the file, in bytes.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// It begins as a trace does: [`Trace::next_in_file`] opens it.
    pub is_trace: bool,
    /// Bytes between the two traces that are of neither; 0 where it is none.
    pub skipped: u64,
}

impl Trace {
    /// Open the trace at `path`. `-` is standard input. What cannot be read at offsets (a pipe) is copied to a temporary file
    /// first, and so is a trace that is in a gzip file or in a zip archive.
    ///
    /// # Errors
    /// [`TraceError::Io`], [`TraceError::NotATrace`] or [`TraceError::TooNew`]. Damage is not an error.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let io_error = |source| TraceError::Io { path: path.to_owned(), source };
        Self::from_source(path.to_owned(), Source::open(path).map_err(io_error)?)
    }

    /// Open a trace that is in memory.
    ///
    /// # Errors
    /// As [`Trace::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, TraceError> {
        Self::from_source(PathBuf::from("(bytes in memory)"), Source::Bytes(bytes.into()))
    }

    fn from_source(path: PathBuf, source: Source) -> Result<Self, TraceError> {
        let too_new =
            |path: &Path, stamp: FormatStamp| match stamp.check_readable_by(FormatStamp::CURRENT.written) {
                Ok(()) => Ok(()),
                Err(source) => Err(TraceError::TooNew { path: path.to_owned(), source }),
            };
        let io_error = |source| TraceError::Io { path: path.clone(), source };
        // Before anything else: a file that is too new may have another layout.
        if let Some(stamp) = first_stamp(&source).map_err(io_error)? {
            too_new(&path, stamp)?;
        }
        let Some(located) = locate(&source).map_err(io_error)? else {
            let found = name_format(&source).map_err(io_error)?;
            return Err(TraceError::NotATrace { path, found });
        };
        too_new(&path, located.stamp)?;
        Ok(Self::of_segment(path, source, Arc::new(located), 0))
    }

    fn of_segment(path: PathBuf, source: Source, located: Arc<Located>, segment: u16) -> Self {
        let of_it = located.entries.iter().filter(|entry| entry.segment == segment);
        let entries: Vec<IndexEntry> = of_it.copied().collect();
        let manifest = read_manifest(&source, located.trace_id, segment, &entries);
        let chunks = Mutex::new(ChunkCache::new(&entries));
        let (faults, kept) = (Mutex::default(), OnceLock::new());
        let trace = Self { path, source, located, segment, entries, manifest, faults, chunks, kept };
        if let Err(fault) = &trace.manifest {
            trace.note(fault.clone());
        }
        trace
    }

    /// What `make` made of the trace when it was first asked: it is kept as long as the trace is open. There is room for one type; of
    /// another, `make` makes it each time.
    pub(crate) fn kept<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(kept) = self.kept.get() {
            return Arc::clone(kept).downcast().unwrap_or_else(|_| Arc::new(make()));
        }
        let made = Arc::new(make());
        // Two that ask at once may both make it; one is kept.
        let _ = self.kept.set(Arc::<T>::clone(&made));
        made
    }

    /// Which machine of the run this is of: 0, the first, unless [`Trace::segment`] gave it.
    pub fn segment_number(&self) -> u16 {
        self.segment
    }

    /// The numbers of the run's further machines that the file has records of, ascending.
    pub fn segments(&self) -> Vec<u16> {
        self.further().into_iter().take(MAX_SEGMENTS).collect()
    }

    /// The part of the file that is of the run's machine `number`: a trace of its own, with its own manifest, samples and
    /// checkpoints. `None` where there is no such part.
    pub fn segment(&self, number: u16) -> Option<Self> {
        let is_there = number == 0 || self.segments().contains(&number);
        is_there.then(|| {
            Self::of_segment(self.path.clone(), self.source.from(0), Arc::clone(&self.located), number)
        })
    }

    /// The parts of the file, that of the first machine before the others.
    pub(crate) fn machines(&self) -> impl Iterator<Item = Self> {
        std::iter::once(0).chain(self.segments()).filter_map(|number| self.segment(number))
    }

    /// The numbers of all further segments.
    fn further(&self) -> BTreeSet<u16> {
        self.located.entries.iter().map(|entry| entry.segment).filter(|segment| *segment != 0).collect()
    }

    /// Where it was opened from; for bytes in memory, a name that says so.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest.
    ///
    /// # Errors
    /// [`TraceError::Damaged`] when its record is.
    pub fn manifest(&self) -> Result<&Manifest, TraceError> {
        self.manifest.as_ref().map_err(|fault| TraceError::Damaged(fault.clone()))
    }

    /// The formats that the trace says of itself.
    pub fn stamp(&self) -> FormatStamp {
        self.located.stamp
    }

    /// The number that all records of this trace carry.
    pub fn trace_id(&self) -> u64 {
        self.located.trace_id
    }

    /// Length of the file when it was opened, in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.source.len()
    }

    /// Whether the trace was finished, and its index is intact.
    pub fn is_finalized(&self) -> bool {
        self.located.finalized
    }

    /// How whole the trace is, by what opening it saw.
    pub fn completeness(&self) -> Completeness {
        let mut next = 0;
        let mut absent_records = 0u64;
        let mut unknown_kinds = BTreeMap::new();
        let mut newer_bodies = 0;
        let (mut other_segments, mut unread_segments) = (0, 0);
        let read = self.segments();
        for entry in &self.located.entries {
            absent_records = absent_records.saturating_add(entry.sequence.saturating_sub(next));
            next = entry.sequence.saturating_add(1);
            let is_of_other = entry.segment != self.segment && !entry.is_of_file();
            other_segments += u64::from(is_of_other);
            match Kind::from_code(entry.kind) {
                _ if entry.segment != 0 && !read.contains(&entry.segment) => unread_segments += 1,
                _ if entry.segment != self.segment => {}
                None => *unknown_kinds.entry(entry.kind).or_default() += 1,
                Some(kind) => newer_bodies += u64::from(entry.version > kind.newest_version()),
            }
        }
        Completeness {
            finalized: self.located.finalized,
            uncommitted_records: self.located.uncommitted_records,
            uncommitted_bytes: self.located.uncommitted_bytes,
            absent_records,
            unknown_kinds,
            newer_bodies,
            other_segments,
            unread_segments,
            after_end: self.located.after_end,
        }
    }

    /// What follows the trace in its file.
    pub fn after_end(&self) -> Option<AfterEnd> {
        self.located.after_end
    }

    /// The trace that follows this one in its file, where two were joined; `None` if none does.
    ///
    /// # Errors
    /// As [`Trace::open`].
    pub fn next_in_file(&self) -> Option<Result<Self, TraceError>> {
        let after = self.located.after_end.filter(|after| after.is_trace)?;
        Some(Self::from_source(self.path.clone(), self.source.from(after.offset)))
    }

    /// What is known to be damaged so far: found when opening, and in records that were read since. Ascending by
    /// offset. [`Trace::verify`] looks at everything.
    pub fn faults(&self) -> Vec<Fault> {
        let mut all: BTreeMap<u64, Fault> =
            self.located.faults.iter().map(|fault| (fault.offset, fault.clone())).collect();
        all.extend(self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone());
        all.into_values().collect()
    }

    /// The headers of this segment's records that are used, ascending by offset. The commit marks are of the first.
    pub fn records(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// The headers of the records of all segments, ascending by offset.
    pub fn records_of_all(&self) -> &[IndexEntry] {
        &self.located.entries
    }

    /// All events, in the order in which they reached the recorder.
    pub fn events(&self) -> Vec<Event> {
        self.within::<EventChunk>(MAX_EVENT_BYTES)
            .filter_map(Result::ok)
            .flat_map(|chunk| chunk.events)
            .collect()
    }

    /// How many samples there are.
    pub fn sample_count(&self) -> usize {
        self.of_kind(Kind::Sample).count()
    }

    /// The `nth` sample of the trace, from 0.
    ///
    /// # Errors
    /// [`TraceError::Missing`] when there are not that many, [`TraceError::Damaged`] when its record is.
    pub fn sample(&self, nth: usize) -> Result<Sample, TraceError> {
        let entry = self.of_kind(Kind::Sample).nth(nth).ok_or_else(|| TraceError::Missing {
            what: format!("sample {nth}"),
            have: format!("{} samples", self.sample_count()),
        })?;
        self.decode(entry).map_err(TraceError::Damaged)
    }

    /// All samples, decoded one at a time; a damaged one is an error in its place. So are those beyond 512 MiB, for
    /// a trace of some kilobytes could hold terabytes of zeros.
    pub fn samples(&self) -> impl Iterator<Item = Result<Sample, TraceError>> {
        self.within(MAX_SAMPLE_BYTES).map(|sample| sample.map_err(TraceError::Damaged))
    }

    /// The claims that were recorded.
    pub fn claims(&self) -> Vec<ClaimRecord> {
        self.all()
    }

    /// The losses that were recorded.
    pub fn losses(&self) -> Vec<Loss> {
        self.all()
    }

    /// The pairs of times that were recorded.
    pub fn clocks(&self) -> Vec<Clock> {
        self.all()
    }

    /// The last verdict, as its JSON text; `None` if the run was not judged yet.
    ///
    /// # Errors
    /// [`TraceError::Damaged`] when its record is.
    pub fn verdict_json(&self) -> Result<Option<String>, TraceError> {
        let Some(entry) = self.of_kind(Kind::Verdict).last() else { return Ok(None) };
        let text: VerdictText = self.decode(entry).map_err(TraceError::Damaged)?;
        Ok(Some(text.0))
    }

    /// Ids of the blobs with a role, in the order in which they were stored.
    pub fn blobs(&self, role: BlobRole) -> Vec<BlobId> {
        self.of_kind(Kind::Blob).filter(|entry| entry.flags == role.code()).map(blob_id_of).collect()
    }

    /// The bytes of a blob.
    ///
    /// # Errors
    /// [`TraceError::Missing`] when there is none with this id, [`TraceError::Damaged`] when its record is.
    pub fn blob(&self, id: &BlobId) -> Result<Bytes, TraceError> {
        let entry = self.of_kind(Kind::Blob).find(|entry| blob_id_of(entry) == *id).ok_or_else(|| {
            TraceError::Missing {
                what: format!("blob {:032x}", u128::from_le_bytes(*id)),
                have: format!("{} blobs", self.of_kind(Kind::Blob).count()),
            }
        })?;
        match self.decode_blob(entry).map_err(TraceError::Damaged)? {
            (said, bytes) if said == *id => Ok(bytes),
            _ => Err(TraceError::Damaged(self.blame(entry, not_its_id()))),
        }
    }

    /// What is known of each checkpoint without decoding it, in the order in which they were taken.
    pub fn checkpoints(&self) -> Vec<CheckpointInfo> {
        self.of_kind(Kind::Checkpoint).filter_map(checkpoint_info).collect()
    }

    /// Used records of a kind.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl DoubleEndedIterator<Item = &IndexEntry> {
        self.entries.iter().filter(move |entry| entry.read_as() == Some(kind))
    }

    /// All intact records of a small kind.
    fn all<B: Body>(&self) -> Vec<B> {
        self.within(MAX_SMALL_BYTES).filter_map(Result::ok).collect()
    }

    /// The records of a kind, decoded one at a time, as long as their bodies have `max` bytes together. Each that is
    /// beyond is a fault.
    fn within<B: Body>(&self, max: u64) -> impl Iterator<Item = Result<B, Fault>> {
        let mut budget = max;
        self.of_kind(B::KIND).map(move |entry| {
            let Some(rest) = budget.checked_sub(entry.raw_len) else {
                budget = 0;
                let why = format!("it is beyond the {} MiB of {} records that are read", max >> 20, B::KIND);
                return Err(self.blame(entry, FaultKind::Content(why)));
            };
            budget = rest;
            self.decode(entry)
        })
    }

    /// Decode a record; a fault is noted as well as returned.
    pub(crate) fn decode<B: Body>(&self, entry: &IndexEntry) -> Result<B, Fault> {
        decode(&self.source, self.located.trace_id, entry).inspect_err(|fault| self.note(fault.clone()))
    }

    /// The id and the bytes of a blob, if the one is that of the other.
    pub(crate) fn decode_blob(&self, entry: &IndexEntry) -> Result<(BlobId, Bytes), Fault> {
        let raw = self.raw_body(entry)?;
        let found = Blob::in_place(entry.version, raw).map_err(|error| self.blame(entry, error.into()));
        let (id, bytes) = found?;
        if blob_id(&bytes) != id {
            return Err(self.blame(entry, not_its_id()));
        }
        Ok((id, bytes))
    }

    /// Decode a page chunk, and see that its pages have their ids.
    pub(crate) fn decode_chunk(&self, entry: &IndexEntry) -> Result<StoredPages, Fault> {
        let raw = self.raw_body(entry)?;
        let why = match PageChunk::in_place(entry.version, raw) {
            Ok(Some(pages)) if [u64::from(pages.first), pages.count()] == entry.keys => return Ok(pages),
            Ok(_) => FaultKind::Content("its pages do not have their ids".to_owned()),
            Err(error) => error.into(),
        };
        Err(self.blame(entry, why))
    }

    /// A record's body, decompressed and not decoded.
    pub(crate) fn raw_body(&self, entry: &IndexEntry) -> Result<Vec<u8>, Fault> {
        read_body(&self.source, entry, Some(self.located.trace_id))
            .inspect_err(|fault| self.note(fault.clone()))
    }

    /// A record's header, and the record as it is in the file, checksums verified.
    pub(crate) fn raw_record(&self, entry: &IndexEntry) -> Result<(Header, Vec<u8>), Fault> {
        read_record(&self.source, entry, Some(self.located.trace_id))
            .inspect_err(|fault| self.note(fault.clone()))
    }

    /// A fault of a record, which is noted.
    pub(crate) fn blame(&self, entry: &IndexEntry, why: FaultKind) -> Fault {
        let fault = fault(entry, why);
        self.note(fault.clone());
        fault
    }

    pub(crate) fn note(&self, fault: Fault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).insert(fault.offset, fault);
    }
}

/// A fault of a record.
pub(crate) fn fault(entry: &IndexEntry, why: FaultKind) -> Fault {
    Fault { offset: entry.offset, record: Some((entry.kind, entry.sequence)), why }
}

fn not_its_id() -> FaultKind {
    FaultKind::Content("its bytes do not have its id".to_owned())
}

/// The id in the keys of a blob record.
fn blob_id_of(entry: &IndexEntry) -> BlobId {
    (u128::from(entry.keys[1]) << 64 | u128::from(entry.keys[0])).to_le_bytes()
}

pub(crate) fn checkpoint_info(entry: &IndexEntry) -> Option<CheckpointInfo> {
    let (parent, sample) = parse_checkpoint_links(entry.keys[1]);
    Some(CheckpointInfo {
        index: u32::try_from(entry.keys[0]).ok()?,
        parent,
        sample,
        guest_ns: entry.guest_ns,
        host_ns: entry.host_ns,
    })
}

fn decode<B: Body>(source: &Source, trace_id: u64, entry: &IndexEntry) -> Result<B, Fault> {
    let raw = read_body(source, entry, Some(trace_id))?;
    B::decode(entry.version, &raw).map_err(|e| fault(entry, e.into()))
}

fn read_manifest(
    source: &Source,
    trace_id: u64,
    segment: u16,
    entries: &[IndexEntry],
) -> Result<Manifest, Fault> {
    match entries.iter().find(|entry| entry.read_as() == Some(Kind::Manifest)) {
        Some(entry) => decode(source, trace_id, entry),
        None => {
            let what = if segment == 0 { "the trace".to_owned() } else { format!("segment {segment}") };
            let why = FaultKind::Content(format!("{what} has no intact manifest record"));
            let offset = entries.first().filter(|_| segment != 0).map_or(0, |entry| entry.offset);
            Err(Fault { offset, record: None, why })
        }
    }
}
