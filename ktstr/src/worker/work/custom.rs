//! Work that the author of a test writes.

use std::io;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::io::Errno;

use super::super::member::burn;
use super::{Ended, Never, Work, Worker};

/// The author's own loop. It counts its turns, and returns when [`Worker::turn`] says no: earlier is a fault of the worker, and so
/// are an error and a panic.
///
/// **It runs in a child forked from the test, which may have threads.** A lock that another thread held at the fork is never released in
/// the child, so the loop must not allocate, print or take locks: it makes system calls, and uses its stack and what was made before.
/// The default computes.
///
/// ```
/// use ktstr::prelude::*;
/// use std::time::Duration;
///
/// fn nap(worker: &mut Worker<'_>) -> std::io::Result<()> {
///     while worker.turn(1) {
///         worker.rest(Duration::from_millis(1));
///     }
///     Ok(())
/// }
///
/// let mut workload = WorkloadHandle::spawn(&[WorkerGroup::new("cg_0", 2, Custom(nap))])?;
/// workload.start()?;
/// std::thread::sleep(Duration::from_millis(50));
/// assert!(workload.stop_and_collect().iter().all(|report| report.fault.is_none()));
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Custom(
    /// The loop.
    pub fn(&mut Worker<'_>) -> io::Result<()>,
);

impl PartialEq for Custom {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::fn_addr_eq(self.0, other.0)
    }
}

impl Eq for Custom {}

impl Default for Custom {
    fn default() -> Self {
        Self(|worker| {
            while worker.turn(1) {
                burn(1024);
            }
            Ok(())
        })
    }
}

impl Work for Custom {
    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        // Unwinding must not leave the child's part of the stack: what is behind it is the test.
        Err(match catch_unwind(AssertUnwindSafe(|| self.0(worker))) {
            Ok(Ok(())) => Ended::Told,
            Ok(Err(error)) => Ended::Failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            Err(panic) => {
                forget(panic);
                Ended::Panicked
            }
        })
    }
}
