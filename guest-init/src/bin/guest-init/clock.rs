//! Wall clock and randomness: what a machine that was restored from a template has from another day.

use std::fs::File;
use std::os::fd::AsRawFd;

use rustix::ioctl::opcode;
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::Failure;

/// `linux/random.h`.
const RNDADDENTROPY: libc::Ioctl = opcode::write::<[libc::c_int; 2]>(b'R', 3) as libc::Ioctl;
/// `linux/random.h`.
const RNDRESEEDCRNG: libc::Ioctl = opcode::none(b'R', 7) as libc::Ioctl;
/// Largest seed that is taken, in bytes; the kernel's pool holds half of it.
const SEED_BYTES: usize = 64;

/// Set `CLOCK_REALTIME`, ns since the epoch.
pub fn set_wall_clock(ns: u64) -> Result<(), Failure> {
    let time =
        Timespec { tv_sec: (ns / 1_000_000_000).cast_signed(), tv_nsec: (ns % 1_000_000_000).cast_signed() };
    clock_settime(ClockId::Realtime, time)
        .map_err(|error| format!("setting the wall clock to {ns} ns: {error}"))
}

/// `struct rand_pool_info` of `linux/random.h` with its bytes.
#[repr(C)]
struct Entropy {
    entropy_bits: libc::c_int,
    bytes: libc::c_int,
    pool: [u8; SEED_BYTES],
}

/// Credit the seed to the kernel's pool and have its generator take it in at once, so that two guests of one
/// template draw different numbers.
pub fn seed_randomness(seed: &[u8]) -> Result<(), Failure> {
    let bytes = seed.len().min(SEED_BYTES);
    let mut entropy = Entropy { entropy_bits: bytes as i32 * 8, bytes: bytes as i32, pool: [0; SEED_BYTES] };
    entropy.pool[..bytes].copy_from_slice(&seed[..bytes]);
    let urandom = File::options()
        .write(true)
        .open("/dev/urandom")
        .map_err(|error| format!("opening /dev/urandom: {error}"))?;
    // SAFETY: RNDADDENTROPY reads a rand_pool_info and the `bytes` bytes that follow; `entropy` has both.
    let added = unsafe { libc::ioctl(urandom.as_raw_fd(), RNDADDENTROPY, &raw const entropy) };
    if added != 0 {
        return Err(format!("adding {bytes} bytes of entropy: {}", std::io::Error::last_os_error()));
    }
    // SAFETY: RNDRESEEDCRNG takes no argument.
    match unsafe { libc::ioctl(urandom.as_raw_fd(), RNDRESEEDCRNG) } {
        0 => Ok(()),
        _ => Err(format!("reseeding the kernel's generator: {}", std::io::Error::last_os_error())),
    }
}
