//! The thread that writes: compression and I/O happen here, off the path of the guest.
//!
//! Two bounds keep a slow disk from taking all memory or stalling the guest: pages in flight are counted, and
//! the queue of everything else is finite. What does not fit is refused, and the recorder makes it a loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use ktstr_replay::trace::record::{BlobRole, Clock, Event, Loss, LossKind, PAGE_BYTES, Sample};
use ktstr_replay::trace::{CapturedCheckpoint, TraceWriter, WriteError};
use ktstr_replay::units::HostNs;

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
    state: Arc<WriterState>,
    thread: JoinHandle<Written>,
}

/// What both sides know.
#[derive(Default)]
struct WriterState {
    /// Bytes of pages that were handed over and not written yet.
    in_flight: AtomicU64,
    /// A checkpoint did not reach the trace, and no capture has begun anew yet.
    base_lost: AtomicBool,
}

/// What the thread leaves.
pub(super) struct Written {
    /// The writer, committed and without a footer.
    pub writer: TraceWriter,
    /// Why something is missing that no loss record in the trace tells of.
    pub error: Option<WriteError>,
}

impl WriterThread {
    pub(super) fn start(writer: TraceWriter) -> std::io::Result<Self> {
        Self::start_when(writer, None, || ())
    }

    /// A thread that says when a capture can be read from the trace.
    pub(super) fn start_telling(writer: TraceWriter, captured: Sender<()>) -> std::io::Result<Self> {
        Self::start_when(writer, Some(captured), || ())
    }

    /// A thread that writes nothing before `held` is closed: a disk that hangs.
    #[cfg(test)]
    pub(super) fn start_held(writer: TraceWriter, held: Receiver<()>) -> std::io::Result<Self> {
        Self::start_when(writer, None, move || {
            let _closed = held.recv();
        })
    }

    fn start_when(
        writer: TraceWriter,
        captured: Option<Sender<()>>,
        ready: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (queue, items) = crossbeam_channel::bounded(QUEUE_ITEMS);
        let state = Arc::<WriterState>::default();
        let of_thread = Arc::clone(&state);
        let thread = std::thread::Builder::new().name(String::from("ktstr-writer")).spawn(move || {
            ready();
            write_all(writer, &items, &of_thread, captured.as_ref())
        })?;
        Ok(Self { queue, state, thread })
    }

    /// A checkpoint did not reach the trace.
    pub(super) fn lose_base(&self) {
        self.state.base_lost.store(true, Ordering::Release);
    }

    /// Whether a checkpoint did not reach the trace since the last call: what builds on it cannot be written, so that the
    /// next one has to begin anew.
    pub(super) fn take_base_lost(&self) -> bool {
        self.state.base_lost.swap(false, Ordering::AcqRel)
    }

    /// Whether pages of `bytes` may be handed over now. A checkpoint larger than the bound passes when nothing else is
    /// in flight, as it could never pass otherwise.
    pub(super) fn has_room_for(&self, bytes: u64) -> bool {
        let in_flight = self.state.in_flight.load(Ordering::Acquire);
        in_flight == 0 || in_flight.saturating_add(bytes) <= PAGES_IN_FLIGHT_BYTES
    }

    /// Bytes of pages that wait to be written.
    pub(super) fn behind_bytes(&self) -> u64 {
        self.state.in_flight.load(Ordering::Acquire)
    }

    /// Hand `item` over without waiting; it comes back when the queue is full or the thread is gone.
    pub(super) fn offer(&self, item: Item) -> Result<(), Item> {
        let bytes = page_bytes(&item);
        self.state.in_flight.fetch_add(bytes, Ordering::AcqRel);
        self.queue.try_send(item).map_err(|refused| {
            self.state.in_flight.fetch_sub(bytes, Ordering::AcqRel);
            match refused {
                TrySendError::Full(item) | TrySendError::Disconnected(item) => item,
            }
        })
    }

