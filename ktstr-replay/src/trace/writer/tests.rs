//! Writing on disks that are full.

use std::io;
use std::sync::{Arc, Mutex};

use super::*;
use crate::memory::Memory;
use crate::trace::record::{EventBody, PAGE_BYTES};
use crate::trace::{CaptureBase, CapturedCheckpoint, PageBatch, Trace};
use crate::units::GuestPhys;

/// A disk with room for `room` bytes: a write that does not fit is written in part, and fails.
#[derive(Clone)]
struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

impl Disk {
    fn with_room(room: usize) -> Self {
        Self(Arc::new(Mutex::new((Vec::new(), room))))
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().0.clone()
    }
}

impl Sink for Disk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (data, room) = &mut *self.0.lock().unwrap();
        let fits = bytes.len().min(*room - data.len());
        data.extend_from_slice(&bytes[..fits]);
        if fits == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().0.truncate(len as usize);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn event(i: u64) -> Event {
    Event { guest_ns: GuestNs(i), host_ns: HostNs(i), body: EventBody::PhaseEnd { index: i as u32 } }
}

fn checkpoint(base: CaptureBase, value: u8) -> CapturedCheckpoint {
    let mut batch = PageBatch::default();
    for gfn in 0..70 {
        batch.push(gfn, &std::array::from_fn(|i| value ^ (i * gfn as usize) as u8));
    }
    CapturedCheckpoint {
        sample: None,
        guest_ns: GuestNs(0),
        host_ns: HostNs(0),
        ram: std::iter::once(0..70 * PAGE_BYTES as u64).collect(),
        base,
        changed: vec![batch],
        zeroed: Vec::new(),
        left_out: Vec::new(),
    }
}

/// Whatever the room, all records whose writing succeeded are there, whole and in order, and a writer whose disk
/// has room again goes on.
#[test]
fn on_a_full_disk_the_trace_ends_after_a_whole_record_and_goes_on_when_there_is_room() {
    for room in (0..60_000).step_by(997) {
        let disk = Disk::with_room(room);
        let mut writer = TraceWriter::to_sink(Box::new(disk.clone()), 7, WriterOptions::default()).unwrap();
        let has_manifest = writer.body(&Manifest::default(), Labels::default()).is_ok();
        let mut written = Vec::new();
        for i in 0..20 {
            if writer.events(&[event(i)]).is_ok() {
                written.push(event(i));
            }
            // A checkpoint that failed is followed by a full one.
            let _ = writer.checkpoint(&checkpoint(writer.pages.base, i as u8));
        }
        disk.0.lock().unwrap().1 = usize::MAX;
        writer.events(&[event(99)]).unwrap();
        written.push(event(99));
        let last = writer.checkpoint(&checkpoint(writer.pages.base, 200)).unwrap();
        writer.finish().unwrap();

        let trace = Trace::from_bytes(disk.bytes()).unwrap();
        assert_eq!(trace.manifest().is_ok(), has_manifest);
        assert_eq!(trace.events(), written, "{room} bytes");
        assert_eq!(trace.checkpoints().len() as u32, last + 1);
        let faults = trace.verify().faults;
        assert!(faults.iter().all(|fault| !has_manifest && fault.offset == 0), "{room} bytes: {faults:?}");
    }
}

/// As those of the history are when a disk was slow, and many have gathered.
#[test]
fn events_that_are_too_much_for_one_record_are_several() {
    let disk = Disk::with_room(1 << 30);
    let mut writer = TraceWriter::to_sink(Box::new(disk.clone()), 7, WriterOptions::default()).unwrap();
    writer.body(&Manifest::default(), Labels::default()).unwrap();
    let large = |i: u64| Event { body: EventBody::Console(vec![i as u8; 1 << 20]), ..event(i) };
    let events: Vec<Event> = (0..70).map(large).collect();
    writer.events(&events).unwrap();
    writer.finish().unwrap();
    let trace = Trace::from_bytes(disk.bytes()).unwrap();
    assert_eq!(trace.events(), events);
    assert!(trace.verify().is_clean());
}

/// The pages of a checkpoint that did not fit make room for what is small.
#[test]
fn a_checkpoint_that_does_not_fit_is_taken_back_whole() {
    let disk = Disk::with_room(20_000);
    let mut writer = TraceWriter::to_sink(Box::new(disk.clone()), 7, WriterOptions::default()).unwrap();
    writer.body(&Manifest::default(), Labels::default()).unwrap();
    let before = disk.bytes();
    let mut large = checkpoint(CaptureBase::Zero, 1);
    let mut batch = PageBatch::default();
    for gfn in 0..200u64 {
        let mut noise = gfn + 1;
        batch.push(
            gfn,
            &std::array::from_fn(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise as u8
            }),
        );
    }
    large.changed = vec![batch];
    large.ram = std::iter::once(0..200 * PAGE_BYTES as u64).collect();
    assert!(writer.checkpoint(&large).is_err());
    assert_eq!(disk.bytes(), before, "a part of it is left");
    writer.events(&[event(1)]).unwrap();
    // The same pages, once there is room: none of them counts as stored.
    disk.0.lock().unwrap().1 = usize::MAX;
    let index = writer.checkpoint(&large).unwrap();
    writer.finish().unwrap();
    let trace = Trace::from_bytes(disk.bytes()).unwrap();
    assert!(trace.verify().is_clean(), "{:?}", trace.verify());
    assert_eq!((index, trace.events()), (0, vec![event(1)]));
    let mut page = [0; PAGE_BYTES];
    trace.checkpoint_memory(0).unwrap().read(GuestPhys(150 * PAGE_BYTES as u64), &mut page).unwrap();
    assert_eq!(large.changed[0].iter().nth(150).unwrap().2, &page);
}

#[test]
fn writer_and_reader_can_go_to_other_threads() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<TraceWriter>();
    is_send::<CapturedCheckpoint>();
    is_send::<Trace>();
    is_sync::<Trace>();
}
