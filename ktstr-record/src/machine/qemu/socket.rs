//! Reading from the emulator's sockets, which do not block.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::machine::error::MachineError;

/// Append what has arrived to `input`, waiting for it; false when `deadline` passed before.
pub(super) fn read_more(
    mut stream: &UnixStream,
    input: &mut Vec<u8>,
    deadline: Instant,
    name: &str,
) -> Result<bool, MachineError> {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return Err(closed()),
            Ok(n) => {
                input.extend_from_slice(&bytes[..n]);
                return Ok(true);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let [readable] = wait_readable([stream.as_fd()], deadline)?;
                if !readable {
                    return Ok(false);
                }
            }
            Err(e) => return Err(io_error(&format!("read the {name} socket"))(e)),
        }
    }
}

/// Wait until one of `fds` can be read or was closed; which of them, all `false` once `deadline` has passed.
pub(super) fn wait_readable<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    deadline: Instant,
) -> Result<[bool; N], MachineError> {
    let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(&mut polled, Some(&timespec(left))) {
            Ok(_) => return Ok(std::array::from_fn(|i| !polled[i].revents().is_empty())),
            Err(Errno::INTR) => {}
            Err(e) => return Err(io_error("wait for the emulator")(e.into())),
        }
    }
}

fn timespec(d: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), tv_nsec: d.subsec_nanos().into() }
}

/// The socket ended. The caller knows the process and adds what the emulator said last.
pub(super) fn closed() -> MachineError {
    MachineError::Died { stderr: String::new() }
}

pub(super) fn io_error(what: &str) -> impl FnOnce(io::Error) -> MachineError {
    let what = what.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => closed(),
        _ => MachineError::Io { what, source },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use super::wait_readable;

    #[test]
    fn bytes_or_the_deadline_end_a_wait() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(wait_readable([ours.as_fd()], soon).unwrap(), [false]);
        assert!(Instant::now() >= soon);
        let begun = Instant::now();
        let other = std::thread::spawn(move || theirs.write_all(b"x").map(|()| theirs));
        assert_eq!(wait_readable([ours.as_fd()], begun + Duration::from_secs(60)).unwrap(), [true]);
        drop(other.join().unwrap());
        assert!(begun.elapsed() < Duration::from_secs(50));
    }
}
