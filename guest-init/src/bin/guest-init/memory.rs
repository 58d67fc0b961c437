//! Where the channel memory and the doorbell are: what the kernel's command line says of them, and init's mappings.

use std::ffi::c_void;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::sync::atomic::AtomicU64;

use guest_init::layout::{
    CHANNEL_BYTES, CHANNEL_WORDS, CMDLINE_CHANNEL, CMDLINE_DOORBELL, ChannelMemory, DOORBELL_PAGE,
};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous};

use crate::Failure;
use crate::kernel::Kmsg;

/// Words of the command line that are for init.
#[derive(Debug, PartialEq, Eq)]
pub struct Cmdline {
    /// Guest-physical address of the channel memory.
    pub channel: u64,
    /// Whether a store to the doorbell page stops the machine.
    pub doorbell: bool,
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
            Some("page") => true,
            Some("none") | None => false,
            Some(other) => return Err(format!("{CMDLINE_DOORBELL}={other} is neither page nor none")),
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

/// Map the doorbell page and return its first word.
pub fn map_doorbell() -> Result<&'static AtomicU64, Failure> {
    let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE | MapFlags::POPULATE;
    let at = DOORBELL_PAGE as *mut c_void;
    // SAFETY: FIXED_NOREPLACE fails rather than replace a mapping, so nothing of ours can lie there.
    let page = unsafe { mmap_anonymous(at, 4096, ProtFlags::READ | ProtFlags::WRITE, flags) };
    let page = page.map_err(|error| format!("mapping the doorbell page at {DOORBELL_PAGE:#x}: {error}"))?;
    // SAFETY: the page was just mapped, readable, writable and zero, and is never unmapped.
    Ok(unsafe { &*page.cast() })
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
        assert_eq!(Cmdline::parse(text), Ok(Cmdline { channel: 0x1000_0000, doorbell: true }));
        assert_eq!(
            Cmdline::parse("ktstr.channel=0x2000 ktstr.doorbell=none"),
            Ok(Cmdline { channel: 0x2000, doorbell: false })
        );
    }

    #[test]
    fn says_which_word_is_missing_or_wrong() {
        let missing = Cmdline::parse("quiet ktstr.channels=0x1000").expect_err("another key");
        assert!(missing.contains("no ktstr.channel=0xBASE"), "{missing}");
        for wrong in ["ktstr.channel=4096", "ktstr.channel=0x1001", "ktstr.channel=0xfffffffffffffffff"] {
            let error = Cmdline::parse(wrong).expect_err("not an address");
            assert!(error.starts_with(wrong), "{error}");
        }
        let wrong = Cmdline::parse("ktstr.channel=0x1000 ktstr.doorbell=bell").expect_err("no such doorbell");
        assert!(wrong.contains("bell"), "{wrong}");
    }
}
