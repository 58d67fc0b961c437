//! Going through the old trace, record by record. Its checkpoints become captures for the new one's writer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::options::{Dropped, KeepCheckpoints, KeepPages, SlimError, SlimOptions};
use super::read_pages::{leave_out_unread, read_pages};
use super::redact::{Redactor, log_without_text, redacted_verdict};
use crate::judge::CheckSource;
use crate::kernel::{KernelError, KernelProfile, KernelView, PageClassifier, image_pages, symbol_pages};
use crate::memory::{LeftOut, Memory, MemoryError};
use crate::run::Run;
use crate::trace::header::HEADER_LEN;
use crate::trace::record::{
    Event, EventBody, EventChunk, IndexEntry, Loss, LossKind, Manifest, PAGE_BYTES, PageRun, PageState,
    Sample,
};
use crate::trace::table::PageTable;
use crate::trace::writer::{Labels, TraceWriter, WriterOptions};
use crate::trace::{
    CaptureBase, CapturedCheckpoint, CheckpointMemory, Fault, Kind, PageBatch, Trace, part_name,
};
use crate::units::{GuestPhys, HostNs};

/// What became of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slimmed {
    /// Length of the old file, in bytes.
    pub from_bytes: u64,
    /// Length of the new file, in bytes.
    pub to_bytes: u64,
    /// Checkpoints that were kept.
    pub checkpoints: usize,
    /// What was dropped on purpose: how many events or checkpoints.
    pub dropped: BTreeMap<Dropped, u64>,
    /// What was damaged and could not be carried over, ascending by offset in the old trace.
    pub faults: Vec<Fault>,
}

/// Write the trace `from` as `options` say to `to`, which must not exist.
///
/// The new file appears whole, after it was read back, or not at all.
///
/// ```
/// # use std::path::Path;
/// use ktstr_replay::slim::{SlimOptions, slim};
///
/// # let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces");
/// let to = tempfile::tempdir()?;
/// let options = SlimOptions { level: 3, redact: true, ..SlimOptions::default() };
/// let slimmed = slim(&folder.join("steady.trace.zst"), &to.path().join("small.trace.zst"), &options)?;
/// println!("{} bytes became {}", slimmed.from_bytes, slimmed.to_bytes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`SlimError`]; `to` then does not exist.
pub fn slim(from: &Path, to: &Path, options: &SlimOptions) -> Result<Slimmed, SlimError> {
    slim_trace(&Trace::open(from)?, to, options)
}

/// As [`slim`], of a trace that is open.
///
/// # Errors
/// [`SlimError`]; `to` then does not exist.
pub fn slim_trace(trace: &Trace, to: &Path, options: &SlimOptions) -> Result<Slimmed, SlimError> {
    if to.symlink_metadata().is_ok() {
        return Err(SlimError::Exists(to.to_owned()));
    }
    let part = part_name(to);
    let result = write(trace, &part, options).and_then(|slimmed| {
        let again = Trace::open(&part)?.verify();
        match again.faults.first() {
            Some(fault) => Err(SlimError::Damaged(fault.to_string())),
            None => place(&part, to).map(|()| slimmed),
        }
    });
    // Placed, it has two names; else nobody asked for it.
    let _ = fs::remove_file(&part);
    result
}

/// Give the file its name, unless there is a file of that name by now.
pub(super) fn place(part: &Path, to: &Path) -> Result<(), SlimError> {
    crate::trace::place(part, to).map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => SlimError::Exists(to.to_owned()),
        _ => SlimError::Place { path: to.to_owned(), source },
    })
}

