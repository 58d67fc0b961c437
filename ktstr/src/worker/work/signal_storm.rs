//! Pairs of workers that send each other signals.

use std::sync::atomic::Ordering::Relaxed;

use rustix::io::Errno;

use super::super::signal;
use super::{Ended, Gang, Never, RangeError, Work, Worker, range, turn};

/// Pairs of which the first sends a burst of queued real-time signals to the second and waits for an answer. Stresses wake-ups by
/// signals, whose first one of a burst wakes a task that the others then find awake.
///
/// A unit is a signal that was taken. The wake latency is from before the sending until `sigtimedwait(2)` has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalStorm {
    /// Signals of a burst, 1 to 256. Default: 16.
    pub burst: u32,
}

impl Default for SignalStorm {
    fn default() -> Self {
        Self { burst: 16 }
    }
}

impl Work for SignalStorm {
    const GANG: Gang = Gang::Of(2);

    fn check(&self) -> Result<(), RangeError> {
        range::number("SignalStorm.burst", self.burst.into(), 1..=256, "from 1 to 256")
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        loop {
            if worker.member == 0 {
                send(worker, self.burst)?;
                take(worker, 1)?;
                turn(worker, 1)?;
            } else {
                take(worker, self.burst)?;
                send(worker, 1)?;
                turn(worker, self.burst.into())?;
            }
        }
    }
}

fn send(worker: &Worker<'_>, signals: u32) -> Result<(), Ended> {
    let peer = worker.gang.get(1 - worker.member.min(1)).ok_or(Ended::PeerGone)?;
    let (pid, tid) = (peer.pid.load(Relaxed), peer.tid.load(Relaxed));
    for _ in 0..signals {
        match signal::send(pid, tid, worker.now_ns()) {
            Ok(()) => {}
            Err(Errno::SRCH) if worker.stopping() => return Err(Ended::Told),
            Err(Errno::SRCH) => return Err(Ended::PeerGone),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn take(worker: &mut Worker<'_>, signals: u32) -> Result<(), Ended> {
    for _ in 0..signals {
        loop {
            if let Some(stamp_ns) = signal::take(100) {
                worker.note_wake(stamp_ns);
                break;
            }
            let is_lost = worker.lost_peer();
            if worker.stopping() {
                return Err(Ended::Told);
            }
            if is_lost {
                return Err(Ended::PeerGone);
            }
        }
    }
    Ok(())
}
