//! What init does to the guest's system: file systems, its own priority, wall clock and randomness (a machine that was
//! restored from a template has those of another day), and the end.

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use rustix::ioctl::opcode;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::Failure;

/// Type and place of one file system; the source is the type.
type Mount = (&'static str, &'static str);

/// What the channel needs: the command line and `/dev/mem`.
const FOR_CHANNEL: [Mount; 2] = [("proc", "/proc"), ("devtmpfs", "/dev")];

/// The rest, parents before children.
const REST: [Mount; 8] = [
    ("sysfs", "/sys"),
    ("debugfs", "/sys/kernel/debug"),
    ("tracefs", "/sys/kernel/tracing"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("bpf", "/sys/fs/bpf"),
    ("tmpfs", "/dev/shm"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
];

/// Mount `/proc` and `/dev`.
pub fn mount_for_channel() -> Result<(), Failure> {
    mount_all(&FOR_CHANNEL)
}

/// Mount everything else.
pub fn mount_rest() -> Result<(), Failure> {
    mount_all(&REST)
}

fn mount_all(mounts: &[Mount]) -> Result<(), Failure> {
    for (kind, place) in mounts {
        // sysfs has its mount points already and lets no one make others.
        if !fs::exists(place).unwrap_or(false) {
            fs::create_dir_all(place).map_err(|error| format!("making the folder {place}: {error}"))?;
        }
        mount(*kind, *place, *kind, MountFlags::empty(), None)
            .map_err(|error| format!("mounting {kind} at {place}: {error}; is it built into this kernel?"))?;
    }
    Ok(())
}

/// In the middle of the real-time range: above every sched_ext task, below the kernel's own migration threads.
const PRIORITY: libc::c_int = 50;

/// Run as `SCHED_FIFO` with everything resident. Children start as ordinary tasks.
pub fn raise_priority() -> Result<(), Failure> {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).map_err(|error| format!("mlockall: {error}"))?;
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: pid 0 is this thread and `parameters` outlives the call.
    match unsafe { libc::sched_setscheduler(0, policy, &parameters) } {
        0 => Ok(()),
        _ => Err(format!("sched_setscheduler to SCHED_FIFO: {}", std::io::Error::last_os_error())),
    }
}

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

/// Power off. If the kernel refuses, PID 1 exits, which is a kernel panic: the host sees an end in any case.
pub fn power_off() -> ! {
    rustix::fs::sync();
    let refused = reboot(RebootCommand::PowerOff);
    eprintln!("guest-init: powering off: {refused:?}");
    std::process::exit(1)
}
