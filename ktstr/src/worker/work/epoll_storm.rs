//! Workers that wait for the same files.

use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use rustix::event::epoll;
use rustix::io::{self, Errno};

use super::super::clock::timespec;
use super::super::links::Wants;
use super::{Ended, Gang, Never, RangeError, Work, Worker, range, turn};

/// Files that are ready at once.
const MOST: usize = 64;

/// The group's first worker makes events ready, for which all others wait with an epoll instance each. Stresses wake-ups out of
/// the wait queues of files: all waiters are woken for every event, and one takes it.
///
/// A unit of the first worker is a round of events, of the others a wake-up. The wake latency is from before the events are
/// made ready until `epoll_wait(2)` has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpollStorm {
    /// Events (`eventfd(2)`) that everybody waits for, 1 to 64. Default: 4.
    pub events: u32,
    /// Time between two rounds, 1 µs to 10 s. Default: 1 ms.
    pub interval: Duration,
}

impl Default for EpollStorm {
    fn default() -> Self {
        Self { events: 4, interval: Duration::from_millis(1) }
    }
}

impl Work for EpollStorm {
    const GANG: Gang = Gang::Group { min: 2 };

    fn files(&self) -> Wants {
        Wants::Events(self.events)
    }

    fn check(&self) -> Result<(), RangeError> {
        range::number("EpollStorm.events", self.events.into(), 1..=MOST as u64, "from 1 to 64")?;
        range::time("EpollStorm.interval", self.interval)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        if worker.member == 0 { self.post(worker) } else { wait(worker) }
    }
}

impl EpollStorm {
    fn post(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        let board = worker.board()?;
        loop {
            board.stamp_ns.store(worker.now_ns(), Release);
            for event in worker.events {
                io::write(event, &1_u64.to_ne_bytes())?;
            }
            turn(worker, 1)?;
            worker.rest(self.interval);
        }
    }
}

fn wait(worker: &mut Worker<'_>) -> Result<Never, Ended> {
    let board = worker.board()?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (number, event) in (0..).zip(worker.events) {
        epoll::add(&epoll, event, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
    }
    let mut room = [MaybeUninit::uninit(); MOST];
    loop {
        let ready = match epoll::wait(&epoll, &mut room[..], Some(&timespec(100_000_000))) {
            Ok((ready, _)) => ready,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if ready.is_empty() {
            if worker.stopping() {
                return Err(Ended::Told);
            }
            if worker.lost_peer() && !worker.stopping() {
                return Err(Ended::PeerGone);
            }
            continue;
        }
        worker.note_wake(board.stamp_ns.load(Acquire));
        for event in ready.iter() {
            let number = usize::try_from(event.data.u64()).unwrap_or(MOST);
            if let Some(event) = worker.events.get(number) {
                // Mostly another worker has taken it already (`EAGAIN`).
                let _ = io::read(event, &mut [0; 8]);
            }
        }
        turn(worker, 1)?;
    }
}
