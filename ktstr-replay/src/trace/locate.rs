//! Finding the records of a trace: by its index, or by a scan of the headers. Nothing but the index is decoded.

use std::io;

use xxhash_rust::xxh3::xxh3_64;

use super::body::{Body, BodyError, decompress, max_stored_bytes};
use super::error::{Fault, FaultKind};
use super::file::Source;
use super::format::FormatStamp;
use super::header::{HEADER_LEN, Header, TAIL_LEN, Tail, header_magic, parse_stamp};
use super::kind::{Kind, MAX_RAW_BYTES, MAX_RECORDS};
use super::reader::AfterEnd;
use super::record::{Index, IndexEntry};
use super::writer::index_entry;

/// Bytes that a scan looks at together.
const WINDOW: usize = 1 << 16;

/// The records of a trace, and what there is to say of how they were found.
pub(crate) struct Located {
    pub(crate) trace_id: u64,
    pub(crate) stamp: FormatStamp,
    pub(crate) entries: Vec<IndexEntry>,
    /// There is a valid tail and index.
    pub(crate) finalized: bool,
    /// Whole records after the last commit mark, which are not in `entries`.
    pub(crate) uncommitted_records: u64,
    /// Bytes of the file after the last commit mark.
    pub(crate) uncommitted_bytes: u64,
    pub(crate) faults: Vec<Fault>,
    /// What follows the trace in its file.
    pub(crate) after_end: Option<AfterEnd>,
}

/// The stamp of the first record, if the file begins with one (of any version of the format).
pub(crate) fn first_stamp(source: &Source) -> io::Result<Option<FormatStamp>> {
    let len = source.len().min(HEADER_LEN as u64) as usize;
    let mut bytes = [0; HEADER_LEN];
    source.read(0, &mut bytes[..len])?;
    Ok(parse_stamp(&bytes[..len]))
}

/// Find the records; `None` if there is not one.
pub(crate) fn locate(source: &Source) -> io::Result<Option<Located>> {
    match by_index(source, source.len()) {
        Ok(located) => Ok(Some(located)),
        Err(why) => by_scan(source, why),
    }
}

/// Why there is no index to go by: `None` where there is no tail at all, as in an unfinished trace.
type NoIndex = Option<String>;

/// By the tail that ends at `end`.
fn by_index(source: &Source, end: u64) -> Result<Located, NoIndex> {
    let because = |why: &str| Some(why.to_owned());
    let tail_offset = end.checked_sub(TAIL_LEN as u64).ok_or(None)?;
    let bytes = source.array::<TAIL_LEN>(tail_offset).map_err(|e| Some(e.to_string()))?;
    let tail = Tail::parse(&bytes).ok_or(None)?;
    if tail.file_len != end {
        return Err(because("the tail belongs to a file of another length"));
    }
    let header =
        source.array::<HEADER_LEN>(tail.index_offset).map_err(|_| because("no index at its offset"))?;
    let header = Header::parse(&header).ok_or_else(|| because("the header of the index is damaged"))?;
    let entry = index_entry(tail.index_offset, &header);
    if entry.read_as() != Some(Kind::Index)
        || !entry.is_of_file()
        || header.trace_id != tail.trace_id
        || header.end(tail.index_offset) != Some(tail_offset)
    {
        return Err(because("the tail does not point at an index"));
    }
    let raw = read_body(source, &entry, Some(tail.trace_id)).map_err(|fault| Some(fault.why.to_string()))?;
    let index = Index::decode(header.version, &raw).map_err(|e| Some(e.to_string()))?;
    if !is_sound(&index.entries, tail.index_offset) || index.entries.len() as u64 != tail.records {
        return Err(because("its entries contradict each other"));
    }
    Ok(Located {
        trace_id: tail.trace_id,
        stamp: header.stamp,
        entries: index.entries,
        finalized: true,
        uncommitted_records: 0,
        uncommitted_bytes: 0,
        faults: Vec::new(),
        after_end: None,
    })
}

/// Whether a record is the first of a trace; behind a record it begins another one, which may be the same once more.
fn begins_a_trace(header: &Header) -> bool {
    header.sequence == 0 && header.kind == Kind::Manifest.code()
}

