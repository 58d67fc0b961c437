//! What the loop has for the writer: events are gathered, and whatever the writer has no room for is counted.

use std::collections::{BTreeMap, VecDeque};

use ktstr_replay::trace::CapturedCheckpoint;
use ktstr_replay::trace::record::{Event, EventBody, Loss, LossKind, PAGE_BYTES, Sample};
use ktstr_replay::units::{Cpu, GuestNs, HostNs};

use super::writer::{Item, WriterThread, checkpoint_bytes};

/// Events that are handed over together.
const EVENTS_PER_ITEM: usize = 256;
/// The same, where some are of the history: each of these can have 128 KiB.
const HISTORY_PER_ITEM: usize = 64;
/// Events that may wait here while the writer's queue is full: some 20 MiB of kernel log.
const EVENTS_WAITING: usize = 100_000;
/// Steps of the history that may wait likewise: 128 MiB.
const STEPS_WAITING: usize = 1 << 22;
/// Losses, blobs and clocks that may wait here likewise. Blobs are few: there is one for each type of a BPF program.
const OTHERS_WAITING: usize = 1024;

/// The loop's side of the writer.
pub(super) struct Outbox {
    writer: WriterThread,
    events: Vec<Event>,
    dropped_events: u64,
    /// Steps of the history in `events`.
    waiting_steps: usize,
    /// How many of each CPU were not kept: its next record tells.
    dropped_steps: BTreeMap<Cpu, u64>,
    others: VecDeque<Item>,
    dropped_others: u64,
}

impl Outbox {
    pub(super) fn new(writer: WriterThread) -> Self {
        Self {
            writer,
            events: Vec::new(),
            dropped_events: 0,
            waiting_steps: 0,
            dropped_steps: BTreeMap::new(),
            others: VecDeque::new(),
            dropped_others: 0,
        }
    }

    /// Add an event.
    pub(super) fn event(&mut self, guest_ns: GuestNs, host_ns: HostNs, body: EventBody) {
        if self.events.len() >= EVENTS_WAITING {
            self.dropped_events += 1;
            return;
        }
        self.events.push(Event { guest_ns, host_ns, body });
        if self.events.len() >= EVENTS_PER_ITEM {
            self.flush();
        }
    }

    /// Add what a capture at `(guest, host)` brought as events, and what is missing of the history.
    pub(super) fn brought(
        &mut self,
        (guest_ns, host_ns): (GuestNs, HostNs),
        events: Vec<EventBody>,
        fault: Option<String>,
    ) {
        for mut body in events {
            if let EventBody::History(history) = &mut body {
                let steps = history.steps.len();
                if self.waiting_steps.saturating_add(steps) > STEPS_WAITING
                    || self.events.len() >= EVENTS_WAITING
                {
                    // What is missing is missing before the next one, and not in between without a word.
                    let dropped = self.dropped_steps.entry(history.cpu).or_default();
                    let missing =
                        history.overwritten.saturating_add(history.left_out).saturating_add(steps as u64);
                    *dropped = dropped.saturating_add(missing);
                    continue;
                }
                self.waiting_steps += steps;
                let dropped = self.dropped_steps.remove(&history.cpu).unwrap_or_default();
                history.left_out = history.left_out.saturating_add(dropped);
            }
            self.event(guest_ns, host_ns, body);
            // They are large.
            if self.events.len() >= HISTORY_PER_ITEM {
                self.flush();
            }
        }
        if let Some(fault) = fault {
            self.loss(host_ns, LossKind::SchedEvents, 0, fault);
        }
    }

    /// Hand over what was gathered, as far as the writer has room.
    pub(super) fn flush(&mut self) {
        while let Some(item) = self.others.pop_front() {
            if let Err(item) = self.writer.offer(item) {
                self.others.push_front(item);
                return;
            }
        }
        if self.events.is_empty() {
            return;
        }
        match self.writer.offer(Item::Events(std::mem::take(&mut self.events))) {
            Err(Item::Events(events)) => self.events = events,
            _ => self.waiting_steps = 0,
        }
    }

