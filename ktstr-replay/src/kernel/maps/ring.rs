//! Ring buffers: how full, and what waits in them.
//!
//! Source: `kernel/bpf/ringbuf.c` of Linux. A record is a `struct bpf_ringbuf_hdr` (8 bytes) and its data, padded to
//! 8; the upper two bits of the header's length say that it is still being written, or was discarded.

use serde::Serialize;

use super::{BpfRingbuf, BpfRingbufMap};
use crate::kernel::{KernelError, KernelView};
use crate::units::KernelVirt;

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER_BYTES: u64 = 8;
/// Most records that are counted.
const MAX_RECORDS: usize = 65_536;

/// A ring buffer at one moment. Positions are bytes since its creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RingState {
    /// Room for records and their headers, in bytes.
    pub size_bytes: u64,
    /// Up to where the reader has read.
    pub consumer_pos: u64,
    /// Up to where writers have reserved.
    pub producer_pos: u64,
    /// Records between the two that are whole.
    pub ready: usize,
    /// Records between the two that are being written.
    pub busy: usize,
    /// Records between the two that their writers gave up.
    pub discarded: usize,
}

impl RingState {
    /// Bytes between the reader and the writers.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.producer_pos.wrapping_sub(self.consumer_pos)
    }

    /// `BPF_MAP_TYPE_RINGBUF` at `at`, and `BPF_MAP_TYPE_USER_RINGBUF`.
    pub(super) fn read(view: &KernelView<'_>, at: KernelVirt) -> Result<Self, KernelError> {
        let map: BpfRingbufMap = view.mirror(at)?;
        let ring: BpfRingbuf = view.mirror(map.rb)?;
        let size_bytes = ring.mask.wrapping_add(1);
        let mut state = Self {
            size_bytes,
            consumer_pos: ring.consumer_pos,
            producer_pos: ring.producer_pos,
            ..Self::default()
        };
        let broken = |why: String| KernelError::Broken { what: "a BPF ring buffer", at, why };
        if !size_bytes.is_power_of_two() || state.pending_bytes() > size_bytes {
            return Err(broken(format!("{} bytes wait in a buffer of {size_bytes}", state.pending_bytes())));
        }
        let mut position = ring.consumer_pos;
        for _ in 0..MAX_RECORDS {
            if position >= ring.producer_pos {
                return Ok(state);
            }
            let header = view.u32(KernelVirt(ring.data.0.0.wrapping_add(position & ring.mask)))?;
            match (header & BUSY != 0, header & DISCARDED != 0) {
                (true, _) => state.busy += 1,
                (_, true) => state.discarded += 1,
                _ => state.ready += 1,
            }
            let len = u64::from(header & !(BUSY | DISCARDED));
            position = position.wrapping_add((len + HEADER_BYTES).next_multiple_of(HEADER_BYTES));
        }
        Err(broken(format!("more than {MAX_RECORDS} records wait")))
    }
}
