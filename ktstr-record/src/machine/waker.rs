//! Ending a wait from another thread.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Ends a wait in [`Machine::wait_event`](super::Machine::wait_event).
#[derive(Clone, Debug)]
pub struct Waker(Arc<UnixStream>);

impl Waker {
    /// End the wait that is on, or the next one.
    pub fn wake(&self) {
        // A full socket means that a wake is pending already; a closed one, that there is no one to wake.
        let _ = (&*self.0).write(&[1]);
    }
}

/// The end that waits.
#[derive(Debug)]
pub(super) struct Wakeable {
    receiver: UnixStream,
    waker: Waker,
}

impl Wakeable {
    pub(super) fn new() -> io::Result<Self> {
        let (sender, receiver) = UnixStream::pair()?;
        sender.set_nonblocking(true)?;
        receiver.set_nonblocking(true)?;
        Ok(Self { receiver, waker: Waker(Arc::new(sender)) })
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Forget the wakes so far.
    pub(super) fn clear(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.receiver).read(&mut bytes), Ok(n) if n > 0) {}
    }
}

impl AsFd for Wakeable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

/// Wait until one of `fds` can be read or was closed; which of them, all `false` once `deadline` has passed.
pub(super) fn wait_readable<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    deadline: Instant,
) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(&mut polled, Some(&timespec(left))) {
            Ok(_) => return Ok(std::array::from_fn(|i| !polled[i].revents().is_empty())),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn timespec(d: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), tv_nsec: d.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use super::{Wakeable, wait_readable};

    #[test]
    fn a_wake_ends_the_wait_or_the_next_one() {
        let wakeable = Wakeable::new().unwrap();
        let waker = wakeable.waker();
        waker.wake();
        let begun = Instant::now();
        let far = begun + Duration::from_secs(60);
        assert_eq!(wait_readable([wakeable.as_fd()], far).unwrap(), [true]);
        wakeable.clear();
        let other = std::thread::spawn(move || waker.wake());
        assert_eq!(wait_readable([wakeable.as_fd()], far).unwrap(), [true]);
        other.join().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(50));
    }

    #[test]
    fn without_a_wake_the_deadline_ends_it() {
        let wakeable = Wakeable::new().unwrap();
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(wait_readable([wakeable.as_fd()], soon).unwrap(), [false]);
        assert!(Instant::now() >= soon);
    }

    #[test]
    fn a_million_wakes_do_not_block() {
        let wakeable = Wakeable::new().unwrap();
        for _ in 0..1_000_000 {
            wakeable.waker().wake();
        }
        wakeable.clear();
        assert_eq!(wait_readable([wakeable.as_fd()], Instant::now()).unwrap(), [false]);
    }
}