fn write(trace: &Trace, to: &Path, options: &SlimOptions) -> Result<Slimmed, SlimError> {
    let writer_options = WriterOptions { level: options.level, ..WriterOptions::default() };
    let mut writer = TraceWriter::without_manifest(to, trace.trace_id(), writer_options)?;
    let from_bytes = trace.len_bytes();
    let mut slimmed =
        Slimmed { from_bytes, to_bytes: 0, checkpoints: 0, dropped: BTreeMap::new(), faults: Vec::new() };
    let mut unread = 0;
    let mut segments = 0;
    for machine in trace.machines() {
        if machine.segment_number() != 0 && options.drop.contains(&Dropped::Segments) {
            segments += 1;
            continue;
        }
        writer.begin_segment(machine.segment_number());
        // Of a machine that nobody can tell what it was there is nothing to look at.
        if machine.segment_number() != 0 && machine.manifest().is_err() {
            slimmed.faults.extend(machine.faults());
            unread += machine.records().len() as u64;
            continue;
        }
        write_segment(&machine, to, options, &mut writer, &mut slimmed)?;
    }
    let host_ns = trace.records().iter().map(|entry| entry.host_ns).fold(HostNs(0), HostNs::max);
    if unread > 0 {
        writer.begin_segment(0);
        let detail = "slim: records of a machine without a manifest".to_owned();
        writer.loss(&Loss { host_ns, kind: LossKind::Records, count: unread, detail })?;
    }
    if segments > 0 {
        writer.begin_segment(0);
        let sort = Dropped::Segments;
        let detail = format!("{sort} dropped {}, by `ktstr trace slim`", Loss::ON_PURPOSE);
        writer.loss(&Loss { host_ns, kind: LossKind::Records, count: segments, detail })?;
        slimmed.dropped.insert(sort, segments);
    }
    slimmed.faults = Fault::in_order(slimmed.faults);
    writer.finish()?;
    slimmed.to_bytes = Trace::open(to)?.len_bytes();
    Ok(slimmed)
}

/// Write what `options` leave of one machine's part of a trace, and add to `slimmed` what became of it.
fn write_segment(
    trace: &Trace,
    to: &Path,
    options: &SlimOptions,
    writer: &mut TraceWriter,
    slimmed: &mut Slimmed,
) -> Result<(), SlimError> {
    let redactor = options.redact.then(|| Redactor::of(trace));
    let mut checkpoints = Checkpoints::new(trace, options, redactor.as_ref())?;
    let mut dropped: BTreeMap<Dropped, u64> = BTreeMap::new();
    let mut host_ns = HostNs(0);
    // Records that only later releases can read, and this one cannot redact: of unknown kinds, and newer versions of known ones.
    let (mut unread, mut newer) = (0, 0);
    for entry in trace.records() {
        host_ns = host_ns.max(entry.host_ns);
        let kind = entry.read_as();
        if redactor.is_some() && kind.is_none_or(|kind| entry.version > kind.newest_version()) {
            match kind {
                None => unread += 1,
                Some(_) => newer += 1,
            }
            continue;
        }
        match kind {
            Some(Kind::Commit | Kind::Index | Kind::PageChunk) => {}
            Some(Kind::Events) if redactor.is_some() || !options.drop.is_empty() => {
                let Ok(mut chunk) = trace.decode::<EventChunk>(entry) else { continue };
                let kept = |mut event: Event| {
                    let Some(sort) = options.drops(&event.body) else { return Some(event) };
                    if let EventBody::Kmsg { text, .. } = &mut event.body
                        && let Some(short) = log_without_text(text)
                    {
                        *text = short;
                        return Some(event);
                    }
                    *dropped.entry(sort).or_default() += 1;
                    None
                };
                chunk.events = chunk.events.into_iter().filter_map(kept).collect();
                if let Some(redactor) = &redactor {
                    let redacted = |event: Event| Some(Event { body: redactor.event(event.body)?, ..event });
                    chunk.events = chunk.events.into_iter().filter_map(redacted).collect();
                }
                writer.events(&chunk.events)?;
            }
            Some(Kind::Checkpoint) => {
                let Ok(index) = u32::try_from(entry.keys[0]) else { continue };
                match checkpoints.next(index, options) {
                    Ok(Some(captured)) => {
                        writer.checkpoint(&captured)?;
                    }
                    Ok(None) => *dropped.entry(Dropped::Checkpoints).or_default() += 1,
                    // Damaged: noted in the trace.
                    Err(SlimError::Read(_)) => {
                        checkpoints.kept.remove(&index);
                        checkpoints.renumber();
                    }
                    Err(error) => return Err(error),
                }
            }
            Some(Kind::Sample) => {
                let Ok(mut sample) = trace.decode::<Sample>(entry) else { continue };
                sample.checkpoint = sample.checkpoint.and_then(|old| checkpoints.kept.get(&old).copied());
                if let Some(redactor) = &redactor {
                    sample = redactor.sample(sample);
                }
                writer.sample(&sample)?;
            }
            // Whatever only newer releases read is carried over as it is.
            None => {
                let Ok((header, record)) = trace.raw_record(entry) else { continue };
                writer.carry_over(header, &record[HEADER_LEN..])?;
            }
            Some(kind) => {
                if let Some(redactor) = &redactor
                    && write_redacted(trace, entry, kind, redactor, writer)?
                {
                    continue;
                }
                match trace.raw_body(entry) {
                    Ok(raw) => writer.append(&raw, kind, entry.version, labels(entry))?,
                    Err(_) => continue,
                }
            }
        }
    }
    if unread > 0 {
        let detail =
            format!("records of a later release, dropped {}, by `ktstr trace slim`", Loss::ON_PURPOSE);
        writer.loss(&Loss { host_ns, kind: LossKind::Records, count: unread, detail })?;
    }
    if newer > 0 {
        // Events, samples and claims may be among them: whoever judges what is left has to know, as one who judges the whole does.
        let detail = "slim: records with bodies of a later release, which cannot be redacted".to_owned();
        writer.loss(&Loss { host_ns, kind: LossKind::Records, count: newer, detail })?;
    }
    let faults = trace.faults();
    for (sort, count) in &dropped {
        let kind = if *sort == Dropped::Checkpoints { LossKind::Pages } else { LossKind::Records };
        let what = if *sort == Dropped::Checkpoints { "" } else { " events" };
        let detail = format!("{sort}{what} dropped {}, by `ktstr trace slim`", Loss::ON_PURPOSE);
        writer.loss(&Loss { host_ns, kind, count: *count, detail })?;
    }
    let whole = trace.completeness();
    // These are of the whole file.
    for (count, detail) in [
        (whole.absent_records, "slim: records that the numbering says were there"),
        (whole.uncommitted_records, "slim: whole records after the last commit mark"),
        (whole.unread_segments, "slim: records of more machines than are read"),
    ] {
        if count > 0 && trace.segment_number() == 0 {
            let detail = detail.to_owned();
            writer.loss(&Loss { host_ns, kind: LossKind::Records, count, detail })?;
        }
    }
    for fault in &faults {
        // What is wrong with a record may quote it.
        let detail =
            if options.redact { "slim: a damaged record".to_owned() } else { format!("slim: {fault}") };
        writer.loss(&Loss { host_ns, kind: LossKind::Records, count: 1, detail })?;
    }
    if options.redact {
        write_verdict(trace, to, writer)?;
    }
    slimmed.checkpoints += checkpoints.kept.len();
    for (sort, count) in dropped {
        *slimmed.dropped.entry(sort).or_default() += count;
    }
    slimmed.faults.extend(faults);
    Ok(())
}

