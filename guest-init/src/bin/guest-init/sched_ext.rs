//! What the kernel says of sched_ext.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::Failure;

const STATE: &str = "/sys/kernel/sched_ext/state";
const OPS: &str = "/sys/kernel/sched_ext/root/ops";
/// The group of uevents that come from the kernel itself.
const KERNEL_GROUP: u32 = 1;

/// The state: `disabled`, `enabling`, `enabled` or `disabling`.
pub fn state() -> Result<String, Failure> {
    match fs::read_to_string(STATE) {
        Ok(state) => Ok(state.trim_end().to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(format!("this kernel has no sched_ext: {STATE} does not exist (CONFIG_SCHED_CLASS_EXT)"))
        }
        Err(error) => Err(format!("reading {STATE}: {error}")),
    }
}

/// Whether a scheduler is enabled.
pub fn is_enabled() -> Result<bool, Failure> {
    Ok(state()? == "enabled")
}

/// The name of the enabled scheduler's ops, where this kernel tells.
pub fn ops_name() -> String {
    fs::read_to_string(OPS).map_or_else(|_| String::new(), |name| name.trim_end().to_owned())
}

/// Wakes when a kernel object comes or goes, as the one of a scheduler does that is enabled or ejected
/// (`kobject_uevent` and `kobject_del` in the kernel's kernel/sched/ext.c): the state file itself cannot be
/// polled.
pub struct Uevents(OwnedFd);

impl Uevents {
    /// Listen.
    pub fn listen() -> Result<Self, Failure> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let open = || {
            let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
            bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
            Ok(Self(socket))
        };
        open().map_err(|error: rustix::io::Errno| format!("listening to the kernel's uevents: {error}"))
    }

    /// Forget what has come; it was the reason to look, no more.
    pub fn clear(&self) {
        let mut event = [0; 1];
        while recv(&self.0, &mut event, RecvFlags::empty()).is_ok() {}
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
