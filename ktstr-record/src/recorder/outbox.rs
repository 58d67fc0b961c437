//! What the loop has for the writer: events are gathered, and whatever the writer has no room for is counted.

use ktstr_replay::trace::CapturedCheckpoint;
use ktstr_replay::trace::record::{Event, EventBody, Loss, LossKind, PAGE_BYTES, Sample};

use super::writer::{Item, WriterThread, checkpoint_bytes};

/// Events that are handed over together.
const EVENTS_PER_ITEM: usize = 256;
/// Events that may wait here while the writer's queue is full: some 20 MiB of kernel log.
const EVENTS_WAITING: usize = 100_000;

/// The loop's side of the writer.
pub(super) struct Outbox {
    writer: WriterThread,
    events: Vec<Event>,
    dropped_events: u64,
}

impl Outbox {
    pub(super) fn new(writer: WriterThread) -> Self {
        Self { writer, events: Vec::new(), dropped_events: 0 }
    }

    /// Add an event.
    pub(super) fn event(&mut self, guest_ns: u64, host_ns: u64, body: EventBody) {
        if self.events.len() >= EVENTS_WAITING {
            self.dropped_events += 1;
            return;
        }
        self.events.push(Event { guest_ns, host_ns, body });
        if self.events.len() >= EVENTS_PER_ITEM {
            self.flush();
        }
    }

    /// Hand the gathered events over, if the writer has room.
    pub(super) fn flush(&mut self) {
        if self.events.is_empty() {
            return;
        }
        if let Err(Item::Events(events)) = self.writer.offer(Item::Events(std::mem::take(&mut self.events))) {
            self.events = events;
        }
    }

    /// Hand over a capture. Returns whether its memory was taken, too.
    pub(super) fn capture(&mut self, sample: Sample, checkpoint: Option<CapturedCheckpoint>) -> bool {
        // Events that came before the capture come before it in the file.
        self.flush();
        let host_ns = sample.host_ns;
        let index = sample.index;
        let wanted = checkpoint.is_some();
        let bytes = checkpoint.as_ref().map_or(0, checkpoint_bytes);
        let kept = checkpoint.filter(|_| self.writer.has_room_for(bytes)).map(Box::new);
        let took_memory = kept.is_some();
        if wanted && !took_memory {
            self.loss(
                host_ns,
                LossKind::Pages,
                bytes / PAGE_BYTES as u64,
                format!("the checkpoint of sample {index} was not kept: the writer is {bytes} bytes behind"),
            );
        }
        match self.writer.offer(Item::Capture(Box::new(sample), kept)) {
            Ok(()) => took_memory,
            Err(_) => {
                self.loss(
                    host_ns,
                    LossKind::Capture,
                    1,
                    format!("sample {index} was not kept: the writer's queue is full"),
                );
                false
            }
        }
    }

    /// Say that something is missing. Losses are few and small, and the one thing that is worth waiting for.
    pub(super) fn loss(&mut self, host_ns: u64, kind: LossKind, count: u64, detail: String) {
        self.give(Item::Loss(Loss { host_ns, kind, count, detail }));
    }

    /// Hand `item` over, waiting for room.
    pub(super) fn give(&self, item: Item) {
        self.writer.give(item);
    }

    /// Hand over all that is left; the guest has ended, so there is time.
    pub(super) fn close(mut self, host_ns: u64) -> WriterThread {
        if !self.events.is_empty() {
            self.writer.give(Item::Events(std::mem::take(&mut self.events)));
        }
        if self.dropped_events > 0 {
            let detail = String::from("events came faster than they could be written");
            self.loss(host_ns, LossKind::Write, self.dropped_events, detail);
        }
        self.writer
    }
}
