//! Keeping init on a CPU and in memory whatever the guest does.

use rustix::mm::{MlockAllFlags, mlockall};

use crate::Failure;

/// In the middle of the real-time range: above every sched_ext task, below the kernel's own migration threads.
const PRIORITY: libc::c_int = 50;

/// Run as `SCHED_FIFO` with everything resident. Children start as ordinary tasks.
pub fn raise() -> Result<(), Failure> {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).map_err(|error| format!("mlockall: {error}"))?;
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: pid 0 is this thread and `parameters` outlives the call.
    match unsafe { libc::sched_setscheduler(0, policy, &parameters) } {
        0 => Ok(()),
        _ => Err(format!("sched_setscheduler to SCHED_FIFO: {}", std::io::Error::last_os_error())),
    }
}
