//! One worker wakes another through its mailbox.

use std::sync::atomic::Ordering::{Acquire, Release};

use super::super::member::{Ended, Worker, wake};
use super::super::slot::Mailbox;

/// Post to a mailbox, and wake its worker.
pub fn post(worker: &Worker<'_>, to: &Mailbox) {
    to.stamp_ns.store(worker.now_ns(), Release);
    to.word.fetch_add(1, Release);
    wake(&to.word, 1);
}

/// Sleep until somebody posted once more than `taken` times, and note the wake latency.
///
/// # Errors
/// Told to end, or a member of the gang was lost.
pub fn take(worker: &mut Worker<'_>, own: &Mailbox, taken: &mut u32) -> Result<(), Ended> {
    worker.sleep_on(&own.word, *taken)?;
    *taken = taken.wrapping_add(1);
    worker.note_wake(own.stamp_ns.load(Acquire));
    Ok(())
}