    /// Hand `item` over, waiting for room: for when the guest has ended.
    pub(super) fn give(&self, item: Item) {
        let bytes = page_bytes(&item);
        self.state.in_flight.fetch_add(bytes, Ordering::AcqRel);
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

/// What could not be written.
#[derive(Default)]
struct Unwritten {
    /// Other records than checkpoints.
    records: u64,
    checkpoints: u64,
    /// Pages of the checkpoints.
    pages: u64,
    /// The latest of them, in host time.
    host_ns: HostNs,
    /// The first reason. It stays until a loss record tells it, and is committed.
    first: Option<WriteError>,
}

impl Unwritten {
    /// Commit, with records of what is missing. Where the disk has no room for those, the next commit tries again.
    fn commit(&mut self, writer: &mut TraceWriter) {
        match self.tell(writer).and_then(|()| writer.commit()) {
            Ok(()) => self.first = None,
            Err(error) => {
                self.first.get_or_insert(error);
            }
        }
    }

    fn tell(&mut self, writer: &mut TraceWriter) -> Result<(), WriteError> {
        let Some(error) = &self.first else { return Ok(()) };
        let source = std::error::Error::source(error).map_or_else(String::new, |why| format!(": {why}"));
        let because = format!("could not be written: {error}{source}");
        let host_ns = self.host_ns;
        if self.checkpoints > 0 {
            let what = if self.checkpoints == 1 { "a checkpoint" } else { "checkpoints" };
            let detail = format!("pages of {what} {because}");
            writer.loss(&Loss { host_ns, kind: LossKind::Pages, count: self.pages, detail })?;
            (self.checkpoints, self.pages) = (0, 0);
        }
        if self.records > 0 {
            let detail = format!("records {because}");
            writer.loss(&Loss { host_ns, kind: LossKind::Write, count: self.records, detail })?;
            self.records = 0;
        }
        Ok(())
    }
}

fn write_all(
    mut writer: TraceWriter,
    items: &Receiver<Item>,
    state: &WriterState,
    captured: Option<&Sender<()>>,
) -> Written {
    let mut unwritten = Unwritten::default();
    let mut committed = Instant::now();
    loop {
        let item = match items.recv_timeout(COMMIT_INTERVAL) {
            Ok(item) => Some(item),
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => None,
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => break,
        };
        let is_capture = item.as_ref().is_some_and(|item| matches!(item, Item::Capture(..)));
        let now = item.is_none() || is_capture;
        if let Some(item) = item {
            let bytes = page_bytes(&item);
            write(&mut writer, item, state, &mut unwritten);
            state.in_flight.fetch_sub(bytes, Ordering::AcqRel);
        }
        if now || committed.elapsed() >= COMMIT_INTERVAL {
            committed = Instant::now();
            unwritten.commit(&mut writer);
        }
        if let Some(captured) = captured.filter(|_| is_capture) {
            // Who listens is told of this one, too, when it has been told already and has not looked yet.
            let _ = captured.try_send(());
        }
    }
    unwritten.commit(&mut writer);
    Written { writer, error: unwritten.first }
}

/// Write what there is room for: of a capture whose memory is too much for the disk, the sample.
fn write(writer: &mut TraceWriter, item: Item, state: &WriterState, unwritten: &mut Unwritten) {
    let host_ns = host_ns(&item);
    let result = match item {
        Item::Blob(role, bytes) => writer.blob(role, &bytes).map(|_| ()),
        Item::Events(events) => writer.events(&events),
        Item::Capture(mut sample, checkpoint) => {
            if let Some(checkpoint) = checkpoint {
                match writer.checkpoint(&checkpoint) {
                    Ok(index) => sample.checkpoint = Some(index),
                    Err(error) => {
                        state.base_lost.store(true, Ordering::Release);
                        unwritten.checkpoints += 1;
                        unwritten.pages += checkpoint_bytes(&checkpoint) / PAGE_BYTES as u64;
                        unwritten.first.get_or_insert(error);
                    }
                }
            }
            writer.sample(&sample)
        }
        Item::Loss(loss) => writer.loss(&loss),
        Item::Clock(clock) => writer.clock(&clock),
    };
    if let Err(error) = result {
        unwritten.records += 1;
        unwritten.first.get_or_insert(error);
    }
    unwritten.host_ns = unwritten.host_ns.max(host_ns);
}

fn host_ns(item: &Item) -> HostNs {
    match item {
        Item::Blob(..) => HostNs(0),
        Item::Events(events) => events.last().map_or(HostNs(0), |event| event.host_ns),
        Item::Capture(sample, _) => sample.host_ns,
        Item::Loss(loss) => loss.host_ns,
        Item::Clock(clock) => clock.host_ns,
    }
}

#[cfg(test)]
mod tests {
    use ktstr_replay::trace::Trace;
    use ktstr_replay::trace::record::{EventBody, LossKind, Manifest};
    use ktstr_replay::units::GuestNs;

    use super::*;

    fn loss(detail: &str) -> Item {
        Item::Loss(Loss { host_ns: HostNs(1), kind: LossKind::Write, count: 1, detail: detail.to_owned() })
    }

    #[test]
    fn what_was_handed_over_is_committed_when_the_thread_has_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.trace.zst");
        let writer = TraceWriter::create(&path, &Manifest::default()).unwrap();
        let thread = WriterThread::start(writer).unwrap();
        let event =
            Event { guest_ns: GuestNs(5), host_ns: HostNs(6), body: EventBody::Console(b"hello".to_vec()) };
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
        thread.state.in_flight.store(4096, Ordering::Release);
        assert!(!thread.has_room_for(PAGES_IN_FLIGHT_BYTES));
        assert!(thread.has_room_for(PAGES_IN_FLIGHT_BYTES - 4096));
        thread.state.in_flight.store(0, Ordering::Release);
        thread.finish();
    }
}
