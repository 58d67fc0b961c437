//! Work that makes processes.

use std::ptr::null_mut;

use rustix::io::Errno;

use super::super::member::burn;
use super::super::sys::fork_child;
use super::{Ended, Never, RangeError, Work, Worker, range, turn};

/// Forks a child that works a little and exits, and reaps it, over and over. Stresses the placement of new tasks, and a
/// scheduler's tables of tasks.
///
/// A unit is a child that was reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForkExit {
    /// Rounds of arithmetic of each child, 1 to 10000000. Default: 1024.
    pub rounds: u32,
}

impl Default for ForkExit {
    fn default() -> Self {
        Self { rounds: 1024 }
    }
}

impl Work for ForkExit {
    fn check(&self) -> Result<(), RangeError> {
        range::rounds("ForkExit.rounds", self.rounds)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        loop {
            let child = fork_child(|| burn(self.rounds))?;
            // SAFETY: the child is ours, and its status is not asked for.
            while unsafe { libc::waitpid(child, null_mut(), 0) } != child {
                let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::CHILD);
                if errno != Errno::INTR {
                    return Err(errno.into());
                }
            }
            turn(worker, 1)?;
        }
    }
}