/// Write what redaction makes of a record; `false` where it is carried over as it is.
fn write_redacted(
    trace: &Trace,
    entry: &IndexEntry,
    kind: Kind,
    redactor: &Redactor,
    writer: &mut TraceWriter,
) -> Result<bool, SlimError> {
    match kind {
        Kind::Manifest => {
            if let Ok(manifest) = trace.decode::<Manifest>(entry) {
                writer.body(&redactor.manifest(manifest), labels(entry))?;
            }
        }
        Kind::Blob => {
            if let Some(blob) = trace.decode(entry).ok().and_then(|blob| redactor.blob(blob)) {
                writer.blob(blob.role, &blob.bytes)?;
            }
        }
        Kind::Loss => {
            if let Ok(loss) = trace.decode(entry) {
                writer.body(&redactor.loss(loss), labels(entry))?;
            }
        }
        // It is written last, in words that the new trace gives.
        Kind::Verdict => {}
        // The test's own words, and times.
        Kind::Claim | Kind::Clock => return Ok(false),
        // Each has an arm of its own where the records are gone through.
        Kind::Events | Kind::Sample | Kind::Checkpoint | Kind::PageChunk | Kind::Commit | Kind::Index => {}
    }
    Ok(true)
}

/// Write the verdict that was recorded, if there is one, in the words of a judgement of what the new trace has so far.
fn write_verdict(old: &Trace, to: &Path, writer: &mut TraceWriter) -> Result<(), SlimError> {
    let Some(recorded) = Run::load(old).recorded_verdict() else { return Ok(()) };
    writer.commit()?;
    let Some(new) = Trace::open(to)?.segment(old.segment_number()) else { return Ok(()) };
    let fresh = Run::load(&new).judge(None, CheckSource::Recorded);
    Ok(writer.verdict(&redacted_verdict(recorded, &fresh))?)
}

