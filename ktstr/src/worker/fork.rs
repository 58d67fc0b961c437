//! A worker's life: the fork, its settings, its work and its end.

use std::ffi::{CStr, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::Ordering::Relaxed;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use rustix::thread::{gettid, set_name};

use super::apply::{PreparedSettings, Setting};
use super::comm::WorkerName;
use super::links::{Files, Links};
use super::member::{Ended, Worker, wake};
use super::meter::Meter;
use super::shared::Header;
use super::signal;
use super::slot::{SlotState, WorkerSlot};
use super::sys::{self, Mask};
use super::work::WorkType;

/// What a worker is to do, all of it made before the fork.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The common flags.
    pub header: &'a Header,
    /// The slots of its gang.
    pub gang: &'a [WorkerSlot],
    /// Its number in the gang.
    pub member: usize,
    /// Its number in its group.
    pub index: usize,
    /// Workers of the group.
    pub count: usize,
    /// What the kernel calls it, unless its settings say so.
    pub name: WorkerName,
    /// The work.
    pub work: &'a WorkType,
    /// Its settings.
    pub wanted: &'a PreparedSettings,
    /// Its CPUs.
    pub cpus: Option<Mask>,
    /// Where the cgroup hierarchy is mounted.
    pub cgroup_mount: Option<&'a CStr>,
    /// The process that forks.
    pub parent: Pid,
}

/// Fork a worker. Returns its pid.
///
/// # Errors
/// The kernel's, when there can be no more processes.
pub fn fork_worker(task: &Task<'_>, files: &mut Files) -> Result<Pid, Errno> {
    fork(|| {
        files.keep(task.member);
        live(task, files.ring.first(), files);
    })
}

/// Fork a process whose threads are workers. Returns its pid.
///
/// `name` is the process's, and `room` memory for the threads' handles, made before the fork.
///
/// # Errors
/// The kernel's, when there can be no more processes.
pub fn fork_threads(
    threads: &[Thread<'_>],
    name: WorkerName,
    mut room: Vec<libc::pthread_t>,
) -> Result<Pid, Errno> {
    fork(|| {
        be_called(name);
        if threads.first().is_some_and(|thread| !bind_to(thread.task.parent)) {
            exit(2);
        }
        for thread in threads {
            let mut handle: libc::pthread_t = 0;
            let argument = (&raw const *thread).cast_mut().cast::<c_void>();
            // SAFETY: the thread gets a `Thread` that stays until it is joined below. The C library's own locks and its
            // allocator are whole after a fork (its handlers see to that), and it is all that is called here.
            match unsafe { libc::pthread_create(&raw mut handle, null(), live_as_thread, argument) } {
                0 => room.push(handle),
                errno => refuse(&thread.task, Setting::Thread, Errno::from_raw_os_error(errno)),
            }
        }
        for handle in room.drain(..) {
            // SAFETY: a thread that was made above, and that nobody else joins.
            unsafe { libc::pthread_join(handle, null_mut()) };
        }
    })
}

/// What a thread is given.
#[derive(Debug)]
pub struct Thread<'a> {
    /// Its task.
    pub task: Task<'a>,
    /// Its gang's files.
    pub files: &'a Files,
}

extern "C" fn live_as_thread(thread: *mut c_void) -> *mut c_void {
    // SAFETY: `fork_threads` passes a `Thread` that stays until this thread is joined, and that nobody changes.
    let thread = unsafe { &*thread.cast_const().cast::<Thread<'_>>() };
    live(&thread.task, thread.files.ring.get(thread.task.member), thread.files);
    null_mut()
}

fn fork(life: impl FnOnce()) -> Result<Pid, Errno> {
    // SAFETY: the child may be a copy of a process with threads, so it may only do what is async-signal-safe until
    // it exits: `life` makes system calls, reads clocks and stores to shared atomics; it neither allocates, nor
    // takes locks, nor unwinds (an author's own loop is caught), and the child ends by `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            life();
            exit(0)
        }
        pid if pid > 0 => Pid::from_raw(pid).ok_or(Errno::SRCH),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::AGAIN)),
    }
}

/// A worker must not outlive the test. Returns whether that is seen to.
fn bind_to(parent: Pid) -> bool {
    // The look at the parent is for one that died before the call.
    set_parent_process_death_signal(Some(Signal::KILL)).is_ok() && getppid() == Some(parent)
}

fn live(task: &Task<'_>, links: Option<&Links>, files: &Files) {
    let Some(slot) = task.gang.get(task.member) else {
        return;
    };
    if !bind_to(task.parent) {
        exit(2);
    }
    be_called(task.name);
    let tid = gettid().as_raw_pid().cast_unsigned();
    slot.pid.store(getpid().as_raw_pid().cast_unsigned(), Relaxed);
    slot.tid.store(tid, Relaxed);
    let based = signal::block().and_then(|()| sys::hold_life(slot, tid));
    task.header.wait_to_configure();
    let applied = based.map_err(|errno| (Setting::Base, errno));
    if let Err((setting, errno)) = applied.and_then(|()| task.wanted.apply(task.cpus.as_ref())) {
        return refuse(task, setting, errno);
    }
    // A change of the user undoes it (`commit_creds` of the kernel's kernel/cred.c).
    if task.wanted.changes_user() && !bind_to(task.parent) {
        exit(2);
    }
    slot.policy.store(sys::policy().unwrap_or_default().cast_unsigned(), Relaxed);
    slot.set_state(SlotState::Ready);
    task.header.acknowledge();
    let mut worker = Worker {
        header: task.header,
        meter: Meter::begin(task.header, slot, task.index as u64),
        gang: task.gang,
        member: task.member,
        index: task.index,
        count: task.count,
        links,
        events: &files.events,
        cgroup_mount: task.cgroup_mount,
        until_ns: u64::MAX,
    };
    let state = match task.work.run(&mut worker) {
        Ended::Told => SlotState::Done,
        Ended::PeerGone => SlotState::PeerGone,
        Ended::Failed(errno) => {
            slot.errno.store(errno.raw_os_error().cast_unsigned(), Relaxed);
            SlotState::Failed
        }
        Ended::Panicked => SlotState::Panicked,
    };
    worker.meter.end(state);
    // Those of the gang that sleep see at once that they are to end, or that they have lost this one.
    for mailbox in task.gang.iter().flat_map(|slot| [&slot.mailbox, &slot.board]) {
        for word in [&mailbox.word, &mailbox.other] {
            wake(word, i32::MAX.cast_unsigned());
        }
    }
}

/// Until then it has the name of the test.
fn be_called(name: WorkerName) {
    // The kernel refuses an address that cannot be read, and nothing else (`prctl(2)`).
    let _ = set_name(name.as_c_str());
}

fn refuse(task: &Task<'_>, setting: Setting, errno: Errno) {
    if let Some(slot) = task.gang.get(task.member) {
        slot.setting.store(setting as u32, Relaxed);
        slot.errno.store(errno.raw_os_error().cast_unsigned(), Relaxed);
        slot.set_state(SlotState::Refused);
    }
    task.header.acknowledge();
}

fn exit(code: i32) -> ! {
    // SAFETY: `_exit` is async-signal-safe: it runs no exit handlers and flushes no buffers of the parent's.
    unsafe { libc::_exit(code) }
}
