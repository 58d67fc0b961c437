//! Work that never leaves the CPU on its own.

use super::super::member::burn;
use super::{Ended, Never, Work, Worker, turn};

/// Computes without a break. Stresses preemption and load balance: it always wants a CPU.
///
/// A unit is 1024 rounds of arithmetic. It has no parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpinWait;

impl Work for SpinWait {
    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        loop {
            burn(1024);
            turn(worker, 1)?;
        }
    }
}