fn labels(entry: &IndexEntry) -> Labels {
    Labels { flags: entry.flags, keys: entry.keys, time: Some((entry.guest_ns, entry.host_ns)) }
}

/// Most RAM of a guest whose trace is made smaller: every page of it is looked at.
const MAX_RAM_BYTES: u64 = 256 << 30;

/// Goes through the checkpoints that are kept, in order.
struct Checkpoints<'t> {
    trace: &'t Trace,
    /// Old index to new index, of those that are kept.
    kept: BTreeMap<u32, u32>,
    kernel: Option<Kernel>,
    /// Numbers of the pages that are kept, where only those that are read are.
    read: Option<BTreeSet<u32>>,
    /// Pages of the last one that was made, in the old trace's numbers.
    last: Option<PageTable>,
    redactor: Option<&'t Redactor>,
}

impl<'t> Checkpoints<'t> {
    fn new(
        trace: &'t Trace,
        options: &SlimOptions,
        redactor: Option<&'t Redactor>,
    ) -> Result<Self, SlimError> {
        let all: Vec<_> = trace.checkpoints();
        let wanted: Vec<u32> = match &options.keep {
            _ if options.drop.contains(&Dropped::Checkpoints) => Vec::new(),
            KeepCheckpoints::All => all.iter().map(|info| info.index).collect(),
            KeepCheckpoints::Last(count) => {
                all.iter().skip(all.len().saturating_sub(*count)).map(|info| info.index).collect()
            }
            KeepCheckpoints::Tag(tag) => {
                let samples: Vec<Sample> = trace.samples().filter_map(Result::ok).collect();
                let with: Vec<&Sample> = samples.iter().filter(|s| s.checkpoint.is_some()).collect();
                let found =
                    with.iter().find(|sample| sample.tag == *tag).and_then(|sample| sample.checkpoint);
                let have = || with.iter().map(|sample| sample.tag.as_str()).collect::<Vec<_>>().join(", ");
                match found {
                    Some(found) => vec![found],
                    None if trace.segment_number() != 0 => Vec::new(),
                    None => return Err(SlimError::NoSuchTag { tag: tag.clone(), have: have() }),
                }
            }
        };
        let kept = wanted.into_iter().zip(0..).collect();
        let read = (options.pages == KeepPages::Read).then(|| read_pages(trace, &kept));
        Ok(Self { trace, kept, kernel: None, read, last: None, redactor })
    }

    /// Checkpoint `index` for the writer, with the pages that the one before it did not have; `None` when it is not kept.
    fn next(&mut self, index: u32, options: &SlimOptions) -> Result<Option<CapturedCheckpoint>, SlimError> {
        if !self.kept.contains_key(&index) {
            return Ok(None);
        }
        let memory = self.trace.checkpoint_memory(index)?;
        let lengths = memory.ram().iter().map(|range| range.end.saturating_sub(range.start));
        let bytes = lengths.fold(0, u64::saturating_add);
        if bytes > MAX_RAM_BYTES {
            return Err(SlimError::TooMuchRam { checkpoint: index, bytes, most: MAX_RAM_BYTES });
        }
        let pages = |source| SlimError::Pages { checkpoint: index, source };
        let left_out = self.left_out(&memory, options).map_err(pages)?;
        let text = self
            .redactor
            .zip(self.kernel.as_ref())
            .map(|(redactor, kernel)| redactor.memory(&KernelView::new(&kernel.profile, &memory)));
        let mut table = reduced(&memory, left_out, self.read.as_ref());
        if let Some(read) = &self.read {
            leave_out_unread(&mut table, read);
        }
        let info = memory.info();
        let base = if self.last.is_some() { CaptureBase::Previous } else { CaptureBase::Zero };
        let before = self.last.take().unwrap_or_default();
        let mut captured = CapturedCheckpoint {
            sample: info.sample,
            guest_ns: info.guest_ns,
            host_ns: info.host_ns,
            ram: memory.ram().to_vec(),
            base,
            changed: Vec::new(),
            zeroed: Vec::new(),
            left_out: Vec::new(),
        };
        let mut batch = PageBatch::default();
        for (gfn, state) in differences(&before, &table, memory.ram()) {
            match state {
                PageState::Zero => push(&mut captured.zeroed, gfn),
                PageState::LeftOut(why) => captured.left_out.push((gfn..gfn + 1, why)),
                PageState::Stored(_) => {
                    let mut page = [0; PAGE_BYTES];
                    match memory.read(GuestPhys(gfn * PAGE_BYTES as u64), &mut page) {
                        Ok(()) => {
                            if let Some(text) = &text {
                                text.blank(gfn, &mut page);
                            }
                            batch.push(gfn, &page);
                        }
                        // A page whose chunk is damaged; the fault is noted in the trace, and becomes a loss.
                        Err(_) => captured.left_out.push((gfn..gfn + 1, LeftOut::Unreadable)),
                    }
                }
            }
        }
        captured.changed.push(batch);
        self.last = Some(table);
        Ok(Some(captured))
    }

