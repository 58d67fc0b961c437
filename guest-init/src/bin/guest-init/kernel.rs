//! What the kernel says: its log, record by record, and the state of sched_ext.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use guest_init::message::{Sysctl, ToHost};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::Failure;
use crate::link::Link;

/// Records passed on in one go, so that a flood of them does not keep init from everything else.
const BATCH: usize = 512;
/// Batches that hold more than the log of any kernel does.
const FLUSH_BATCHES: usize = 64;
/// Larger than any record (`CONSOLE_EXT_LOG_MAX` of the kernel's printk.c).
const RECORD_BYTES: usize = 8192;

/// `/dev/kmsg`, read from the first record on.
pub struct Kmsg(File);

impl Kmsg {
    /// Open it.
    pub fn open() -> Result<Self, Failure> {
        File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .map(Self)
            .map_err(|error| format!("opening /dev/kmsg: {error}"))
    }

    /// The first of the records that are there whose text `wanted` takes.
    pub fn find(&mut self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let mut record = [0; RECORD_BYTES];
        for _ in 0..BATCH * FLUSH_BATCHES {
            match self.0.read(&mut record) {
                Ok(length) => match parse(&record[..length]) {
                    ToHost::Kmsg { text, .. } if wanted(&text) => return Some(text),
                    _ => {}
                },
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// Pass on the records that are there, all of them unless they keep coming.
    pub fn flush(&mut self, link: &mut Link) {
        for _ in 0..FLUSH_BATCHES {
            if !self.relay(link) {
                return;
            }
        }
    }

    /// Pass on a batch of the records that are there; whether there may be more.
    pub fn relay(&mut self, link: &mut Link) -> bool {
        let mut record = [0; RECORD_BYTES];
        for _ in 0..BATCH {
            match self.0.read(&mut record) {
                Ok(length) => link.send(&parse(&record[..length])),
                // Overwritten before it was read: the sequence numbers show how much.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(_) => return false,
            }
        }
        true
    }
}

impl AsFd for Kmsg {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A record as the kernel's Documentation/ABI/testing/dev-kmsg has it:
/// `priority,sequence,microseconds,flags[,...];text\n[ KEY=VALUE\n]`.
fn parse(record: &[u8]) -> ToHost {
    let record = String::from_utf8_lossy(record);
    let (prefix, text) = record.split_once(';').unwrap_or(("", &record));
    let mut numbers = prefix.split(',').map(|number| number.parse::<u64>().unwrap_or(0));
    let mut number = || numbers.next().unwrap_or(0);
    let (priority, sequence, us) = (number(), number(), number());
    ToHost::Kmsg {
        level: (priority & 7) as u8,
        sequence,
        kernel_ns: us.saturating_mul(1000),
        text: text.lines().next().unwrap_or_default().to_owned(),
    }
}

const STATE: &str = "/sys/kernel/sched_ext/state";
const OPS: &str = "/sys/kernel/sched_ext/root/ops";
const ENABLE_SEQ: &str = "/sys/kernel/sched_ext/enable_seq";
/// The group of uevents that come from the kernel itself.
const KERNEL_GROUP: u32 = 1;

/// The state: `disabled`, `enabling`, `enabled` or `disabling`.
pub fn sched_ext_state() -> Result<String, Failure> {
    match fs::read_to_string(STATE) {
        Ok(state) => Ok(state.trim_end().to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(format!("this kernel has no sched_ext: {STATE} does not exist (CONFIG_SCHED_CLASS_EXT)"))
        }
        Err(error) => Err(format!("reading {STATE}: {error}")),
    }
}

/// Whether a scheduler is enabled.
pub fn is_sched_ext_enabled() -> Result<bool, Failure> {
    Ok(sched_ext_state()? == "enabled")
}

/// How many times a scheduler was enabled since boot, where this kernel tells: whether it is still the same enabling.
pub fn sched_ext_enable_seq() -> Option<u64> {
    fs::read_to_string(ENABLE_SEQ).ok()?.trim_end().parse().ok()
}

/// The name of the enabled scheduler's ops, where this kernel tells.
pub fn sched_ext_ops_name() -> String {
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

/// Set kernel parameters.
pub fn set_sysctls(sysctls: &[Sysctl]) -> Result<(), Failure> {
    for Sysctl { name, value } in sysctls {
        let path = Sysctl::path(name);
        if !fs::exists(&path).unwrap_or(false) {
            return Err(format!("the kernel has no parameter `{name}`: there is no {path}"));
        }
        fs::write(&path, value).map_err(|error| format!("setting `{name}` to `{value}`: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_gives_level_number_time_and_text() {
        let record = b"30,178,5140900,-,caller=T1;sched_ext: BPF scheduler \"demo\" enabled\n SUBSYSTEM=x\n";
        let expected = ToHost::Kmsg {
            level: 6,
            sequence: 178,
            kernel_ns: 5_140_900_000,
            text: "sched_ext: BPF scheduler \"demo\" enabled".into(),
        };
        assert_eq!(parse(record), expected);
    }

    #[test]
    fn a_malformed_record_keeps_its_text() {
        let expected =
            ToHost::Kmsg { level: 0, sequence: 0, kernel_ns: 0, text: "no prefix \u{fffd}".into() };
        assert_eq!(parse(b"no prefix \xff\n"), expected);
    }
}
