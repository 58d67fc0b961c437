//! Pipes and events between the workers of a gang, made before the fork.

use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};
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

    /// Send a message to the next member; sleeps while the pipe is full. At most 4096 bytes (`PIPE_BUF`) stay together.
    ///
    /// # Errors
    /// [`LinkFault`].
    pub fn send(&self, message: &[u8]) -> Result<(), LinkFault> {
        match io::retry_on_intr(|| io::write(&self.write, message)) {
            Ok(sent) if sent == message.len() => Ok(()),
            Ok(_) | Err(Errno::PIPE) => Err(LinkFault::Closed),
            Err(errno) => Err(LinkFault::Errno(errno)),
        }
    }

    /// Sleep until a message of the member before is there, and take it.
    ///
    /// # Errors
    /// [`LinkFault`].
    pub fn receive(&self, message: &mut [u8]) -> Result<(), LinkFault> {
        match io::retry_on_intr(|| io::read(&self.read, &mut *message)) {
            Ok(0) => Err(LinkFault::Closed),
            Ok(_) => Ok(()),
            Err(errno) => Err(LinkFault::Errno(errno)),
        }
    }
}

/// What files the workers of a gang have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// None.
    Nothing,
    /// A ring of pipes.
    Ring,
    /// So many events (`eventfd(2)`), each a semaphore that is never waited for by reading it.
    Events(u32),
}

/// A gang's files.
#[derive(Debug, Default)]
pub struct Files {
    /// Its pipes, by member.
    pub ring: Vec<Links>,
    /// Its events.
    pub events: Vec<OwnedFd>,
}

impl Files {
    /// Those of a gang of `members`.
    ///
    /// # Errors
    /// The kernel's, when there are too many files.
    pub fn new(wants: Wants, members: usize) -> io::Result<Self> {
        let ring = if wants == Wants::Ring { Links::ring(members)? } else { Vec::new() };
        let events = if let Wants::Events(events) = wants { events } else { 0 };
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE;
        let events = (0..events).map(|_| eventfd(0, flags)).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { ring, events })
    }

    /// Close the pipes of all members but one, so that an ended worker is noticed.
    ///
    /// Frees no memory: the vector keeps its room.
    pub fn keep(&mut self, member: usize) {
        if member < self.ring.len() {
            self.ring.swap(0, member);
            self.ring.truncate(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_round_the_ring_and_a_lost_member_is_noticed() {
        let mut ring = Links::ring(3).expect("pipes");
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            ring[from].send(&[7; 3]).expect("room");
            let mut message = [0; 3];
            ring[to].receive(&mut message).expect("a message");
            assert_eq!(message, [7; 3]);
        }
        drop(ring.remove(0));
        assert_eq!(ring[0].receive(&mut [0]), Err(LinkFault::Closed));
        assert_eq!(ring[1].send(&[1]), Err(LinkFault::Closed));
    }
}
