//! Pipes between the workers of a gang.

use std::os::fd::OwnedFd;

use rustix::io::{self, Errno};
use rustix::pipe::{PipeFlags, pipe_with};

/// One member's ends of a ring of pipes: it writes to the next member and reads from the one before.
#[derive(Debug)]
pub struct Links {
    read: OwnedFd,
    write: OwnedFd,
}

/// Why a byte did not go through a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFault {
    /// The other end is closed: its worker has ended.
    Closed,
    /// The system call failed.
    Errno(Errno),
}

impl Links {
    /// A ring of `members` pipes; member `k`'s ends are at index `k`.
    ///
    /// # Errors
    /// The kernel's, when there are too many files.
    pub fn ring(members: usize) -> io::Result<Vec<Self>> {
        let pipes = (0..members).map(|_| pipe_with(PipeFlags::CLOEXEC)).collect::<io::Result<Vec<_>>>()?;
        let (mut reads, writes): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
        // Member k writes to pipe k and reads from pipe k - 1.
        if !reads.is_empty() {
            reads.rotate_right(1);
        }
        Ok(reads.into_iter().zip(writes).map(|(read, write)| Self { read, write }).collect())
    }

    /// Send a byte to the next member; sleeps while the pipe is full.
    ///
    /// # Errors
    /// [`LinkFault`].
    pub fn send(&self) -> Result<(), LinkFault> {
        match io::retry_on_intr(|| io::write(&self.write, &[1])) {
            Ok(1) => Ok(()),
            Ok(_) | Err(Errno::PIPE) => Err(LinkFault::Closed),
            Err(errno) => Err(LinkFault::Errno(errno)),
        }
    }

    /// Sleep until a byte of the member before is there, and take it.
    ///
    /// # Errors
    /// [`LinkFault`].
    pub fn receive(&self) -> Result<(), LinkFault> {
        let mut byte = [0_u8; 1];
        match io::retry_on_intr(|| io::read(&self.read, &mut byte)) {
            Ok(1) => Ok(()),
            Ok(_) => Err(LinkFault::Closed),
            Err(errno) => Err(LinkFault::Errno(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_goes_round_the_ring_and_a_lost_member_is_noticed() {
        let mut ring = Links::ring(3).expect("pipes");
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            ring[from].send().expect("room");
            ring[to].receive().expect("a byte");
        }
        drop(ring.remove(0));
        assert_eq!(ring[0].receive(), Err(LinkFault::Closed));
        assert_eq!(ring[1].send(), Err(LinkFault::Closed));
    }
}
