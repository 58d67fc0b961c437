//! The thread that writes: compression and I/O happen here, off the path of the guest.
//!
//! Two bounds keep a slow disk from taking all memory or stalling the guest: pages in flight are counted, and
//! the queue of everything else is finite. What does not fit is refused, and the recorder makes it a loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use ktstr_replay::trace::record::{BlobRole, Clock, Event, Loss, PAGE_BYTES, Sample};
use ktstr_replay::trace::{CapturedCheckpoint, TraceWriter, WriteError};

/// Bytes of pages that may wait to be written. More than one first checkpoint of a usual guest (80 MiB of pages
/// that are not zero), less than the 256 MiB that recording may take.
const PAGES_IN_FLIGHT_BYTES: u64 = 160 << 20;
/// Items that may wait.
const QUEUE_ITEMS: usize = 512;
/// Longest time between an event's arrival and its commit.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);

/// One thing to be written.
pub(super) enum Item {
    /// Bytes that later records refer to.
    Blob(BlobRole, Vec<u8>),
    /// Events, in order.
    Events(Vec<Event>),
    /// A capture: a sample, and memory if it was kept. Committed at once.
    Capture(Box<Sample>, Option<Box<CapturedCheckpoint>>),
    /// Something lost.
    Loss(Loss),
    /// A pair of times.
    Clock(Clock),
}

/// The recorder's end of the writer thread.
pub(super) struct WriterThread {
    queue: Sender<Item>,
    in_flight: Arc<AtomicU64>,
    thread: JoinHandle<Written>,
}

/// What the thread leaves.
pub(super) struct Written {
    /// The writer, committed and without a footer.
    pub writer: TraceWriter,
    /// The first error; nothing was written after it.
    pub error: Option<WriteError>,
}

