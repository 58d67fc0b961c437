//! A mutex of one word between processes. Source: the third mutex of Drepper, "Futexes are tricky".

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::super::member::{Ended, Worker, wake};
use super::super::slot::Mailbox;

/// Nobody has it.
const FREE: u32 = 0;
/// Somebody has it.
const TAKEN: u32 = 1;
/// Somebody has it, and others may wait.
const WANTED: u32 = 2;

/// Take the mutex; notes the wake latency if it had to be waited for.
///
/// # Errors
/// Told to end, or a member of the gang was lost.
pub fn lock(worker: &mut Worker<'_>, mutex: &Mailbox) -> Result<(), Ended> {
    if mutex.word.compare_exchange(FREE, TAKEN, Acquire, Relaxed).is_ok() {
        return Ok(());
    }
    let mut slept = false;
    while mutex.word.swap(WANTED, Acquire) != FREE {
        worker.sleep_on(&mutex.word, WANTED)?;
        slept = true;
    }
    if slept {
        worker.note_wake(mutex.stamp_ns.load(Acquire));
    }
    Ok(())
}

/// Give the mutex back, and wake one who waits for it.
pub fn unlock(worker: &Worker<'_>, mutex: &Mailbox) {
    mutex.stamp_ns.store(worker.now_ns(), Release);
    if mutex.word.swap(FREE, Release) == WANTED {
        wake(&mutex.word, 1);
    }
}
