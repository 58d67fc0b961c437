//! Writing a trace: append-only, readable at every moment.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::body::{Body, BodyError, Encoder};
use super::checkpoint::StoredPages;
use super::error::WriteError;
use super::file::Sink;
use super::format::FormatStamp;
use super::header::{HEADER_LEN, Header, TAIL_LEN, Tail};
use super::kind::{Kind, MAX_RECORDS};
use super::record::manifest::encode_json;
use super::record::{
    Blob, BlobId, BlobRole, ClaimRecord, Clock, Commit, Event, EventChunk, Index, IndexEntry, Loss, Manifest,
    Sample, VerdictText, blob_id,
};
use crate::units::{GuestNs, HostNs};

/// Events of one record at most, so that a reader needs to decode little to find one.
const EVENTS_PER_RECORD: usize = 4096;

/// How a trace is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// zstd level: 1 or 3 while recording, more when there is time.
    pub level: i32,
    /// What a commit survives.
    pub durability: Durability,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { level: 1, durability: Durability::Process }
    }
}

/// What a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The death of the recorder: the bytes are with the kernel.
    Process,
    /// The death of the host: the bytes are on the disk (`fdatasync` at each commit).
    Host,
}

/// Writes one trace.
///
/// Every record is handed to the kernel whole, by one write; nothing is buffered here. A write that fails is
/// undone, so that the file goes on after its last whole record. Dropped without [`TraceWriter::finish`], the
/// writer leaves an unfinished trace, which opens.
///
/// ```
/// use ktstr_replay::trace::record::{Event, EventBody, Manifest};
/// use ktstr_replay::trace::{Trace, TraceWriter};
/// use ktstr_replay::units::{GuestNs, HostNs};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("example.trace.zst");
/// let mut writer = TraceWriter::create(&path, &Manifest::default())?;
/// let body = EventBody::PhaseBegin { index: 0, name: "steady".to_owned() };
/// writer.events(&[Event { guest_ns: GuestNs(1000), host_ns: HostNs(2000), body }])?;
/// writer.commit()?; // from here on the event is not lost, whatever happens
/// writer.finish()?;
///
/// let trace = Trace::open(&path)?;
/// assert_eq!(trace.events()[0].guest_ns, GuestNs(1000));
/// assert!(trace.verify().is_clean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TraceWriter {
    sink: Box<dyn Sink>,
    encoder: Encoder,
    durability: Durability,
    trace_id: u64,
    /// Length of the file so far.
    position: u64,
    index: Vec<IndexEntry>,
    sequence: u64,
    /// Which machine of the run the records are of.
    segment: u16,
    latest_guest_ns: GuestNs,
    latest_host_ns: HostNs,
    /// Records in `index` when the last commit mark was written, the mark included.
    committed: usize,
    finished: bool,
    blobs: HashSet<BlobId>,
    pub(super) pages: StoredPages,
    /// Header and zstd frame of the record that is being written.
    record: Vec<u8>,
}

/// How far a writer had come.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    position: u64,
    records: usize,
    sequence: u64,
}

/// What a header says of a body.
#[derive(Clone, Copy, Default)]
pub(crate) struct Labels {
    pub(crate) flags: u16,
    pub(crate) keys: [u64; 2],
    /// Guest and host time; `None`: the latest that was seen.
    pub(crate) time: Option<(GuestNs, HostNs)>,
}

impl TraceWriter {
    /// Make the file `path`, which must not exist, and write the manifest to it.
    ///
    /// # Errors
    /// [`WriteError::Create`] when it exists or cannot be made; else as for all records.
    pub fn create(path: &Path, manifest: &Manifest) -> Result<Self, WriteError> {
        Self::create_with(path, manifest, WriterOptions::default())
    }

    /// As [`TraceWriter::create`], with options.
    ///
    /// # Errors
    /// As [`TraceWriter::create`].
    pub fn create_with(path: &Path, manifest: &Manifest, options: WriterOptions) -> Result<Self, WriteError> {
        let trace_id = RandomState::new().hash_one((path, &manifest.started_at, std::process::id()));
        let mut writer = Self::without_manifest(path, trace_id, options)?;
        writer.body(manifest, Labels::default())?;
        writer.commit()?;
        Ok(writer)
    }

