//! The terminal, or the pipe, of a person who has a shell in the guest.
//!
//! In a terminal each byte that is typed while there is a shell goes to the guest, Ctrl-C too: it is the guest's terminal that makes a
//! signal of it.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use guest_init::message::ShellInput;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::read;

/// Most bytes of input that are taken at once.
const PIECE_BYTES: usize = 4096;
/// What Ctrl-] types. So many of them after each other leave a guest that does not answer, as Ctrl-C is the guest's.
const LEAVE: u8 = 0x1d;
const LEAVES: usize = 3;
/// How often the terminal is asked for its size.
const LOOK_AT_SIZE: Duration = Duration::from_millis(250);

/// Whether standard input is a terminal.
#[must_use]
pub fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stdin())
}

/// Standard input and output, while a person has a shell.
pub(super) struct Terminal {
    is_terminal: bool,
    /// How the terminal was; `None`: it is not taken over.
    before: Option<libc::termios>,
    size: (u16, u16),
    looked: Option<Instant>,
    ended: bool,
    /// How many [`LEAVE`] were the last that was typed.
    leaves: usize,
}

impl Terminal {
    /// It is taken over at the first [`Terminal::input`]: until there is a shell, Ctrl-C ends this process as it does others.
    pub(super) fn open() -> Self {
        Self { is_terminal: is_terminal(), before: None, size: (0, 0), looked: None, ended: false, leaves: 0 }
    }

    /// What is typed is not edited or echoed here.
    fn take_over(&mut self) {
        self.before = attributes();
        let Some(before) = &self.before else {
            self.is_terminal = false;
            return;
        };
        let mut raw = *before;
        // SAFETY: `raw` is a termios, which the function changes.
        unsafe { libc::cfmakeraw(&raw mut raw) };
        // Lines of this process keep their begin.
        raw.c_oflag |= libc::OPOST | libc::ONLCR;
        set_attributes(&raw);
    }

    /// The shell has ended. The terminal is as before.
    pub(super) fn give_back(&mut self) {
        if let Some(before) = self.before.take() {
            set_attributes(&before);
        }
    }

    /// What has been typed, without waiting for more, and the size where it is new.
    pub(super) fn input(&mut self) -> Vec<ShellInput> {
        if self.is_terminal && self.before.is_none() {
            self.take_over();
        }
        let mut input = Vec::new();
        if self.before.is_some() && self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_AT_SIZE) {
            self.looked = Some(Instant::now());
            if let Some((rows, columns)) = size().filter(|size| *size != self.size) {
                self.size = (rows, columns);
                input.push(ShellInput::Size { rows, columns });
            }
        }
        if !self.ended && is_ready() {
            let mut piece = [0; PIECE_BYTES];
            input.push(match read(io::stdin(), &mut piece) {
                Ok(0) => ShellInput::End,
                Ok(length) => {
                    if self.before.is_some() && self.leaves < LEAVES {
                        self.leaves = leaves(self.leaves, &piece[..length]);
                    }
                    ShellInput::Bytes(piece[..length].to_vec())
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return input,
                Err(_) => ShellInput::End,
            });
            self.ended = input.last() == Some(&ShellInput::End);
        }
        input
    }

    /// Whether the person has typed what leaves the guest as it is.
    pub(super) fn is_left(&self) -> bool {
        self.leaves >= LEAVES
    }

    /// Show what the guest wrote.
    pub(super) fn show(&mut self, bytes: &[u8], stderr: bool) {
        // Who does not read it has it in the trace.
        let _gone = match stderr {
            true => io::stderr().write_all(bytes),
            false => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
        };
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// How many [`LEAVE`] there are after each other at the end of `typed`, or anywhere in it if they are enough. There were `before` just
/// before it.
fn leaves(before: usize, typed: &[u8]) -> usize {
    typed.iter().fold(before, |count, byte| match (count, *byte) {
        (LEAVES.., _) => count,
        (_, LEAVE) => count + 1,
        _ => 0,
    })
}

fn is_ready() -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

fn attributes() -> Option<libc::termios> {
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: the call fills in the whole termios when it returns 0.
    let got = unsafe { libc::tcgetattr(libc::STDIN_FILENO, attributes.as_mut_ptr()) };
    // SAFETY: as above.
    (got == 0).then(|| unsafe { attributes.assume_init() })
}

fn set_attributes(attributes: &libc::termios) {
    // SAFETY: the call reads a whole termios. It fails for a terminal that is gone.
    let _gone = unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSADRAIN, attributes) };
}

fn size() -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes a winsize.
    let got = unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (got == 0 && size.ws_row > 0).then_some((size.ws_row, size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_leaves_by_three_keys_after_each_other() {
        assert_eq!(leaves(0, b"\x1d\x1d"), 2);
        assert_eq!(leaves(2, b"\x1dls"), LEAVES);
        assert_eq!(leaves(2, b"ls\x1d"), 1);
        assert_eq!(leaves(2, b"\n"), 0);
    }
}
