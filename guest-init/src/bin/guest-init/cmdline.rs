//! What the kernel's command line says to init.

use std::fs;

use guest_init::layout::{CMDLINE_CHANNEL, CMDLINE_DOORBELL};

use crate::Failure;

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

#[cfg(test)]
mod tests {
    use super::*;

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
