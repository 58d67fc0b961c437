//! The one function that every `#[test]` calls: it finds out where this process is, and runs the test there.

use std::env;
use std::fmt;
use std::fs;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use guest_init::layout::CMDLINE_CHANNEL;
use guest_init::message::TEST_SOCKET_FD;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

use crate::gauntlet::PRESETS;
use crate::host::environment::BODY;
use crate::test_def::TestDef;
use crate::{guest, host};

/// Run a test, wherever this process is.
///
/// # Errors
/// [`TestFailure`] when the test did not pass.
pub fn run(def: &'static TestDef) -> Result<(), TestFailure> {
    let result = match place() {
        Ok(RunsIn::Guest(socket)) => guest::run(def, socket),
        Ok(RunsIn::Body(socket)) => guest::run_on_host(def, socket),
        Ok(RunsIn::Host) => host::run(def),
        Err(error) => Err(error.into()),
    };
    result.map_err(TestFailure::from)
}

/// Run the variant of a test, on the machine of this index in the gauntlet's table, as the test `path`.
///
/// # Errors
/// [`TestFailure`] when it did not pass.
///
/// # Panics
/// When the macro is of another version than this library.
pub fn run_variant(def: &'static TestDef, path: &'static str, index: usize) -> Result<(), TestFailure> {
    let preset = &PRESETS[index];
    let def = def.variant(path, preset);
    let result = match place() {
        Ok(RunsIn::Guest(socket)) => guest::run(&def, socket),
        // A test that runs there has no variants.
        Ok(RunsIn::Body(_) | RunsIn::Host) => host::run_variant(&def, preset),
        Err(error) => Err(error.into()),
    };
    result.map_err(TestFailure::from)
}

/// Why a test did not pass: the error and its causes. libtest prints its `Debug` form.
pub struct TestFailure(String);

impl From<anyhow::Error> for TestFailure {
    fn from(error: anyhow::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

impl fmt::Debug for TestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the test binary runs.
#[derive(Debug)]
enum RunsIn {
    /// On a host: boot a VM.
    Host,
    /// On a host, in the process of a `host_only` body, with the socket to the recorder.
    Body(OwnedFd),
    /// In a guest, with the socket to init.
    Guest(OwnedFd),
}

/// A guest without the socket: someone started the test binary by hand in it.
#[derive(Debug, thiserror::Error)]
#[error(
    "this is a ktstr guest (/proc/cmdline has `{CMDLINE_CHANNEL}=`), but file descriptor {TEST_SOCKET_FD} is not guest-init's socket: tests are started by guest-init only"
)]
struct NoSocket;

/// Decided by two facts that are not set by accident: the kernel's command line, which only ktstr gives a channel,
/// and the socket that guest-init leaves open. May be called once in a process: it takes the socket.
///
/// # Errors
/// [`NoSocket`].
fn place() -> Result<RunsIn, NoSocket> {
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    if !names_channel(&cmdline) {
        let socket = env::var(BODY).ok().and_then(|text| host::say::inherited(&text));
        return Ok(socket.map_or(RunsIn::Host, RunsIn::Body));
    }
    // SAFETY: the number is only asked about, through calls that fail with EBADF when it is not open; nothing in
    // this process closes it meanwhile.
    let borrowed = unsafe { BorrowedFd::borrow_raw(TEST_SOCKET_FD) };
    if !is_init_socket(borrowed) {
        return Err(NoSocket);
    }
    // SAFETY: it is open, guest-init left it to this process for this use, and `place` is called once.
    Ok(RunsIn::Guest(unsafe { OwnedFd::from_raw_fd(TEST_SOCKET_FD) }))
}

fn is_init_socket(fd: BorrowedFd<'_>) -> bool {
    let local = socket_domain(fd) == Ok(AddressFamily::UNIX);
    let packets = socket_type(fd) == Ok(SocketType::SEQPACKET);
    // Programs that a body starts must not inherit it.
    local && packets && fcntl_setfd(fd, FdFlags::CLOEXEC).is_ok()
}

fn names_channel(cmdline: &str) -> bool {
    cmdline
        .split_ascii_whitespace()
        .any(|word| word.strip_prefix(CMDLINE_CHANNEL).is_some_and(|rest| rest.starts_with('=')))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::fd::AsFd;

    use rustix::net::{SocketFlags, socketpair};

    use super::*;

    #[test]
    fn the_text_is_shown_as_it_is_with_its_causes() {
        let cause = io::Error::other("disk on fire");
        let failure = TestFailure::from(anyhow::Error::new(cause).context("could not write"));
        assert_eq!(format!("{failure:?}"), "could not write: disk on fire");
    }

    #[test]
    fn this_host_is_a_host() {
        assert!(matches!(place(), Ok(RunsIn::Host)));
    }

    #[test]
    fn only_the_whole_key_names_a_channel() {
        assert!(names_channel("console=ttyS0 ktstr.channel=0x10000000 quiet"));
        assert!(!names_channel("console=ttyS0 ktstr.channels=1"));
        assert!(!names_channel("xktstr.channel=1"));
        assert!(!names_channel("ktstr.channel"));
    }

    #[test]
    fn only_a_local_packet_socket_is_inits() {
        let pair = |kind| socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("sockets");
        assert!(is_init_socket(pair(SocketType::SEQPACKET).0.as_fd()));
        assert!(!is_init_socket(pair(SocketType::STREAM).0.as_fd()));
        let file = fs::File::open("/proc/self/cmdline").expect("a file");
        assert!(!is_init_socket(file.as_fd()));
    }
}
