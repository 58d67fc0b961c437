//! Output of programs, passed on as it comes.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use guest_init::message::{Source, ToHost};

use crate::link::Link;

/// Most bytes of output in one frame.
const PIECE_BYTES: usize = 16 << 10;

/// The reading end of a program's standard output or standard error.
pub struct Pipe {
    source: Source,
    stderr: bool,
    end: Option<File>,
}

impl Pipe {
    /// A pipe; none at all counts as closed.
    pub fn new(source: Source, stderr: bool, end: Option<OwnedFd>) -> Self {
        Self { source, stderr, end: end.map(File::from) }
    }

    /// The descriptor to poll, while the other end may still be written.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().map(AsFd::as_fd)
    }

    /// Pass on one piece. Only to be called when poll says that there is something: it blocks otherwise.
    pub fn relay(&mut self, link: &mut Link) {
        let mut piece = [0; PIECE_BYTES];
        let Some(end) = &mut self.end else { return };
        match end.read(&mut piece) {
            Ok(0) | Err(_) => self.end = None,
            Ok(length) => {
                let bytes = piece[..length].to_vec();
                link.send(&ToHost::Output { source: self.source, stderr: self.stderr, bytes });
            }
        }
    }
}
