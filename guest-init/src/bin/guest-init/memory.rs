//! Init's mappings: the channel memory that it shares with the host, and the doorbell page.

use std::ffi::c_void;
use std::fs::OpenOptions;
use std::sync::atomic::AtomicU64;

use guest_init::layout::{CHANNEL_BYTES, CHANNEL_WORDS, ChannelMemory, DOORBELL_PAGE};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous};

use crate::Failure;

/// The channel memory, mapped through `/dev/mem` for as long as the guest lives.
pub struct DevMem(&'static [AtomicU64; CHANNEL_WORDS]);

impl DevMem {
    /// Map the channel memory at this guest-physical address.
    pub fn map(base: u64) -> Result<Self, Failure> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/mem")
            .map_err(|error| format!("opening /dev/mem: {error}; the channel needs CONFIG_DEVMEM"))?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses; no Rust object lies there.
        let mapping =
            unsafe { mmap(std::ptr::null_mut(), CHANNEL_BYTES, protection, MapFlags::SHARED, &file, base) };
        let mapping = mapping.map_err(|error| {
            format!("mapping {CHANNEL_BYTES:#x} bytes of /dev/mem at {base:#x}: {error}; is memmap= on the command line?")
        })?;
        // SAFETY: the advice concerns this new mapping only: children, which are to become other programs, do
        // without it, so that a fork need not copy its page tables.
        let advised = unsafe { madvise(mapping, CHANNEL_BYTES, Advice::LinuxDontFork) };
        advised.map_err(|error| format!("madvise of the channel memory: {error}"))?;
        // SAFETY: the mapping is page-aligned, CHANNEL_BYTES long, readable and writable, and never unmapped; any
        // bytes are a valid AtomicU64, and all access to them on this side is through these atomics.
        Ok(Self(unsafe { &*mapping.cast() }))
    }
}

impl ChannelMemory for DevMem {
    fn words(&self) -> &[AtomicU64; CHANNEL_WORDS] {
        self.0
    }
}

/// Map the doorbell page and return its first word.
pub fn map_doorbell() -> Result<&'static AtomicU64, Failure> {
    let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE | MapFlags::POPULATE;
    let at = DOORBELL_PAGE as *mut c_void;
    // SAFETY: FIXED_NOREPLACE fails rather than replace a mapping, so nothing of ours can lie there.
    let page = unsafe { mmap_anonymous(at, 4096, ProtFlags::READ | ProtFlags::WRITE, flags) };
    let page = page.map_err(|error| format!("mapping the doorbell page at {DOORBELL_PAGE:#x}: {error}"))?;
    // SAFETY: the page was just mapped, readable, writable and zero, and is never unmapped.
    Ok(unsafe { &*page.cast() })
}