    /// Number those that are kept anew, when one of them turned out to be damaged.
    fn renumber(&mut self) {
        for (number, kept) in (0..).zip(self.kept.values_mut()) {
            *kept = number;
        }
    }

    /// The frames of a checkpoint that are to be left out.
    fn left_out(
        &mut self,
        memory: &CheckpointMemory<'_>,
        options: &SlimOptions,
    ) -> Result<Vec<(Range<u64>, LeftOut)>, KernelError> {
        let kernel = match &self.kernel {
            Some(kernel) => kernel,
            None => match Kernel::of(self.trace, memory, options) {
                Ok(kernel) => self.kernel.insert(kernel),
                // The least that can be left out is not worth an error.
                Err(_) if !options.needs_classes() => return Ok(Vec::new()),
                Err(error) => return Err(error),
            },
        };
        let view = KernelView::new(&kernel.profile, memory);
        let mut found = match &kernel.classifier {
            Some(classifier) => match classifier.classify(memory, memory.ram()) {
                Ok(classes) => classes.left_out(),
                // A trace of the pages that views read: it has none of those that would be left out, nor what tells them.
                Err(KernelError::Memory(MemoryError::LeftOut { why: LeftOut::NotRead, .. })) => {
                    image_pages(&view)
                }
                Err(error) => return Err(error),
            },
            None => image_pages(&view),
        };
        found.extend(symbol_pages(&view));
        let is_table = |why| matches!(why, LeftOut::KernelTypes | LeftOut::KernelSymbols);
        let goes = |why| options.leaves_out(why) && (kernel.has_blobs || !is_table(why));
        Ok(found.into_iter().filter(|(_, why)| goes(*why)).collect())
    }
}

/// The kernel of a trace.
struct Kernel {
    profile: Arc<KernelProfile>,
    /// For options that need to know what each page is.
    classifier: Option<PageClassifier>,
    /// The trace has its symbols and types, so that its memory need not.
    has_blobs: bool,
}

impl Kernel {
    fn of(trace: &Trace, memory: &CheckpointMemory<'_>, options: &SlimOptions) -> Result<Self, KernelError> {
        let (profile, has_blobs) = match KernelProfile::of_trace(trace) {
            Ok(profile) => (Arc::new(profile), true),
            Err(_) => (Arc::new(KernelProfile::from_memory(memory)?), false),
        };
        let classifier =
            options.needs_classes().then(|| PageClassifier::new(Arc::clone(&profile))).transpose()?;
        Ok(Self { profile, classifier, has_blobs })
    }
}

/// Whether pages with this class are left out to redact a trace: then it does not count that a view may have read them.
fn is_redacted(why: LeftOut) -> bool {
    matches!(why, LeftOut::Free | LeftOut::PageCache | LeftOut::User)
}

/// The table of a checkpoint without the pages that are to be left out; those that are `read` are kept, unless they are redacted.
fn reduced(
    memory: &CheckpointMemory<'_>,
    left_out: Vec<(Range<u64>, LeftOut)>,
    read: Option<&BTreeSet<u32>>,
) -> PageTable {
    let mut table = memory.table().clone();
    for (range, why) in left_out {
        for gfn in range {
            // What is zero already costs nothing, and what was left out before has its own reason.
            if let PageState::Stored(number) = table.get(gfn)
                && (is_redacted(why) || !read.is_some_and(|read| read.contains(&number)))
            {
                // A run of one page is never one without an end.
                let _ = table.set(PageRun { gfn, count: 1, state: PageState::LeftOut(why) });
            }
        }
    }
    table
}

