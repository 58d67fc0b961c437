//! Memory of one worker, mapped after the fork: that is a system call, where an allocation could wait for a lock.

use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;

use rustix::io::{Errno, Result};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::super::member::PAGE;
use super::{Ended, Never, Worker, turn};

/// Private memory, zeroed, in pages of the base size.
#[derive(Debug)]
pub struct Buffer {
    base: NonNull<u8>,
    bytes: usize,
}

impl Buffer {
    /// Map so many bytes, at least one.
    ///
    /// # Errors
    /// The kernel's, when memory cannot be mapped.
    pub fn new(bytes: usize) -> Result<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), bytes, protection, flags) }?;
        let base = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
        let buffer = Self { base, bytes };
        // Fails on a kernel without huge pages, which has no others then.
        // SAFETY: the advice changes how the mapping is filled, not what it holds.
        let _ = unsafe { madvise(base.as_ptr().cast(), bytes, Advice::LinuxNoHugepage) };
        Ok(buffer)
    }

    /// Give all pages back: the next touch of each is a fault, and finds zeros.
    ///
    /// # Errors
    /// The kernel's.
    pub fn drop_pages(&mut self) -> Result<()> {
        // SAFETY: the pages of this mapping, which nobody else has, become zeros, which are valid bytes.
        unsafe { madvise(self.base.as_ptr().cast(), self.bytes, Advice::LinuxDontNeed) }
    }

    /// Write to each page once.
    pub fn touch(&mut self) {
        for byte in self.iter_mut().step_by(PAGE) {
            *byte = byte.wrapping_add(1);
        }
    }

    /// Write to each cache line once.
    pub fn sweep(&mut self) {
        for byte in self.iter_mut().step_by(64) {
            *byte = std::hint::black_box(byte.wrapping_add(1));
        }
    }
}

/// Do a pass over memory of the worker's own, over and over; each is a unit. At the end the worker notes where the memory is.
///
/// # Errors
/// How it ended. There is no other end.
pub fn passes(
    worker: &mut Worker<'_>,
    bytes: usize,
    mut pass: impl FnMut(&mut Buffer) -> Result<()>,
) -> std::result::Result<Never, Ended> {
    let mut buffer = Buffer::new(bytes)?;
    loop {
        pass(&mut buffer)?;
        if let Err(ended) = turn(worker, 1) {
            worker.note_pages(&buffer);
            return Err(ended);
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `new` mapped so many bytes, which stay until `self` is dropped and of which only `self` knows.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.bytes) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.base.as_ptr(), self.bytes) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: this mapping of that size was made by `new`, and no reference outlives `self`.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}
