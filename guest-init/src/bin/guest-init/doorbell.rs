//! The doorbell: what init does to stop the machine.

use std::arch::asm;
use std::ffi::{c_int, c_long, c_ulong, c_void};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use guest_init::layout::DOORBELL_PAGE;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use crate::Failure;

/// Ports that a write of 32 bits takes.
const PORT_BYTES: c_ulong = 4;

/// What stops the machine, as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorbellKind {
    /// A store to a page that the host watches.
    Page,
    /// A write to this port.
    Port(u16),
}

/// A doorbell that can be rung.
#[derive(Clone, Copy, Debug)]
pub enum Doorbell {
    /// The first word of its page.
    Page(&'static AtomicU64),
    /// Its port.
    Port(u16),
}

impl Doorbell {
    /// Make it ready to be rung, and find out that it can be.
    ///
    /// # Errors
    /// Why it cannot be rung.
    pub fn open(kind: DoorbellKind) -> Result<Self, Failure> {
        match kind {
            DoorbellKind::Page => map_page().map(Self::Page),
            DoorbellKind::Port(port) => {
                let failed = |error: io::Error| {
                    format!(
                        "asking for port {port:#x}, the doorbell: {error}; it needs CONFIG_X86_IOPL_IOPERM"
                    )
                };
                permit(port, true).map_err(failed)?;
                permit(port, false).map_err(failed)?;
                Ok(Self::Port(port))
            }
        }
    }

    /// Ring it for the capture request `id`: the machine stops, and goes on when that is served.
    pub fn ring(&self, id: u64) {
        match *self {
            Self::Page(word) => word.store(id, Ordering::SeqCst),
            Self::Port(port) => {
                // Only for as long as it rings: children would have the permission, too. Where it is refused now, the host
                // finds the request in the channel a moment later.
                if permit(port, true).is_ok() {
                    // SAFETY: the process may write to this port; the write stops the machine, and changes nothing in its memory.
                    unsafe {
                        asm!("out dx, eax", in("dx") port, in("eax") id as u32, options(nostack, preserves_flags))
                    };
                    let _ = permit(port, false);
                }
            }
        }
    }
}

/// Let this thread use the doorbell's port, or not.
fn permit(port: u16, turn_on: bool) -> io::Result<()> {
    let (from, on) = (c_ulong::from(port), c_int::from(turn_on));
    // SAFETY: ioperm(2) takes three numbers and touches no memory of this process.
    let done: c_long = unsafe { libc::syscall(libc::SYS_ioperm, from, PORT_BYTES, on) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Map the doorbell page and return its first word.
fn map_page() -> Result<&'static AtomicU64, Failure> {
    let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE | MapFlags::POPULATE;
    let at = DOORBELL_PAGE as *mut c_void;
    // SAFETY: FIXED_NOREPLACE fails rather than replace a mapping, so nothing of ours can lie there.
    let page = unsafe { mmap_anonymous(at, 4096, ProtFlags::READ | ProtFlags::WRITE, flags) };
    let page = page.map_err(|error| format!("mapping the doorbell page at {DOORBELL_PAGE:#x}: {error}"))?;
    // SAFETY: the page was just mapped, readable, writable and zero, and is never unmapped.
    Ok(unsafe { &*page.cast() })
}
