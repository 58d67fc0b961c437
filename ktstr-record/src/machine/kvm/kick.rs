//! Taking a thread out of `KVM_RUN`: a signal, and the flag `immediate_exit` of the vCPU that it runs.
//!
//! The signal alone would be lost when it arrives right before `KVM_RUN` is entered. So its handler sets the flag, on the thread
//! itself, and `KVM_RUN` returns at once then.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use libc::{pthread_t, siginfo_t};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler, unblock_signal};

thread_local! {
    /// What this thread's vCPU shares with KVM; null where the thread has none. It has no destructor and is initialized at
    /// compile time, so that a signal handler may look at it.
    static RUN: Cell<*mut kvm_run> = const { Cell::new(ptr::null_mut()) };
}

/// A vCPU that the thread which made this can be taken out of.
#[derive(Debug)]
pub(super) struct Kickable {
    vcpu: VcpuFd,
}

/// The result of setting up the signal's handler, once somebody has.
static HANDLER: OnceLock<Result<(), i32>> = OnceLock::new();

/// Whether the signal has its handler, without which it ends the process.
pub(super) fn ready() -> bool {
    matches!(HANDLER.get(), Some(Ok(())))
}

/// A thread, for [`Thread::kick`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Thread(pthread_t);

impl Kickable {
    /// This thread will run `vcpu`, and no other one.
    pub(super) fn new(mut vcpu: VcpuFd) -> io::Result<Self> {
        HANDLER
            .get_or_init(|| register_signal_handler(SIGRTMIN(), on_kick).map_err(|error| error.errno()))
            .map_err(io::Error::from_raw_os_error)?;
        // Whoever started this process may have left it blocked, and then no kick would arrive.
        unblock_signal(SIGRTMIN()).map_err(|error| io::Error::other(error.to_string()))?;
        RUN.set(vcpu.get_kvm_run());
        Ok(Self { vcpu })
    }

    /// The vCPU.
    pub(super) fn vcpu(&mut self) -> &mut VcpuFd {
        &mut self.vcpu
    }
}

impl Drop for Kickable {
    fn drop(&mut self) {
        // Before the vCPU goes.
        RUN.set(ptr::null_mut());
    }
}

impl Thread {
    /// The thread that calls this.
    pub(super) fn current() -> Self {
        // SAFETY: it has no preconditions.
        Self(unsafe { libc::pthread_self() })
    }

    /// Take it out of `KVM_RUN`, now or when it enters it the next time.
    ///
    /// # Safety
    /// The thread must not have been joined, nor have ended as a detached one, and a [`Kickable`] must have been made in
    /// this process, or [`ready`] be true.
    pub(super) unsafe fn kick(self) {
        // SAFETY: as above, so that the thread's number is valid.
        let _ = unsafe { libc::pthread_kill(self.0, SIGRTMIN()) };
    }
}

extern "C" fn on_kick(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    let run = RUN.get();
    if run.is_null() {
        return;
    }
    // SAFETY: `run` is what a vCPU of this thread shares with KVM, mapped until the vCPU is dropped, which sets RUN to null first.
    let flag = unsafe { &raw mut (*run).immediate_exit };
    // SAFETY: as above; a byte is aligned, and the only others that write it are KVM and this thread.
    let flag = unsafe { AtomicU8::from_ptr(flag) };
    flag.store(1, Ordering::SeqCst);
}
