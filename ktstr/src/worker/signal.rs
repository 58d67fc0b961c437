//! A real-time signal with a number, by which workers wake each other. It is blocked in every worker, and only taken by
//! waiting for it.

use std::ffi::c_int;
use std::mem::zeroed;
use std::ptr::null_mut;

use libc::{siginfo_t, sigset_t, syscall, timespec};
use rustix::io::{Errno, Result};

/// The C library's first real-time signal. It stays queued, with its value, where others are merged.
fn number() -> c_int {
    libc::SIGRTMIN()
}

/// The head of `siginfo_t` as the kernel reads it for a queued signal.
/// Source: include/uapi/asm-generic/siginfo.h, `_rt` of `__sifields`.
#[repr(C)]
struct Queued {
    signo: c_int,
    errno: c_int,
    code: c_int,
    padding: c_int,
    pid: c_int,
    uid: u32,
    value: u64,
    rest: [u64; 12],
}

const _: () = assert!(size_of::<Queued>() == size_of::<siginfo_t>());

fn set() -> sigset_t {
    // SAFETY: all zeros is a valid, empty set.
    let mut set: sigset_t = unsafe { zeroed() };
    // SAFETY: the set is ours, the signal exists.
    unsafe { libc::sigaddset(&raw mut set, number()) };
    set
}

/// Keep the signal from being delivered to the calling thread, and threads that it makes.
pub fn block() -> Result<()> {
    let set = set();
    // SAFETY: the set is read, and nothing written through the null pointer.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, null_mut()) } {
        0 => Ok(()),
        errno => Err(Errno::from_raw_os_error(errno)),
    }
}

/// Send the signal with a value to a thread of a process.
///
/// # Errors
/// `EAGAIN` when too many are queued already (`RLIMIT_SIGPENDING`), `ESRCH` when the thread is gone.
pub fn send(pid: u32, tid: u32, value: u64) -> Result<()> {
    let signo = number();
    let info = Queued {
        signo,
        errno: 0,
        code: libc::SI_QUEUE,
        padding: 0,
        pid: pid.cast_signed(),
        uid: 0,
        value,
        rest: [0; 12],
    };
    // SAFETY: the kernel reads the structure, which has the size of its own and is borrowed for the call.
    match unsafe { syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, signo, &raw const info) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// Sleep until the signal is there, at most `ms`, and take it: its value.
pub fn take(ms: u32) -> Option<u64> {
    let set = set();
    let timeout = timespec { tv_sec: i64::from(ms / 1000), tv_nsec: i64::from(ms % 1000) * 1_000_000 };
    let mut info =
        Queued { signo: 0, errno: 0, code: 0, padding: 0, pid: 0, uid: 0, value: 0, rest: [0; 12] };
    // SAFETY: the kernel reads set and time, and writes a `siginfo_t`, which has the size of `Queued`.
    let taken = unsafe {
        libc::sigtimedwait(&raw const set, (&raw mut info).cast::<siginfo_t>(), &raw const timeout)
    };
    (taken == number()).then_some(info.value)
}
