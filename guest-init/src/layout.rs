//! The channel's place in guest memory.
//!
//! A part of guest RAM, reserved by `memmap=SIZE$BASE`, that init maps through `/dev/mem` and the host through
//! its mapping of the guest's RAM. Page 0 is the header, the rest two rings of bytes:
//!
//! ```text
//! 0x000 magic    u64   MAGIC                       written by init
//! 0x008 version  u32   PROTOCOL_VERSION            written by init
//! 0x00c state    u32   STATE_*                     written by init
//! 0x040 to_host.head   u64  bytes produced so far  written by init
//! 0x080 to_host.tail   u64  bytes consumed so far  written by the host
//! 0x0c0 to_guest.head  u64  bytes produced so far  written by the host
//! 0x100 to_guest.tail  u64  bytes consumed so far  written by init
//! 0x140 capture_ack    u64  id of the last capture request that was served, or its complement if it could not be, written by the host
//! 0x1000             to_guest ring, TO_GUEST_BYTES
//! 0x1000 + TO_GUEST  to_host ring, TO_HOST_BYTES
//! ```
//!
//! Neither side takes an offset or a length from the other: sizes are constants of the version.

use std::sync::atomic::AtomicU64;

use crate::ring::Ring;

/// First eight bytes of the channel memory once init has set it up.
pub const MAGIC: u64 = u64::from_le_bytes(*b"KTSTRCH1");
/// Version of layout, frames and messages together.
pub const PROTOCOL_VERSION: u32 = 6;
/// Nothing is there yet.
pub const STATE_EMPTY: u32 = 0;
/// init is up and waits for its job: the moment at which a template is saved.
pub const STATE_READY: u32 = 1;
/// init has taken its job.
pub const STATE_BUSY: u32 = 2;
/// The scheduler is enabled, and init waits for the test: the moment at which a template with an attached scheduler is
/// saved.
pub const STATE_ATTACHED: u32 = 4;
/// init is about to power off; nothing will follow in the ring.
pub const STATE_DONE: u32 = 3;

/// Offset of the magic.
pub const OFF_MAGIC: usize = 0x000;
/// Offset of the version.
pub const OFF_VERSION: usize = 0x008;
/// Offset of the state word.
pub const OFF_STATE: usize = 0x00c;
/// Offset of the to-host ring's head.
pub const OFF_TO_HOST_HEAD: usize = 0x040;
/// Offset of the to-host ring's tail.
pub const OFF_TO_HOST_TAIL: usize = 0x080;
/// Offset of the to-guest ring's head.
pub(crate) const OFF_TO_GUEST_HEAD: usize = 0x0c0;
/// Offset of the to-guest ring's tail.
pub(crate) const OFF_TO_GUEST_TAIL: usize = 0x100;
/// Offset of the id of the last capture request that the host has served.
pub(crate) const OFF_CAPTURE_ACK: usize = 0x140;
/// Offset of the to-guest ring.
pub(crate) const OFF_TO_GUEST_RING: usize = 0x1000;
/// Size of the to-guest ring in bytes, a power of two.
pub(crate) const TO_GUEST_BYTES: usize = 4 << 20;
/// Offset of the to-host ring.
pub const OFF_TO_HOST_RING: usize = OFF_TO_GUEST_RING + TO_GUEST_BYTES;
/// Size of the to-host ring in bytes, a power of two.
pub const TO_HOST_BYTES: usize = 2 << 20;
/// Size of the channel memory in bytes, a multiple of 2 MiB so that it splits no huge page of its neighbours.
pub const CHANNEL_BYTES: usize = 8 << 20;

/// Size of the channel memory in words of 8 bytes.
pub const CHANNEL_WORDS: usize = CHANNEL_BYTES / 8;

const _: () = assert!(OFF_TO_HOST_RING + TO_HOST_BYTES <= CHANNEL_BYTES);
// Version and state are the halves of one word, because memory is shared in words.
const _: () = assert!(OFF_VERSION.is_multiple_of(8) && OFF_STATE == OFF_VERSION + 4);

/// Memory that both sides share.
///
/// Implemented by init's mapping of the channel memory and by the host's; every access is atomic, whatever the other side
/// does at the same time.
pub trait ChannelMemory {
    /// All words of the channel memory. The same memory at each call.
    fn words(&self) -> &[AtomicU64; CHANNEL_WORDS];

    /// The ring from init to the host.
    fn to_host(&self) -> Ring<'_> {
        ring(self.words(), OFF_TO_HOST_HEAD, OFF_TO_HOST_TAIL, OFF_TO_HOST_RING, TO_HOST_BYTES)
    }

    /// The ring from the host to init.
    fn to_guest(&self) -> Ring<'_> {
        ring(self.words(), OFF_TO_GUEST_HEAD, OFF_TO_GUEST_TAIL, OFF_TO_GUEST_RING, TO_GUEST_BYTES)
    }

    /// The magic.
    fn magic(&self) -> &AtomicU64 {
        &self.words()[OFF_MAGIC / 8]
    }

    /// Version in the lower half, state in the upper.
    fn version_and_state(&self) -> &AtomicU64 {
        &self.words()[OFF_VERSION / 8]
    }

    /// The id of the last capture that the host has served.
    fn capture_ack(&self) -> &AtomicU64 {
        &self.words()[OFF_CAPTURE_ACK / 8]
    }
}

/// All four places are constants of this module, within the channel memory.
fn ring(words: &[AtomicU64; CHANNEL_WORDS], head: usize, tail: usize, data: usize, bytes: usize) -> Ring<'_> {
    Ring::new(&words[head / 8], &words[tail / 8], &words[data / 8..(data + bytes) / 8])
}

/// Kernel command line key that tells init where the channel memory is: `ktstr.channel=0xBASE`.
pub const CMDLINE_CHANNEL: &str = "ktstr.channel";
/// Kernel command line key that names the doorbell: `ktstr.doorbell=page`, `ktstr.doorbell=port:0xPORT` or
/// `ktstr.doorbell=none`.
pub const CMDLINE_DOORBELL: &str = "ktstr.doorbell";
/// Virtual address at which init maps the doorbell page (`ktstr.doorbell=page`): a store of a capture request's
/// id to its first eight bytes stops the machine at the next instruction, by a watchpoint that the host keeps
/// there. Unusual enough that no other program maps it by chance.
pub const DOORBELL_PAGE: u64 = 0x6b74_7000_0000;
/// The port of the KVM machine's doorbell: a write of 32 bits stops the machine when the instruction is complete. Beside the
/// ports of ACPI, where a PC has nothing.
pub const DOORBELL_PORT: u16 = 0x5f0;