    /// Hand over a capture, without its memory when the writer has no room for that.
    pub(super) fn capture(&mut self, sample: Sample, checkpoint: Option<CapturedCheckpoint>) {
        // Events that came before the capture come before it in the file.
        self.flush();
        let host_ns = sample.host_ns;
        let index = sample.index;
        let bytes = checkpoint.as_ref().map_or(0, checkpoint_bytes);
        let has_memory = checkpoint.is_some();
        let kept = checkpoint.filter(|_| self.writer.has_room_for(bytes)).map(Box::new);
        if has_memory && kept.is_none() {
            self.writer.lose_base();
            let behind = self.writer.behind_bytes();
            let detail = format!(
                "the checkpoint of sample {index} ({bytes} bytes) was not kept: the writer is {behind} bytes behind"
            );
            self.loss(host_ns, LossKind::Pages, bytes / PAGE_BYTES as u64, detail);
        }
        if self.writer.offer(Item::Capture(Box::new(sample), kept)).is_err() {
            if has_memory {
                self.writer.lose_base();
            }
            let detail = format!("sample {index} was not kept: the writer's queue is full");
            self.loss(host_ns, LossKind::Capture, 1, detail);
        }
    }

    /// As [`WriterThread::take_base_lost`].
    pub(super) fn take_base_lost(&self) -> bool {
        self.writer.take_base_lost()
    }

    /// Say that something is missing.
    pub(super) fn loss(&mut self, host_ns: HostNs, kind: LossKind, count: u64, detail: String) {
        self.give(Item::Loss(Loss { host_ns, kind, count, detail }));
    }

    /// Hand `item` over, now or when there is room. Never waits: a disk that hangs must not stop the guest.
    pub(super) fn give(&mut self, item: Item) {
        if self.others.len() >= OTHERS_WAITING {
            self.dropped_others += 1;
            return;
        }
        self.others.push_back(item);
        self.flush();
    }

    /// Hand over all that is left; the guest has ended, so there is time.
    pub(super) fn close(mut self, host_ns: HostNs) -> WriterThread {
        for item in std::mem::take(&mut self.others) {
            self.writer.give(item);
        }
        if !self.events.is_empty() {
            self.writer.give(Item::Events(std::mem::take(&mut self.events)));
        }
        if self.dropped_events > 0 {
            let detail = String::from("events came faster than they could be written");
            let count = self.dropped_events;
            self.writer.give(Item::Loss(Loss { host_ns, kind: LossKind::Write, count, detail }));
        }
        let count = self.dropped_steps.values().fold(0, |sum: u64, steps| sum.saturating_add(*steps));
        if count > 0 {
            let detail =
                String::from("the latest steps of the history came faster than they could be written");
            self.writer.give(Item::Loss(Loss { host_ns, kind: LossKind::SchedEvents, count, detail }));
        }
        if self.dropped_others > 0 {
            let detail = String::from("losses, blobs and clocks that the writer had no room for");
            let count = self.dropped_others;
            self.writer.give(Item::Loss(Loss { host_ns, kind: LossKind::Write, count, detail }));
        }
        self.writer
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ktstr_replay::trace::record::{
        BlobRole, CaptureKind, Clock, History, HistoryStep, HistoryWhat, Manifest,
    };
    use ktstr_replay::trace::{CaptureBase, PageBatch, Trace, TraceWriter};

    use super::*;

    fn sample(index: u32) -> Sample {
        Sample::new(index, format!("periodic_{index:03}"), CaptureKind::Periodic, GuestNs(1), HostNs(1))
    }

    /// A checkpoint of 4000 pages.
    fn checkpoint() -> CapturedCheckpoint {
        let mut batch = PageBatch::with_capacity(4000);
        for gfn in 0..4000_u64 {
            let mut page = [7; PAGE_BYTES];
            page[..8].copy_from_slice(&gfn.to_le_bytes());
            batch.push(gfn, &page);
        }
        CapturedCheckpoint {
            sample: None,
            guest_ns: GuestNs(1),
            host_ns: HostNs(1),
            ram: std::iter::once(0..64 << 20).collect(),
            base: CaptureBase::Zero,
            changed: vec![batch],
            zeroed: Vec::new(),
            left_out: Vec::new(),
        }
    }

    #[test]
    fn steps_of_the_history_that_have_no_room_are_told_by_the_next_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.trace.zst");
        let writer = TraceWriter::create(&path, &Manifest::default()).unwrap();
        let (release, held) = crossbeam_channel::bounded(0);
        let mut outbox = Outbox::new(WriterThread::start_held(writer, held).unwrap());
        let history = |cpu, steps: u64| {
            let step = HistoryStep { after_ns: 1, what: HistoryWhat::Switch { prev: 0, state: 0, next: 0 } };
            let steps = vec![step; steps as usize];
            EventBody::History(Box::new(History { cpu: Cpu(cpu), steps, ..History::default() }))
        };
        // As if the writer had stood still for as long.
        outbox.waiting_steps = STEPS_WAITING - 1;
        let at = (GuestNs(1), HostNs(1));
        outbox.brought(at, vec![history(0, 3), history(1, 1), history(0, 2), history(2, 2)], None);
        outbox.waiting_steps = 0;
        outbox.brought(at, vec![history(0, 1)], None);

        drop(release);
        let written = outbox.close(HostNs(2)).finish();
        assert!(written.error.is_none(), "{:?}", written.error);
        written.writer.finish().unwrap();
        let trace = Trace::open(&path).unwrap();
        let mut told = Vec::new();
        for event in trace.events() {
            if let EventBody::History(history) = event.body {
                told.push((history.cpu, history.left_out, history.steps.len()));
            }
        }
        assert_eq!(told, [(Cpu(1), 0, 1), (Cpu(0), 5, 1)]);
        let lost: Vec<_> = trace.losses().into_iter().map(|loss| (loss.kind, loss.count)).collect();
        assert_eq!(lost, [(LossKind::SchedEvents, 2)]);
    }

