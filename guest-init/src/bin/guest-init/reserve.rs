//! A file whose pages are there before its contents. The host writes those into guest memory while the machine is
//! stopped, which an emulated CPU would take a second for each 50 MB to do.
//!
//! The pages are allocated, mapped and locked before the job comes. For a file that the host wants to place, each page gets
//! a stamp, and the host is told where they lie by `/proc/self/pagemap`. It writes only if it finds every stamp, so
//! that a page which is not where it is thought to be costs a slower delivery and nothing else. Then the file gets its name.

use std::ffi::c_void;
use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use rustix::system::sysinfo;

use crate::Failure;

/// Where the file is until it has its name: on the root file system, as what is delivered is.
const PATH: &str = "/.ktstr-reserve";
/// Larger than most test binaries without their debug sections.
const MOST_BYTES: usize = 32 << 20;
/// The part of RAM that it takes at most is one of so many.
const PART_OF_RAM: u64 = 16;
const PAGE_BYTES: usize = 4096;
/// The size of a huge page, of which the file is made as far as the kernel can.
const HUGE_BYTES: usize = 2 << 20;
/// The kernel's policy for huge pages of the root file system: all words there are, the chosen one in brackets.
const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
/// A page in memory, in an entry of `/proc/PID/pagemap`. Source: Documentation/admin-guide/mm/pagemap.rst.
const PRESENT: u64 = 1 << 63;
/// The bits of such an entry that are the frame's number.
const FRAME: u64 = (1 << 55) - 1;

/// The pages, until a file is made of them.
pub struct Reserve {
    at: *mut c_void,
    bytes: usize,
}

/// The word in brackets.
fn chosen(policies: &str) -> Option<&str> {
    policies.split_once('[')?.1.split_once(']').map(|(word, _)| word)
}

/// What the host has to know to write into the pages.
pub struct GivenPages {
    /// The page of index `i` begins with this value XOR `i`.
    pub stamp: u64,
    /// The frames of the pages, in the file's order.
    pub frames: Vec<u64>,
}

impl Reserve {
    /// Allocate the pages; `None` where there is not enough memory, or a root file system that cannot.
    pub fn allocate() -> Option<Self> {
        let info = sysinfo();
        let ram = (info.totalram as u64).saturating_mul(info.mem_unit.into());
        let bytes = usize::try_from(ram / PART_OF_RAM).ok()?.min(MOST_BYTES) / HUGE_BYTES * HUGE_BYTES;
        let mapped = Self::map(bytes);
        if mapped.is_none() {
            let _there_may_be_none = fs::remove_file(PATH);
        }
        mapped
    }

    fn map(bytes: usize) -> Option<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(PATH).ok()?;
        let policies = fs::read_to_string(HUGE_PAGES).ok();
        // Small pages serve as well, at 10 us each of an emulated CPU to give them back.
        let _small = fs::write(HUGE_PAGES, "force");
        let allocated = fallocate(&file, FallocateFlags::empty(), 0, bytes as u64);
        if let Some(policy) = policies.as_deref().and_then(chosen) {
            fs::write(HUGE_PAGES, policy).ok()?;
        }
        allocated.ok()?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new mapping at an address that the kernel chooses; no Rust object lies there. Nobody truncates the
        // file while it is mapped.
        let at = unsafe { mmap(std::ptr::null_mut(), bytes, protection, flags, &file, 0) }.ok()?;
        let reserve = Self { at, bytes };
        // SAFETY: the advice concerns this new mapping only: children do without it.
        unsafe { madvise(at, bytes, Advice::LinuxDontFork) }.ok()?;
        Some(reserve)
    }

    /// Stamp the pages for a file of `bytes`, as far as they go, and say where they are. `None` if that cannot be known.
    pub fn place(&mut self, bytes: u64, stamp: u64) -> Option<GivenPages> {
        let covered = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.bytes);
        let pages = covered.div_ceil(PAGE_BYTES);
        for index in 0..pages {
            // SAFETY: within the mapping, aligned to a page.
            let word = unsafe { self.at.byte_add(index * PAGE_BYTES) }.cast::<u64>();
            // SAFETY: the mapping is readable, writable and lives as long as `self`; all access to it is by atomics.
            unsafe { AtomicU64::from_ptr(word) }.store(stamp ^ index as u64, Ordering::SeqCst);
        }
        let mut entries = vec![0; pages * 8];
        let offset = (self.at.addr() / PAGE_BYTES * 8) as u64;
        File::open("/proc/self/pagemap").ok()?.read_exact_at(&mut entries, offset).ok()?;
        let (entries, _) = entries.as_chunks::<8>();
        let frame = |entry: &[u8; 8]| {
            let entry = u64::from_le_bytes(*entry);
            // Who may not know a frame's number reads 0.
            Some(entry & FRAME).filter(|&frame| entry & PRESENT != 0 && frame != 0)
        };
        let frames = entries.iter().map(frame).collect::<Option<Vec<u64>>>()?;
        Some(GivenPages { stamp, frames })
    }

    /// The host has written a file of `bytes`, as far as the pages go: give it its name. Returns how much of it is there.
    pub fn name(self, path: &Path, mode: u32, bytes: u64) -> Result<u64, Failure> {
        let covered = bytes.min(self.bytes as u64);
        self.unmap();
        let name = || {
            let file = File::options().write(true).open(PATH)?;
            file.set_len(covered)?;
            file.set_permissions(Permissions::from_mode(mode))?;
            fs::rename(PATH, path).or_else(|error| match error.kind() {
                // It goes where something is mounted: `/tmp`.
                ErrorKind::CrossesDevices => {
                    fs::copy(PATH, path)?;
                    fs::remove_file(PATH)
                }
                _ => Err(error),
            })
        };
        name().map_err(|error| format!("naming what the host has placed {}: {error}", path.display()))?;
        Ok(covered)
    }

    /// Give the pages back.
    pub fn free(self) {
        self.unmap();
        // Its space is missed by nobody if it stays.
        let _stays = fs::remove_file(PATH);
    }

    fn unmap(self) {
        // SAFETY: the mapping is this value's own, which ends here; nothing points into it.
        let _stays_mapped = unsafe { munmap(self.at, self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_chosen_policy_is_the_one_in_brackets() {
        assert_eq!(super::chosen("always within_size advise [never] deny force\n"), Some("never"));
        assert_eq!(super::chosen("never"), None);
    }
}