/// What is from `end` on, which is the end of a trace: another trace, also behind a newline or the like, or none.
fn after_end(source: &Source, end: u64) -> io::Result<Option<AfterEnd>> {
    if source.len() <= end {
        return Ok(None);
    }
    let next = find_header(source, end, begins_a_trace)?;
    let offset = next.unwrap_or(end);
    let bytes = source.len().saturating_sub(offset);
    Ok(Some(AfterEnd { offset, bytes, is_trace: next.is_some(), skipped: offset.saturating_sub(end) }))
}

/// Whether the entries are ascending, disjoint and before `end`.
fn is_sound(entries: &[IndexEntry], end: u64) -> bool {
    let mut at = 0;
    let mut next_sequence = 0;
    entries.len() <= MAX_RECORDS
        && entries.iter().all(|entry| {
            let entry_end =
                entry.offset.checked_add(HEADER_LEN as u64).and_then(|e| e.checked_add(entry.stored_len));
            let fits =
                entry.offset >= at && entry_end.is_some_and(|e| e <= end) && entry.sequence >= next_sequence;
            at = entry_end.unwrap_or(u64::MAX);
            next_sequence = entry.sequence.saturating_add(1);
            fits
        })
}

fn by_scan(source: &Source, why: NoIndex) -> io::Result<Option<Located>> {
    let len = source.len();
    let mut entries: Vec<IndexEntry> = Vec::new();
    let mut faults: Vec<Fault> = Vec::new();
    if let Some(why) = why {
        faults.push(Fault { offset: len - TAIL_LEN as u64, record: None, why: FaultKind::Index(why) });
    }
    let mut known: Option<(u64, FormatStamp)> = None;
    // Records and bytes up to the last commit mark.
    let mut committed = (0, 0);
    let mut at = 0;
    let mut after = None;
    while at < len {
        let next_sequence = entries.last().map_or(0, |last| last.sequence.saturating_add(1));
        let is_next = |header: &Header| {
            header.sequence >= next_sequence && known.is_none_or(|(trace_id, _)| header.trace_id == trace_id)
        };
        let Some(header) = header_at(source, at)?.filter(is_next) else {
            let next = match tail_at(source, at)? {
                true => {
                    let end = at + TAIL_LEN as u64;
                    // The trace is whole, and something was put behind it.
                    if let (true, Ok(located)) = (end < len, by_index(source, end)) {
                        let after_end = after_end(source, end)?;
                        return Ok(Some(Located { after_end, ..located }));
                    }
                    end
                }
                false => {
                    let found = find_header(source, at + 1, is_next)?;
                    if found.is_none() && known.is_some() {
                        // Nothing more of this trace. Another one may begin inside of what was cut off.
                        let from = entries.last().map_or(at, |last| last.offset + HEADER_LEN as u64);
                        if let Some(begin) = find_header(source, from, begins_a_trace)? {
                            after = after_end(source, begin)?;
                            // What begins inside of the last record has cut that off, which reading it tells.
                            if begin > at {
                                let why = FaultKind::Header { skipped: begin - at };
                                faults.push(Fault { offset: at, record: None, why });
                            }
                            break;
                        }
                    }
                    let next = found.unwrap_or(len);
                    faults.push(Fault {
                        offset: at,
                        record: None,
                        why: FaultKind::Header { skipped: next - at },
                    });
                    next
                }
            };
            at = next;
            continue;
        };
        known.get_or_insert((header.trace_id, header.stamp));
        let end = header.end(at).unwrap_or(u64::MAX);
        let record = Some((header.kind, header.sequence));
        if end > len {
            // Behind a trace that was cut there may be another one.
            if let Some(begin) = find_header(source, at + HEADER_LEN as u64, begins_a_trace)? {
                after = after_end(source, begin)?;
            }
            let cut_at = after.map_or(len, |after| after.offset);
            faults.push(Fault { offset: at, record, why: FaultKind::Truncated { missing: end - cut_at } });
            break;
        }
        if entries.len() == MAX_RECORDS {
            faults.push(Fault { offset: at, record, why: FaultKind::TooMany(MAX_RECORDS) });
            break;
        }
        // An index is written when everything before it is committed, and only a finished trace uses it.
        let entry = index_entry(at, &header);
        if !entry.is_of_file() || entry.read_as() != Some(Kind::Index) {
            entries.push(entry);
        }
        at = end;
        if entry.is_of_file() {
            committed = (entries.len(), at);
        }
    }
    if after.is_some() {
        // The tail at the end of the file is that of another trace.
        faults.retain(|fault| !matches!(fault.why, FaultKind::Index(_)));
    }
    let Some((trace_id, stamp)) = known else { return Ok(None) };
    let (records, bytes) = committed;
    let uncommitted_records = (entries.len() - records) as u64;
    entries.truncate(records);
    Ok(Some(Located {
        trace_id,
        stamp,
        entries,
        finalized: false,
        uncommitted_records,
        uncommitted_bytes: after.map_or(len, |after| after.offset).saturating_sub(bytes),
        faults,
        after_end: after,
    }))
}

