//! What can go wrong with a machine.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::kvm::boot::BootError;
use crate::initramfs::TooLarge;
use crate::spec::Topology;

/// Why a running machine could not be made to do something.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The emulator's process is gone.
    #[error("the emulator died {}", last_words(.stderr))]
    Died {
        /// The end of its standard error.
        stderr: String,
    },
    /// The emulator did not answer in time.
    #[error("the emulator did not answer {what} {within}")]
    Silent {
        /// The command.
        what: String,
        /// How long it was waited for, in words: `within 10 s`.
        within: String,
        /// For how long the host did not run it meanwhile.
        withheld: Duration,
        /// The host did not give it its time before the bound of that.
        is_at_bound: bool,
    },
    /// The emulator refused a command.
    #[error("the emulator refused {what}: {why}")]
    Refused {
        /// The command.
        what: String,
        /// Its words.
        why: String,
    },
    /// The emulator answered something that its protocol does not provide for.
    #[error("unexpected answer of the emulator to {what}: {answer}")]
    Protocol {
        /// The command.
        what: String,
        /// What came.
        answer: String,
    },
    /// The command needs a stopped machine.
    #[error("this can be done only while the machine is stopped")]
    Running,
    /// The machine is of a kind that cannot do this, or has no room for more of it.
    #[error("this machine cannot {what}")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
    /// The guest has ended and cannot go on.
    #[error("the guest has ended and cannot go on")]
    Ended,
    /// A socket or file between us and the emulator failed.
    #[error("could not {what}")]
    Io {
        /// What was tried.
        what: String,
        /// The cause.
        source: io::Error,
    },
}

/// Why no machine could be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This process is to end.
    #[error("interrupted before the machine was ready")]
    Interrupted,
    /// A dimension is zero or the LLCs do not divide among the nodes.
    #[error("topology {topology} is not possible: {why}")]
    Topology {
        /// What was asked for.
        topology: Topology,
        /// What is wrong with it.
        why: String,
    },
    /// More vCPUs than the machine or the host can carry.
    #[error("topology {topology} has {cpus} vCPUs, {limit}; use fewer LLCs, cores or threads")]
    TooManyCpus {
        /// What was asked for.
        topology: Topology,
        /// Its vCPUs.
        cpus: u32,
        /// The limit in words.
        limit: String,
    },
    /// Less RAM than a kernel and the channel need.
    #[error("{asked_mib} MiB of RAM are too few: the kernel and the guest channel need {least_mib} MiB")]
    TooLittleMemory {
        /// What was asked for.
        asked_mib: u64,
        /// The least.
        least_mib: u64,
    },
    /// More RAM than the host has free.
    #[error(
        "{asked_mib} MiB of RAM and {overhead_mib} MiB for the emulator were asked for, but the host has \
         {free_mib} MiB free; lower the test's memory_mib or end other programs"
    )]
    TooMuchMemory {
        /// What was asked for.
        asked_mib: u64,
        /// What the emulator itself takes.
        overhead_mib: u64,
        /// What is free.
        free_mib: u64,
    },
    /// KASLR needs the compressed image.
    #[error(
        "kaslr needs the bzImage of kernel {kernel}, but only its vmlinux is known; give a bzImage or set kaslr = false"
    )]
    NoBzImage {
        /// The kernel as it was asked for.
        kernel: String,
    },
    /// This host's KVM runs no kernels.
    #[error(
        "the KVM machine cannot be used: {why}. KTSTR_MACHINE=qemu, or no choice at all, takes the emulator"
    )]
    Kvm {
        /// What the probe found.
        why: String,
    },
    /// This host cannot give a machine what performance mode is.
    #[error("performance mode cannot be had: {why}; without it the machine runs beside others")]
    Performance {
        /// What is missing.
        why: String,
    },
    /// What the guest is to boot from cannot be laid out in its memory.
    #[error("could not lay out what the guest boots from: {0}")]
    BootImage(Box<BootError>),
    /// A file that the machine is made of cannot be read.
    #[error("could not open {what} {}", .path.display())]
    Missing {
        /// Its role.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The init program is too large.
    #[error("could not make the initramfs")]
    Initramfs(#[from] TooLarge),
    /// The cache folder cannot be used.
    #[error("could not use the cache at {}", .path.display())]
    Cache {
        /// The folder or file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Other machines kept the host's CPUs for too long.
    #[error(
        "waited {} s for {want} of the host's CPUs, which other VMs of this cache hold ({}); end them or try again",
        .waited.as_secs(), .dir.display()
    )]
    Busy {
        /// CPUs that this machine wants.
        want: u32,
        /// How long it waited.
        waited: Duration,
        /// Where the locks are.
        dir: PathBuf,
    },
    /// Another process kept the template of this machine to itself for too long.
    #[error("waited {} s for a template in {} that another process makes; end it or start cold", .waited.as_secs(), .dir.display())]
    TemplateBusy {
        /// How long it waited.
        waited: Duration,
        /// Where the templates are.
        dir: PathBuf,
    },
    /// Shared memory, sockets or the process could not be had.
    #[error("could not {what}")]
    Host {
        /// What was tried.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The kernel got to init, which could not go on.
    #[error("the kernel came up, but ktstr's init could not go on: {failure}")]
    Init {
        /// What init said.
        failure: String,
        /// The end of the console.
        console: String,
    },
    /// The kernel did not get to init, twice.
    #[error("the kernel did not get to init in {attempts} attempts: {fault}{}", console_end(.console))]
    Boot {
        /// How often it was tried.
        attempts: u32,
        /// What happened the last time.
        fault: String,
        /// How long the last attempt took.
        took: Duration,
        /// For how long of that the host did not run the machine, where it can be the reason: something took too long. Else 0.
        withheld: Duration,
        /// The end of the console.
        console: String,
    },
}

impl StartError {
    /// Whether a larger host would start the machine.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::TooManyCpus { .. } | Self::TooMuchMemory { .. } | Self::Performance { .. })
    }
}

/// How a process ended, by what it wrote to standard error.
pub(super) fn last_words(stderr: &str) -> String {
    if stderr.is_empty() { String::from("without a word") } else { format!("saying: {stderr}") }
}

fn console_end(tail: &str) -> String {
    if tail.is_empty() {
        String::from("\nthe console is empty")
    } else {
        format!("\nthe console ends with:\n{tail}")
    }
}

/// At most the last `max` bytes of `text`, beginning with a whole line where one was cut.
pub(super) fn tail(text: &str, max: usize) -> &str {
    let from = text.ceil_char_boundary(text.len().saturating_sub(max));
    let end = match text[from..].split_once('\n') {
        Some((_, whole_lines)) if from > 0 => whole_lines,
        _ => &text[from..],
    };
    end.trim_end()
}

#[cfg(test)]
mod tests {
    use super::tail;

    #[test]
    fn tail_begins_with_a_whole_line() {
        let text = "first line\nsecond\nthird\n";
        assert_eq!(tail(text, 1000), "first line\nsecond\nthird");
        assert_eq!(tail(text, 15), "second\nthird");
        assert_eq!(tail("\u{e4}\u{e4}\nend", 6), "end", "a character that is cut");
    }
}
