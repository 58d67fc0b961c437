//! Init's end of the channel.

use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use guest_init::layout::{ChannelMemory, MAGIC, PROTOCOL_VERSION, STATE_ATTACHED};
use guest_init::message::{CaptureReason, GuestStage, Source, ToHost};
use guest_init::ring::{Event, Loss, PushError, Reader, Writer};
use rkyv::rancor;
use rkyv::util::AlignedVec;
use rustix::time::{ClockId, clock_gettime};

use crate::Failure;
use crate::doorbell::Doorbell;
use crate::memory::{Cmdline, DevMem};

/// Room that output, kernel log and statistics leave for what must get through.
const RESERVE_BYTES: u64 = 256 << 10;
/// How long a full ring is waited for before frames are dropped. The host reads every millisecond; a stopped
/// machine does not count, because its clock does not advance.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the host may take to serve a capture.
const CAPTURE_PATIENCE: Duration = Duration::from_secs(10);

/// Frames to the host, frames from it, and the doorbell.
pub struct Link {
    memory: DevMem,
    doorbell: Option<Doorbell>,
    writer: Writer,
    reader: Reader,
    payload: AlignedVec,
    dropped_frames: u64,
    dropped_bytes: u64,
    captures: u64,
}

impl Link {
    /// Map the channel memory and announce this version of the protocol in it.
    pub fn open(cmdline: &Cmdline) -> Result<Self, Failure> {
        let memory = DevMem::map(cmdline.channel)?;
        let doorbell = cmdline.doorbell.map(Doorbell::open).transpose()?;
        let link = Self {
            memory,
            doorbell,
            writer: Writer::default(),
            reader: Reader::default(),
            payload: AlignedVec::new(),
            dropped_frames: 0,
            dropped_bytes: 0,
            captures: 0,
        };
        link.memory.version_and_state().store(u64::from(PROTOCOL_VERSION), Ordering::Release);
        link.memory.magic().store(MAGIC, Ordering::Release);
        Ok(link)
    }

    /// Publish one of the layout's states.
    pub fn set_state(&self, state: u32) {
        let word = u64::from(PROTOCOL_VERSION) | u64::from(state) << 32;
        self.memory.version_and_state().store(word, Ordering::Release);
    }

    /// Say that the scheduler is enabled and the test may come: from this host, or from another after a restore.
    pub fn await_test(&mut self) {
        self.reader.expect_another_writer();
        self.set_state(STATE_ATTACHED);
    }

    /// Send a message; when the host makes no room in time, count it as dropped.
    pub fn send(&mut self, message: &ToHost) {
        let time_ns = monotonic_ns();
        let payload = match rkyv::to_bytes::<rancor::Error>(message) {
            Ok(payload) => payload,
            Err(error) => return eprintln!("guest-init: archiving a message: {error}"),
        };
        let reserve = match message {
            ToHost::Output { .. } | ToHost::Kmsg { .. } | ToHost::Stats { .. } => RESERVE_BYTES,
            _ => 0,
        };
        // Once a message had to be dropped, waiting helps only after there is room again.
        let patience = if self.report_dropped() { PATIENCE } else { Duration::ZERO };
        let deadline = Instant::now() + patience;
        while let Err(error) = self.writer.push(&self.memory.to_host(), time_ns, &payload, reserve) {
            if matches!(error, PushError::TooLarge { .. }) || Instant::now() >= deadline {
                self.writer.skip();
                self.dropped_frames += 1;
                self.dropped_bytes += payload.len() as u64;
                return;
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// Whether nothing that was dropped remains to be reported.
    fn report_dropped(&mut self) -> bool {
        if self.dropped_frames == 0 {
            return true;
        }
        let message = ToHost::Dropped { frames: self.dropped_frames, bytes: self.dropped_bytes };
        let Ok(payload) = rkyv::to_bytes::<rancor::Error>(&message) else { return false };
        let sent = self.writer.push(&self.memory.to_host(), monotonic_ns(), &payload, 0).is_ok();
        if sent {
            (self.dropped_frames, self.dropped_bytes) = (0, 0);
        }
        sent
    }

    /// Report a stage.
    pub fn stage(&mut self, stage: GuestStage, detail: impl Into<String>) {
        self.send(&ToHost::Stage { stage, detail: detail.into() });
    }

    /// Say something of init's own, for people.
    pub fn note(&mut self, text: &str) {
        self.send(&ToHost::Output {
            source: Source::Init,
            stderr: true,
            bytes: format!("{text}\n").into_bytes(),
        });
    }

    /// Have a capture taken: when this returns true, it was.
    pub fn capture(&mut self, tag: &str, reason: CaptureReason) -> bool {
        self.ask(tag, reason) == Some(true)
    }

    /// Have the host do something that it stops the machine for. Whether it could; `None`: it did not answer.
    pub fn ask(&mut self, tag: &str, reason: CaptureReason) -> Option<bool> {
        self.captures += 1;
        let id = self.captures;
        self.send(&ToHost::Capture { id, tag: tag.to_owned(), reason });
        if let Some(doorbell) = self.doorbell {
            // The machine stops right after this and goes on when the capture is taken.
            doorbell.ring(id);
        }
        let deadline = Instant::now() + CAPTURE_PATIENCE;
        loop {
            match self.memory.capture_ack().load(Ordering::Acquire) {
                ack if ack == id => return Some(true),
                ack if ack == !id => return Some(false),
                _ => {}
            }
            if Instant::now() >= deadline {
                self.note(&format!("the host did not take capture {id} ({tag}) within {CAPTURE_PATIENCE:?}"));
                return None;
            }
            sleep(Duration::from_micros(500));
        }
    }

    /// The next message from the host, an unchecked archive, or that something of them was lost.
    pub fn receive(&mut self) -> Option<Result<&AlignedVec, Loss>> {
        match self.reader.next(&self.memory.to_guest(), &mut self.payload)? {
            Event::Frame { gap: None, .. } => Some(Ok(&self.payload)),
            Event::Frame { gap: Some(loss), .. } | Event::Loss(loss) => Some(Err(loss)),
        }
    }
}

/// `CLOCK_MONOTONIC` in ns.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}
