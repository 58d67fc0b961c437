//! Telling a person something while a test runs.
//!
//! Runners keep what a test prints until it has failed. So `cargo ktstr test` leaves its own stderr open for the tests that it
//! has run, under a number that [`SAY`] names together with the file's identity: a number alone may be another file's.

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use rustix::fs::fstat;
use rustix::io::{FdFlags, dup, fcntl_setfd};

use super::environment::SAY;

/// Tell a person now.
pub fn say(text: &str) {
    let line = format!("ktstr: {text}\n");
    // Nobody may be there to read it.
    let _ = match runners_stderr() {
        Some(mut file) => file.write_all(line.as_bytes()),
        None => io::stderr().write_all(line.as_bytes()),
    };
}

/// The stderr of the `cargo ktstr test` that has this process run. From now on, no program that this process starts has it.
pub fn runners_stderr() -> Option<&'static File> {
    static FILE: OnceLock<Option<File>> = OnceLock::new();
    FILE.get_or_init(|| inherited(&env::var(SAY).ok()?).map(File::from)).as_ref()
}

/// The file that `text` names, if this process has it. Programs that this process starts do not get it.
pub fn inherited(text: &str) -> Option<OwnedFd> {
    let (fd, identity) = text.split_once(' ')?;
    let fd: RawFd = fd.parse().ok().filter(|fd| *fd > 2)?;
    // SAFETY: the number is only asked about, through calls that fail with EBADF when it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    if identity_of(borrowed)? != identity {
        return None;
    }
    fcntl_setfd(borrowed, FdFlags::CLOEXEC).ok()?;
    // SAFETY: it is open, is the file that was left to this process for this use, and is taken once.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn identity_of(fd: BorrowedFd<'_>) -> Option<String> {
    let stat = fstat(fd).ok()?;
    Some(format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// This process's stderr, for the tests that it has run.
pub struct LeftOpen {
    file: OwnedFd,
    identity: String,
}

impl LeftOpen {
    /// `None` where there is no stderr.
    pub fn stderr() -> Option<Self> {
        let file = dup(io::stderr()).ok()?;
        let identity = identity_of(file.as_fd())?;
        Some(Self { file, identity })
    }

    /// The value of [`SAY`] for a program that is started while this is held.
    pub fn variable(&self) -> String {
        format!("{} {}", self.file.as_raw_fd(), self.identity)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::IntoRawFd;

    use super::*;

    #[test]
    fn only_the_file_that_was_meant_is_taken() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let identity = identity_of(writer.as_fd()).expect("an identity");
        let fd = writer.as_fd().as_raw_fd();
        assert!(inherited(&format!("{fd} 1:1")).is_none(), "another file has the number");
        assert!(inherited("2 0:0").is_none() && inherited("x").is_none() && inherited("99999 0:0").is_none());
        // It is the test's from here on.
        let fd = writer.into_raw_fd();
        let mut file = File::from(inherited(&format!("{fd} {identity}")).expect("the pipe"));
        file.write_all(b"told").expect("written");
        drop(file);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "told");
    }
}