    /// An empty trace, for `repair`, which brings the manifest along.
    pub(crate) fn without_manifest(
        path: &Path,
        trace_id: u64,
        options: WriterOptions,
    ) -> Result<Self, WriteError> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|source| WriteError::Create { path: path.to_owned(), source })?;
        Self::to_sink(Box::new(file), trace_id, options)
    }

    pub(crate) fn to_sink(
        sink: Box<dyn Sink>,
        trace_id: u64,
        options: WriterOptions,
    ) -> Result<Self, WriteError> {
        let encoder = Encoder::new(options.level).map_err(|source| WriteError::Io { offset: 0, source })?;
        Ok(Self {
            sink,
            encoder,
            durability: options.durability,
            trace_id,
            position: 0,
            index: Vec::new(),
            sequence: 0,
            segment: 0,
            latest_guest_ns: GuestNs(0),
            latest_host_ns: HostNs(0),
            committed: 0,
            finished: false,
            blobs: HashSet::new(),
            pages: StoredPages::default(),
            record: Vec::new(),
        })
    }

    /// Store bytes that other records refer to; the same bytes are stored once.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn blob(&mut self, role: BlobRole, bytes: &[u8]) -> Result<BlobId, WriteError> {
        let id = blob_id(bytes);
        if !self.blobs.contains(&id) {
            let keys = u128::from_le_bytes(id);
            let keys = [keys as u64, (keys >> 64) as u64];
            self.body(
                &Blob { id, role, bytes: bytes.to_vec() },
                Labels { flags: role.code(), keys, time: None },
            )?;
            self.blobs.insert(id);
        }
        Ok(id)
    }

    /// Append events, in order; many at a time compress better than few.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn events(&mut self, events: &[Event]) -> Result<(), WriteError> {
        for events in events.chunks(EVENTS_PER_RECORD) {
            self.event_record(events)?;
        }
        Ok(())
    }

    /// Append events as one record, or as several where one has no room for them: some events are large.
    fn event_record(&mut self, events: &[Event]) -> Result<(), WriteError> {
        let labels = Labels {
            flags: 0,
            keys: [events.len() as u64, 0],
            time: events.last().map(|event| (event.guest_ns, event.host_ns)),
        };
        match self.body(&EventChunk { events: events.to_vec() }, labels) {
            Err(WriteError::Body { source: BodyError::TooLarge { .. }, .. }) if events.len() > 1 => {
                let (first, second) = events.split_at(events.len() / 2);
                self.event_record(first)?;
                self.event_record(second)
            }
            done => done,
        }
    }

    /// Append a capture.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn sample(&mut self, sample: &Sample) -> Result<(), WriteError> {
        let labels = Labels {
            flags: 0,
            keys: [u64::from(sample.index), 0],
            time: Some((sample.guest_ns, sample.host_ns)),
        };
        self.body(sample, labels)
    }

    /// Append a claim.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn claim(&mut self, claim: &ClaimRecord) -> Result<(), WriteError> {
        self.body(claim, Labels::default())
    }

    /// Append a loss.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn loss(&mut self, loss: &Loss) -> Result<(), WriteError> {
        self.body(loss, Labels { time: Some((self.latest_guest_ns, loss.host_ns)), ..Labels::default() })
    }

    /// Append a pair of times.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn clock(&mut self, clock: &Clock) -> Result<(), WriteError> {
        self.body(clock, Labels { time: Some((clock.guest_ns, clock.host_ns)), ..Labels::default() })
    }

    /// Append what the run was judged to be. The last verdict of a trace is the one that counts.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn verdict(&mut self, verdict: &impl Serialize) -> Result<(), WriteError> {
        let raw = encode_json(verdict).map_err(body_error(Kind::Verdict))?;
        self.append(&raw, Kind::Verdict, VerdictText::VERSION, Labels::default())
    }

    /// Write a commit mark: from now on a reader has all that was appended before, whatever happens to the
    /// recorder. Does nothing when there is nothing new.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn commit(&mut self) -> Result<(), WriteError> {
        if self.index.len() == self.committed {
            return Ok(());
        }
        let commit = Commit { records: self.index.len() as u64, bytes: self.position };
        self.body(&commit, Labels { keys: [commit.records, commit.bytes], ..Labels::default() })?;
        self.committed = self.index.len();
        self.sync_if_asked()
    }

    /// Commit, and write the index and the tail: the trace is finished.
    ///
    /// # Errors
    /// [`WriteError`]; the trace then is unfinished, and opens.
    pub fn finish(mut self) -> Result<(), WriteError> {
        self.commit()?;
        self.finished = true;
        let index_offset = self.position;
        let index = Index { entries: std::mem::take(&mut self.index) };
        let records = index.entries.len() as u64;
        self.body(&index, Labels { keys: [records, 0], ..Labels::default() })?;
        let tail = Tail {
            trace_id: self.trace_id,
            index_offset,
            file_len: self.position + TAIL_LEN as u64,
            records,
        };
        self.record.clear();
        self.record.extend_from_slice(&tail.encode());
        self.flush_record()?;
        self.sync_if_asked()
    }

    /// Bytes of the file so far.
    pub fn len_bytes(&self) -> u64 {
        self.position
    }

    /// Append a typed body.
    pub(crate) fn body<B: Body>(&mut self, body: &B, labels: Labels) -> Result<(), WriteError> {
        let raw = body.encode().map_err(body_error(B::KIND))?;
        self.append(&raw, B::KIND, B::VERSION, labels)
    }

    /// Append a body that is encoded already.
    pub(crate) fn append(
        &mut self,
        raw: &[u8],
        kind: Kind,
        version: u16,
        labels: Labels,
    ) -> Result<(), WriteError> {
        self.record.clear();
        self.record.resize(HEADER_LEN, 0);
        self.encoder.encode(kind, raw, &mut self.record).map_err(body_error(kind))?;
        let stored = &self.record[HEADER_LEN..];
        let (guest_ns, host_ns) = labels.time.unwrap_or((self.latest_guest_ns, self.latest_host_ns));
        let header = Header {
            stamp: FormatStamp::CURRENT,
            trace_id: self.trace_id,
            kind: kind.code(),
            version,
            flags: labels.flags,
            segment: if kind.is_of_file() { 0 } else { self.segment },
            sequence: self.sequence,
            stored_len: stored.len() as u64,
            raw_len: raw.len() as u64,
            guest_ns,
            host_ns,
            keys: labels.keys,
            body_xxh3: xxh3_64(stored),
        };
        self.record[..HEADER_LEN].copy_from_slice(&header.encode());
        self.write_record(&header)
    }

    /// What is appended from now on is of the run's machine `segment`, which has blobs and pages of its own.
    pub(crate) fn begin_segment(&mut self, segment: u16) {
        self.segment = segment;
        self.blobs.clear();
        self.pages = StoredPages::default();
        (self.latest_guest_ns, self.latest_host_ns) = (GuestNs(0), HostNs(0));
    }

    /// Append a record of another trace as it is, but for its sequence number, the id of the trace and the segment.
    pub(crate) fn carry_over(&mut self, header: Header, stored: &[u8]) -> Result<(), WriteError> {
        let (trace_id, segment, sequence) = (self.trace_id, self.segment, self.sequence);
        let header = Header { trace_id, segment, sequence, ..header };
        self.record.clear();
        self.record.extend_from_slice(&header.encode());
        self.record.extend_from_slice(stored);
        self.write_record(&header)
    }

    /// Write the record in `self.record`, and remember it.
    fn write_record(&mut self, header: &Header) -> Result<(), WriteError> {
        if self.index.len() >= MAX_RECORDS {
            return Err(WriteError::Full(MAX_RECORDS));
        }
        let entry = index_entry(self.position, header);
        self.flush_record()?;
        self.index.push(entry);
        self.sequence += 1;
        self.latest_guest_ns = self.latest_guest_ns.max(header.guest_ns);
        self.latest_host_ns = self.latest_host_ns.max(header.host_ns);
        Ok(())
    }

    /// Write `self.record` whole, or not at all.
    fn flush_record(&mut self) -> Result<(), WriteError> {
        let offset = self.position;
        if let Err(source) = self.sink.append(&self.record) {
            // Half a record in the middle of the file would cost a reader a resync; at its end it costs nothing,
            // so a failure to cut it off is no worse than the one that is reported.
            let _ = self.sink.cut(offset);
            return Err(WriteError::Io { offset, source });
        }
        self.position += self.record.len() as u64;
        Ok(())
    }

    /// How far the writer has come.
    pub(crate) fn mark(&self) -> Mark {
        Mark { position: self.position, records: self.index.len(), sequence: self.sequence }
    }

    /// Take back the records since `mark`, which no commit mark covers; says whether they are gone.
    pub(crate) fn back_to(&mut self, mark: Mark) -> bool {
        if self.committed > mark.records || self.sink.cut(mark.position).is_err() {
            return false;
        }
        self.position = mark.position;
        self.index.truncate(mark.records);
        self.sequence = mark.sequence;
        true
    }

    fn sync_if_asked(&mut self) -> Result<(), WriteError> {
        match self.durability {
            Durability::Process => Ok(()),
            Durability::Host => {
                self.sink.sync().map_err(|source| WriteError::Io { offset: self.position, source })
            }
        }
    }
}

impl Drop for TraceWriter {
    fn drop(&mut self) {
        if !self.finished {
            // A trace that cannot be committed now is one that opens without its last records.
            let _ = self.commit();
        }
    }
}

/// The index entry of the record with `header` at `offset`.
pub(crate) fn index_entry(offset: u64, header: &Header) -> IndexEntry {
    IndexEntry {
        offset,
        kind: header.kind,
        version: header.version,
        flags: header.flags,
        segment: header.segment,
        sequence: header.sequence,
        stored_len: header.stored_len,
        raw_len: header.raw_len,
        guest_ns: header.guest_ns,
        host_ns: header.host_ns,
        keys: header.keys,
    }
}

fn body_error(kind: Kind) -> impl FnOnce(super::body::BodyError) -> WriteError {
    move |source| WriteError::Body { kind, source }
}

#[cfg(test)]
mod tests;
