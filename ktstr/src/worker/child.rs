//! The fork, and the life of a worker after it.

use std::sync::atomic::Ordering;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

use super::links::Links;
use super::meter::Meter;
use super::shared::{Header, Slot, SlotState};
use super::work::{Ended, WorkType};

/// What a worker is to do, all of it made before the fork.
#[derive(Debug)]
pub struct Task<'a> {
    /// The common flags.
    pub header: &'a Header,
    /// Where to report to.
    pub slot: &'a Slot,
    /// The work.
    pub work: WorkType,
    /// The worker's number in its gang.
    pub member: usize,
    /// The pipes of the whole gang, by member; the worker keeps its own.
    pub ring: Vec<Links>,
}

/// Fork a worker, which then waits for the common start. Returns its pid and the gang's pipes.
///
/// # Errors
/// The kernel's, when there can be no more processes.
pub fn fork(mut task: Task<'_>) -> Result<(Pid, Vec<Links>), Errno> {
    let parent = getpid();
    // SAFETY: the child may be a copy of a process with threads, so it may only do what is async-signal-safe until
    // it exits: `live` makes system calls, reads clocks and stores to shared atomics; it neither allocates, nor
    // takes locks, nor unwinds, and ends by `_exit`.
    match unsafe { libc::fork() } {
        0 => live(&mut task, parent),
        pid if pid > 0 => match Pid::from_raw(pid) {
            Some(pid) => Ok((pid, task.ring)),
            None => Err(Errno::SRCH),
        },
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::AGAIN)),
    }
}

fn live(task: &mut Task<'_>, parent: Pid) -> ! {
    // A worker must not outlive the test. The second look is for a parent that died before the first call.
    let bound = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    if !bound || getppid() != Some(parent) {
        exit(2);
    }
    // Truncating and swapping closes the pipes of the others, so that an ended worker is noticed. It frees no
    // memory: the vector keeps its room, and the process ends without dropping it.
    if task.member < task.ring.len() {
        task.ring.swap(0, task.member);
        task.ring.truncate(1);
    }
    let mut meter = Meter::begin(task.header, task.slot);
    let state = match task.work.run(&mut meter, task.member, task.ring.first()) {
        Ended::Told => SlotState::Done,
        Ended::PeerGone => SlotState::PeerGone,
        Ended::Failed(errno) => {
            task.slot.errno.store(errno.raw_os_error().cast_unsigned(), Ordering::Relaxed);
            SlotState::Failed
        }
    };
    meter.end(state);
    exit(0)
}

fn exit(code: i32) -> ! {
    // SAFETY: `_exit` is async-signal-safe: it runs no exit handlers and flushes no buffers of the parent's.
    unsafe { libc::_exit(code) }
}