impl WriterThread {
    pub(super) fn start(writer: TraceWriter) -> std::io::Result<Self> {
        let (queue, items) = crossbeam_channel::bounded(QUEUE_ITEMS);
        let in_flight = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&in_flight);
        let thread = std::thread::Builder::new()
            .name(String::from("ktstr-writer"))
            .spawn(move || write_all(writer, &items, &counter))?;
        Ok(Self { queue, in_flight, thread })
    }

    /// A thread that writes nothing before `held` is closed: a disk that hangs.
    #[cfg(test)]
    pub(super) fn start_held(writer: TraceWriter, held: Receiver<()>) -> std::io::Result<Self> {
        let (queue, items) = crossbeam_channel::bounded(QUEUE_ITEMS);
        let in_flight = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&in_flight);
        let thread = std::thread::Builder::new().spawn(move || {
            let _closed = held.recv();
            write_all(writer, &items, &counter)
        })?;
        Ok(Self { queue, in_flight, thread })
    }

    /// Whether pages of `bytes` may be handed over now. A checkpoint larger than the bound passes when nothing else is
    /// in flight, as it could never pass otherwise.
    pub(super) fn has_room_for(&self, bytes: u64) -> bool {
        let in_flight = self.in_flight.load(Ordering::Acquire);
        in_flight == 0 || in_flight.saturating_add(bytes) <= PAGES_IN_FLIGHT_BYTES
    }

    /// Bytes of pages that wait to be written.
    pub(super) fn behind_bytes(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Hand `item` over without waiting; it comes back when the queue is full or the thread is gone.
    pub(super) fn offer(&self, item: Item) -> Result<(), Item> {
        let bytes = page_bytes(&item);
        self.in_flight.fetch_add(bytes, Ordering::AcqRel);
        self.queue.try_send(item).map_err(|refused| {
            self.in_flight.fetch_sub(bytes, Ordering::AcqRel);
            match refused {
                TrySendError::Full(item) | TrySendError::Disconnected(item) => item,
            }
        })
    }

    /// Hand `item` over, waiting for room: for when the guest has ended.
    pub(super) fn give(&self, item: Item) {
        let bytes = page_bytes(&item);
        self.in_flight.fetch_add(bytes, Ordering::AcqRel);
        // The thread ends only after the queue is closed, or by a panic, which `finish` passes on.
        let _ = self.queue.send(item);
    }

    /// Wait until all is written and committed.
    pub(super) fn finish(self) -> Written {
        drop(self.queue);
        match self.thread.join() {
            Ok(written) => written,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Bytes of the pages that a checkpoint brings along.
pub(super) fn checkpoint_bytes(checkpoint: &CapturedCheckpoint) -> u64 {
    checkpoint.changed.iter().map(|batch| (batch.len() * PAGE_BYTES) as u64).sum()
}

fn page_bytes(item: &Item) -> u64 {
    match item {
        Item::Capture(_, Some(checkpoint)) => checkpoint_bytes(checkpoint),
        _ => 0,
    }
}

fn write_all(mut writer: TraceWriter, items: &Receiver<Item>, in_flight: &AtomicU64) -> Written {
    let mut error = None;
    let mut committed = Instant::now();
    loop {
        let item = match items.recv_timeout(COMMIT_INTERVAL) {
            Ok(item) => Some(item),
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => None,
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => break,
        };
        let mut bytes = 0;
        let result = match item {
            // After an error the queue is only emptied, so that the run goes on.
            _ if error.is_some() => Ok(()),
            None => writer.commit(),
            Some(item) => {
                bytes = page_bytes(&item);
                let now = matches!(item, Item::Capture(..)) || committed.elapsed() >= COMMIT_INTERVAL;
                write(&mut writer, item).and_then(|()| {
                    if !now {
                        return Ok(());
                    }
                    committed = Instant::now();
                    writer.commit()
                })
            }
        };
        in_flight.fetch_sub(bytes, Ordering::AcqRel);
        if let Err(cause) = result {
            error = Some(cause);
        }
    }
    if error.is_none() {
        error = writer.commit().err();
    }
    Written { writer, error }
}

fn write(writer: &mut TraceWriter, item: Item) -> Result<(), WriteError> {
    match item {
        Item::Blob(role, bytes) => writer.blob(role, &bytes).map(|_| ()),
        Item::Events(events) => writer.events(&events),
        Item::Capture(mut sample, checkpoint) => {
            if let Some(checkpoint) = checkpoint {
                sample.checkpoint = Some(writer.checkpoint(&checkpoint)?);
            }
            writer.sample(&sample)
        }
        Item::Loss(loss) => writer.loss(&loss),
        Item::Clock(clock) => writer.clock(&clock),
    }
}

#[cfg(test)]
mod tests {
    use ktstr_replay::trace::Trace;
    use ktstr_replay::trace::record::{EventBody, LossKind, Manifest};

    use super::*;

    fn loss(detail: &str) -> Item {
        Item::Loss(Loss { host_ns: 1, kind: LossKind::Write, count: 1, detail: detail.to_owned() })
    }

    #[test]
    fn what_was_handed_over_is_committed_when_the_thread_has_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.trace.zst");
        let writer = TraceWriter::create(&path, &Manifest::default()).unwrap();
        let thread = WriterThread::start(writer).unwrap();
        let event = Event { guest_ns: 5, host_ns: 6, body: EventBody::Console(b"hello".to_vec()) };
        assert!(thread.offer(Item::Events(vec![event.clone()])).is_ok());
        thread.give(loss("nothing much"));
        let Written { writer, error } = thread.finish();
        assert!(error.is_none(), "{error:?}");

        // Not finished, as when the verdict is still to come, and yet all there.
        let trace = Trace::open(&path).unwrap();
        assert!(!trace.is_finalized());
        assert_eq!(trace.events(), [event]);
        assert_eq!(trace.losses()[0].detail, "nothing much");
        writer.finish().unwrap();
        assert!(Trace::open(&path).unwrap().is_finalized());
    }

    #[test]
    fn pages_wait_within_a_bound_but_one_checkpoint_always_passes() {
        let folder = tempfile::tempdir().unwrap();
        let writer = TraceWriter::create(&folder.path().join("x.trace.zst"), &Manifest::default()).unwrap();
        let thread = WriterThread::start(writer).unwrap();
        assert!(thread.has_room_for(PAGES_IN_FLIGHT_BYTES * 4), "nothing is in flight");
        thread.in_flight.store(4096, Ordering::Release);
        assert!(!thread.has_room_for(PAGES_IN_FLIGHT_BYTES));
        assert!(thread.has_room_for(PAGES_IN_FLIGHT_BYTES - 4096));
        thread.in_flight.store(0, Ordering::Release);
        thread.finish();
    }
}