    #[test]
    fn a_disk_that_hangs_costs_losses_and_stalls_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.trace.zst");
        let writer = TraceWriter::create(&path, &Manifest::default()).unwrap();
        let (release, held) = crossbeam_channel::bounded(0);
        let mut outbox = Outbox::new(WriterThread::start_held(writer, held).unwrap());

        let begun = Instant::now();
        let mut kept = 0;
        for i in 0..12 {
            outbox.capture(sample(i), Some(checkpoint()));
            kept += usize::from(!outbox.take_base_lost());
        }
        assert!((1..12).contains(&kept), "{kept} of 12 checkpoints of 16 MB were kept");
        for i in 0..2000 {
            outbox.capture(sample(12 + i), None);
            outbox.event(GuestNs(1), HostNs(1), EventBody::Console(b"x".to_vec()));
            outbox.loss(HostNs(1), LossKind::Kmsg, 1, format!("loss {i}"));
            outbox.give(Item::Clock(Clock { guest_ns: GuestNs(1), host_ns: HostNs(1) }));
        }
        outbox.give(Item::Blob(BlobRole::ProgramBtf, vec![1; 64]));
        for _ in 0..EVENTS_WAITING {
            outbox.event(GuestNs(1), HostNs(1), EventBody::Console(b"x".to_vec()));
        }
        assert!(begun.elapsed().as_secs() < 60, "it stood for {:?}", begun.elapsed());

        drop(release);
        let written = outbox.close(HostNs(2)).finish();
        assert!(written.error.is_none(), "{:?}", written.error);
        written.writer.finish().unwrap();
        let trace = Trace::open(&path).unwrap();
        assert!(trace.verify().is_clean());
        let losses = trace.losses();
        let of = |text: &str| {
            losses.iter().filter(|loss| loss.detail.contains(text)).map(|l| l.count).sum::<u64>()
        };
        assert_eq!(of("the checkpoint of sample"), (12 - kept as u64) * 4000, "{losses:?}");
        let behind = kept as u64 * 4000 * PAGE_BYTES as u64;
        assert!(of(&format!("the writer is {behind} bytes behind")) > 0, "{losses:?}");
        assert!(of("queue is full") > 0 && of("losses, blobs and clocks") > 0, "{losses:?}");
        let events = trace.events().len() as u64;
        assert_eq!(events + of("events came faster"), 2000 + EVENTS_WAITING as u64);
    }
}
