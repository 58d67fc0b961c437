//! The terminal, or the pipe, of a person who has a shell in the guest.
//!
//! In a terminal each byte that is typed goes to the guest, Ctrl-C too: it is the guest's terminal that makes a signal of it.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use guest_init::message::ShellInput;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::read;

/// Most bytes of input that are taken at once.
const PIECE_BYTES: usize = 4096;
/// How often the terminal is asked for its size.
const LOOK_AT_SIZE: Duration = Duration::from_millis(250);

/// Whether standard input is a terminal.
#[must_use]
pub fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stdin())
}

/// Standard input and output, while a person has a shell.
pub(super) struct Terminal {
    /// How the terminal was; `None`: there is none.
    before: Option<libc::termios>,
    size: (u16, u16),
    looked: Option<Instant>,
    ended: bool,
}

impl Terminal {
    /// Take it over: what is typed is not edited or echoed here. It is as before when this is dropped.
    pub(super) fn open() -> Self {
        let before = if is_terminal() { attributes() } else { None };
        if let Some(before) = &before {
            let mut raw = *before;
            // SAFETY: `raw` is a termios, which the function changes.
            unsafe { libc::cfmakeraw(&raw mut raw) };
            // Lines of this process keep their begin.
            raw.c_oflag |= libc::OPOST | libc::ONLCR;
            set_attributes(&raw);
        }
        Self { before, size: (0, 0), looked: None, ended: false }
    }

    /// What has been typed, without waiting for more, and the size where it is new.
    pub(super) fn input(&mut self) -> Vec<ShellInput> {
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
                Ok(length) => ShellInput::Bytes(piece[..length].to_vec()),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return input,
                Err(_) => ShellInput::End,
            });
            self.ended = input.last() == Some(&ShellInput::End);
        }
        input
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
        if let Some(before) = &self.before {
            set_attributes(before);
        }
    }
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
