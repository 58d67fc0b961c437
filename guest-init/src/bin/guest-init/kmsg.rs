//! The kernel's log, passed on record by record.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use guest_init::message::ToHost;

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