/// The frames of `ram` whose state in `after` is not that in `before`, ascending.
fn differences<'a>(
    before: &'a PageTable,
    after: &'a PageTable,
    ram: &'a [Range<u64>],
) -> impl Iterator<Item = (u64, PageState)> + 'a {
    let page = PAGE_BYTES as u64;
    let frames = ram.iter().flat_map(move |range| range.start / page..range.end.div_ceil(page));
    frames.filter_map(|gfn| {
        let state = after.get(gfn);
        (state != before.get(gfn)).then_some((gfn, state))
    })
}

fn push(ranges: &mut Vec<Range<u64>>, gfn: u64) {
    match ranges.last_mut() {
        Some(last) if last.end == gfn => last.end += 1,
        _ => ranges.push(gfn..gfn + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TraceBuilder;
    use crate::verdict::Outcome;

    #[test]
    fn a_trace_without_its_kernel_log_still_fails_for_what_the_kernel_reported() {
        let splat = "WARNING: kernel/sched/core.c:10 at f+0x1/0x2";
        let old = TraceBuilder::begun().kmsg(1000, 4, splat).kmsg(1001, 6, "all is well").ended().trace();
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("quiet.trace.zst");
        let options = SlimOptions { level: 1, drop: vec![Dropped::Kmsg], ..SlimOptions::default() };
        assert_eq!(slim_trace(&old, &to, &options).unwrap().dropped[&Dropped::Kmsg], 1);
        let new = Trace::open(&to).unwrap();
        for trace in [&old, &new] {
            let verdict = Run::load(trace).judge(None, CheckSource::Recorded);
            assert_eq!(verdict.outcome(), Outcome::Fail, "{verdict:?}");
        }
        assert!(!Run::load(&new).kmsg().any(|(_, _, text)| text.contains("core.c")));
    }

    #[test]
    fn a_trace_without_its_kernel_log_still_fails_for_a_sub_scheduler() {
        let ended = "sched_ext: BPF sub-scheduler \"sub\" disabled (runtime error)";
        let old = TraceBuilder::begun().kmsg(1000, 3, ended).ended().trace();
        let folder = tempfile::tempdir().unwrap();
        for (name, redact) in [("quiet", false), ("redacted", true)] {
            let to = folder.path().join(format!("{name}.trace.zst"));
            let drop = if redact { Vec::new() } else { vec![Dropped::Kmsg] };
            slim_trace(&old, &to, &SlimOptions { level: 1, drop, redact, ..SlimOptions::default() }).unwrap();
            let new = Trace::open(&to).unwrap();
            let verdict = Run::load(&new).judge(None, CheckSource::Recorded);
            let finding = verdict.findings.iter().find(|finding| finding.what == "sub-scheduler").unwrap();
            assert_eq!(finding.outcome, Outcome::Fail, "{verdict:?}");
            assert!(finding.summary.contains("sub-scheduler sub ended: redacted"), "{finding:?}");
        }
    }

    #[test]
    fn a_trace_does_not_pass_for_what_could_not_be_carried_over() {
        let run = TraceBuilder::begun().periodic(&[10, 20, 30]).ended().claim("nondecreasing(nr_dispatched)");
        let outcome =
            |run: &TraceBuilder| Run::load(&run.trace()).judge(None, CheckSource::Recorded).outcome();
        assert_eq!(outcome(&run), Outcome::Pass);
        for (detail, expected) in
            [("kmsg events dropped on purpose", Outcome::Pass), ("repair: damaged", Outcome::Inconclusive)]
        {
            let loss =
                Loss { host_ns: HostNs(1), kind: LossKind::Records, count: 1, detail: detail.to_owned() };
            let run = TraceBuilder::begun().periodic(&[10, 20, 30]).ended().loss(loss);
            assert_eq!(outcome(&run.claim("nondecreasing(nr_dispatched)")), expected, "{detail}");
        }
    }
}
