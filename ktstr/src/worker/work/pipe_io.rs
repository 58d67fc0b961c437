//! Pairs of workers that wake each other through pipes.

use super::super::links::Wants;
use super::{Ended, Gang, Never, RangeError, Work, Worker, range, turn};

/// Pairs that pass a message to and fro through two pipes. Stresses synchronous wake-ups: the writer is about to sleep.
///
/// A unit is a round trip. The wake latency is from the write to the return of the read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipeIo {
    /// Bytes of a message, 8 to 4096. Default: 8.
    pub bytes: usize,
}

impl Default for PipeIo {
    fn default() -> Self {
        Self { bytes: 8 }
    }
}

impl Work for PipeIo {
    const GANG: Gang = Gang::Of(2);

    fn files(&self) -> Wants {
        Wants::Ring
    }

    fn check(&self) -> Result<(), RangeError> {
        range::number("PipeIo.bytes", self.bytes as u64, 8..=4096, "from 8 to 4096")
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        let links = worker.links.ok_or(Ended::PeerGone)?;
        let mut message = [0_u8; 4096];
        let message = message.get_mut(..self.bytes).ok_or(Ended::PeerGone)?;
        let mut trip = || {
            // The first member serves, the other returns.
            if worker.member == 0 {
                send(worker, message)?;
            }
            links.receive(message)?;
            let stamp = message.first_chunk().copied().unwrap_or_default();
            worker.note_wake(u64::from_ne_bytes(stamp));
            if worker.member != 0 {
                send(worker, message)?;
            }
            match worker.lost_peer() {
                true => Err(Ended::PeerGone),
                false => turn(worker, 1),
            }
        };
        let ended = loop {
            if let Err(ended) = trip() {
                break ended;
            }
        };
        // A peer that sleeps sees that it is to end. Between threads no pipe is closed to tell it.
        let _ = links.send(message);
        // A peer that was told to end may be gone before this worker has seen the flag.
        Err(if ended == Ended::PeerGone && worker.stopping() { Ended::Told } else { ended })
    }
}

fn send(worker: &Worker<'_>, message: &mut [u8]) -> Result<(), Ended> {
    let links = worker.links.ok_or(Ended::PeerGone)?;
    if let Some(stamp) = message.first_chunk_mut() {
        *stamp = worker.now_ns().to_ne_bytes();
    }
    Ok(links.send(message)?)
}
