//! Where the channel memory and the doorbell are: what the kernel's command line says of them, and init's mapping of the former.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::sync::atomic::AtomicU64;

use guest_init::layout::{CHANNEL_BYTES, CHANNEL_WORDS, CMDLINE_CHANNEL, CMDLINE_DOORBELL, ChannelMemory};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap};

use crate::Failure;
use crate::doorbell::DoorbellKind;
use crate::kernel::Kmsg;

/// Words of the command line that are for init.
#[derive(Debug, PartialEq, Eq)]
pub struct Cmdline {
    /// Guest-physical address of the channel memory.
    pub channel: u64,
    /// What stops the machine, if anything does.
    pub doorbell: Option<DoorbellKind>,
}

impl Cmdline {
    /// Read and parse `/proc/cmdline`.
    pub fn read() -> Result<Self, Failure> {
        let text =
            fs::read_to_string("/proc/cmdline").map_err(|error| format!("reading /proc/cmdline: {error}"))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let value = |key: &str| {
            text.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        let channel = value(CMDLINE_CHANNEL).ok_or_else(|| {
            format!("the kernel's command line has no {CMDLINE_CHANNEL}=0xBASE: {}", text.trim())
        })?;
        let channel = channel
            .strip_prefix("0x")
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .filter(|base| base.is_multiple_of(4096))
            .ok_or_else(|| format!("{CMDLINE_CHANNEL}={channel} is no page's address in hexadecimal"))?;
        let doorbell = match value(CMDLINE_DOORBELL) {
            Some("page") => Some(DoorbellKind::Page),
            Some("none") | None => None,
            Some(other) => {
                let port =
                    other.strip_prefix("port:0x").and_then(|digits| u16::from_str_radix(digits, 16).ok());
                let none = || format!("{CMDLINE_DOORBELL}={other} is neither page nor port:0xPORT nor none");
                Some(DoorbellKind::Port(port.ok_or_else(none)?))
            }
        };
        Ok(Self { channel, doorbell })
    }
}

/// The channel memory, mapped through `/dev/mem` for as long as the guest lives.
pub struct DevMem(&'static [AtomicU64; CHANNEL_WORDS]);

impl DevMem {
    /// Map the channel memory at this guest-physical address.
    pub fn map(base: u64) -> Result<Self, Failure> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/mem")
            .map_err(|error| refused(&error, lockdown))?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses; no Rust object lies there.
        let mapping =
            unsafe { mmap(std::ptr::null_mut(), CHANNEL_BYTES, protection, MapFlags::SHARED, &file, base) };
        let mapping = mapping.map_err(|error| {
            format!("mapping {CHANNEL_BYTES:#x} bytes of /dev/mem at {base:#x}: {error}; is memmap= on the command line?")
        })?;
        // SAFETY: the advice concerns this new mapping only: children, which are to become other programs, do
        // without it, so that a fork need not copy its page tables.
        let advised = unsafe { madvise(mapping, CHANNEL_BYTES, Advice::LinuxDontFork) };
        advised.map_err(|error| format!("madvise of the channel memory: {error}"))?;
        // SAFETY: the mapping is page-aligned, CHANNEL_BYTES long, readable and writable, and never unmapped; any
        // bytes are a valid AtomicU64, and all access to them on this side is through these atomics.
        Ok(Self(unsafe { &*mapping.cast() }))
    }
}

impl ChannelMemory for DevMem {
    fn words(&self) -> &[AtomicU64; CHANNEL_WORDS] {
        self.0
    }
}

/// Why `/dev/mem` could not be opened: `error` is the kernel's answer, `lockdown` finds what its log says of a lockdown.
fn refused(error: &std::io::Error, lockdown: impl FnOnce() -> Option<String>) -> Failure {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            let says = lockdown().map(|line| format!(": {line}")).unwrap_or_default();
            format!(
                "opening /dev/mem, which the channel needs: {error}. The kernel is locked down{says}. Take `lockdown=` off its \
                 command line, or a kernel without CONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY and _CONFIDENTIALITY"
            )
        }
        ErrorKind::NotFound => format!("opening /dev/mem: {error}; the channel needs CONFIG_DEVMEM"),
        _ => format!("opening /dev/mem, which the channel needs: {error}"),
    }
}

/// What the kernel's log says of its lockdown: how it came about (`security/lockdown/lockdown.c`).
fn lockdown() -> Option<String> {
    let mut log = Kmsg::open().ok()?;
    log.find(|text| text.starts_with("Kernel is locked down from "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_refused_says_why() {
        let of = |kind: ErrorKind, line: Option<&str>| refused(&kind.into(), || line.map(str::to_owned));
        let locked = of(ErrorKind::PermissionDenied, Some("Kernel is locked down from command line"));
        assert!(locked.contains("is locked down: Kernel is locked down from command line. Take"), "{locked}");
        assert!(of(ErrorKind::PermissionDenied, None).contains("is locked down. Take"));
        let absent = of(ErrorKind::NotFound, None);
        assert!(absent.contains("CONFIG_DEVMEM") && !absent.contains("locked"), "{absent}");
        assert!(!of(ErrorKind::Other, None).contains("CONFIG"));
    }

    #[test]
    fn finds_its_words_among_others_and_takes_the_last() {
        let text = "quiet ktstr.channel=0x1000 panic=-1 ktstr.doorbell=page ktstr.channel=0x10000000\n";
        assert_eq!(
            Cmdline::parse(text),
            Ok(Cmdline { channel: 0x1000_0000, doorbell: Some(DoorbellKind::Page) })
        );
        assert_eq!(
            Cmdline::parse("ktstr.channel=0x2000 ktstr.doorbell=none"),
            Ok(Cmdline { channel: 0x2000, doorbell: None })
        );
        let port = Cmdline::parse("ktstr.channel=0x2000 ktstr.doorbell=port:0x5f0").map(|line| line.doorbell);
        assert_eq!(port, Ok(Some(DoorbellKind::Port(0x5f0))));
    }

    #[test]
    fn says_which_word_is_missing_or_wrong() {
        let missing = Cmdline::parse("quiet ktstr.channels=0x1000").expect_err("another key");
        assert!(missing.contains("no ktstr.channel=0xBASE"), "{missing}");
        for wrong in ["ktstr.channel=4096", "ktstr.channel=0x1001", "ktstr.channel=0xfffffffffffffffff"] {
            let error = Cmdline::parse(wrong).expect_err("not an address");
            assert!(error.starts_with(wrong), "{error}");
        }
        for doorbell in ["bell", "port", "port:5f0", "port:0x10000", "port:0x"] {
            let text = format!("ktstr.channel=0x1000 ktstr.doorbell={doorbell}");
            let wrong = Cmdline::parse(&text).expect_err("no such doorbell");
            assert!(wrong.contains(&format!("={doorbell} is neither")), "{wrong}");
        }
    }
}