fn header_at(source: &Source, at: u64) -> io::Result<Option<Header>> {
    if source.len() - at < HEADER_LEN as u64 {
        return Ok(None);
    }
    Ok(Header::parse(&source.array(at)?))
}

fn tail_at(source: &Source, at: u64) -> io::Result<bool> {
    if source.len() - at < TAIL_LEN as u64 {
        return Ok(false);
    }
    Ok(Tail::parse(&source.array(at)?).is_some())
}

/// Offset of the first header from `at` on that `is_next` accepts.
fn find_header(source: &Source, mut at: u64, is_next: impl Fn(&Header) -> bool) -> io::Result<Option<u64>> {
    let magic = header_magic();
    let mut window = vec![0; WINDOW];
    while source.len().saturating_sub(at) >= HEADER_LEN as u64 {
        let len = (source.len() - at).min(WINDOW as u64) as usize;
        let window = &mut window[..len];
        source.read(at, window)?;
        // The first byte is searched for by itself: that is what makes a scan fast.
        let mut from = 0;
        while let Some(found) = window[from..].iter().position(|byte| *byte == magic[0]).map(|p| from + p) {
            from = found + 1;
            if let Some(bytes) = window[found..].first_chunk::<HEADER_LEN>()
                && bytes.starts_with(&magic)
                && Header::parse(bytes).is_some_and(|header| is_next(&header))
            {
                return Ok(Some(at + found as u64));
            }
        }
        // A header that begins in the last bytes of the window is found in the next one.
        at += (len - HEADER_LEN + 1) as u64;
    }
    Ok(None)
}

/// The decoded bytes of a record, every length checked before it is used. `trace_id` is that of the trace.
pub(crate) fn read_body(
    source: &Source,
    entry: &IndexEntry,
    trace_id: Option<u64>,
) -> Result<Vec<u8>, Fault> {
    let fault = |why| Fault { offset: entry.offset, record: Some((entry.kind, entry.sequence)), why };
    let (_, record) = read_record(source, entry, trace_id)?;
    let max = Kind::from_code(entry.kind).map_or(0, Kind::max_raw_bytes);
    decompress(&record[HEADER_LEN..], entry.raw_len, max).map_err(|e: BodyError| fault(e.into()))
}

/// A record's header, and the record as it is in the file, checksums verified.
pub(crate) fn read_record(
    source: &Source,
    entry: &IndexEntry,
    trace_id: Option<u64>,
) -> Result<(Header, Vec<u8>), Fault> {
    let fault = |why| Fault { offset: entry.offset, record: Some((entry.kind, entry.sequence)), why };
    let io_fault = |e: io::Error| fault(FaultKind::Io(e.to_string()));
    // Kinds that are not known are as large as the largest that is.
    let max = Kind::from_code(entry.kind).map_or(MAX_RAW_BYTES, Kind::max_raw_bytes);
    if entry.stored_len > max_stored_bytes(max) {
        let why = format!("{} bytes are stored, and a body of its kind needs less", entry.stored_len);
        return Err(fault(BodyError::Zstd(why).into()));
    }
    let len = HEADER_LEN as u64 + entry.stored_len;
    let end = entry.offset.saturating_add(len);
    if end > source.len() {
        return Err(fault(FaultKind::Truncated { missing: end - source.len() }));
    }
    let mut record = vec![0; len as usize];
    source.read(entry.offset, &mut record).map_err(io_fault)?;
    let (header, body) =
        record.split_first_chunk::<HEADER_LEN>().ok_or_else(|| fault(FaultKind::NotAsIndexed))?;
    let header = Header::parse(header).ok_or_else(|| fault(FaultKind::Header { skipped: len }))?;
    if index_entry(entry.offset, &header) != *entry || trace_id.is_some_and(|id| id != header.trace_id) {
        return Err(fault(FaultKind::NotAsIndexed));
    }
    if xxh3_64(body) != header.body_xxh3 {
        return Err(fault(FaultKind::Checksum));
    }
    Ok((header, record))
}
