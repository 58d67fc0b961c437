//! Why a guest's memory cannot be made.

use std::ops::Range;

use crate::machine::error::StartError;
use crate::spec::Topology;

/// Why a guest's memory cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A dimension is zero or the LLCs do not divide among the nodes.
    #[error(transparent)]
    Topology(Box<StartError>),
    /// An APIC id has 32 bits, and the last one is for all CPUs.
    #[error("topology {0} needs APIC ids of more than 32 bits; use fewer LLCs, cores or threads")]
    ApicIds(Topology),
    /// RAM is given for another number of NUMA nodes than there are.
    #[error("RAM is given for {given} NUMA nodes, but the topology has {nodes}")]
    Nodes {
        /// Sizes given.
        given: usize,
        /// Nodes of the topology.
        nodes: u32,
    },
    /// The file is neither an ELF nor a bzImage, or one that cannot be entered so.
    #[error("the kernel {0}")]
    Kernel(&'static str),
    /// A part of the kernel lies where there is no RAM.
    #[error("the kernel needs {:#x}-{:#x}, which is not RAM; give the guest more memory", .0.start, .0.end)]
    KernelOutsideRam(Range<u64>),
    /// The command line is longer than the kernel keeps.
    #[error("the kernel's command line has {bytes} bytes, but the kernel keeps {most}; use fewer kargs")]
    CmdlineTooLong {
        /// Its bytes, without the NUL.
        bytes: usize,
        /// The most.
        most: usize,
    },
    /// The command line has a NUL, where the kernel would end it.
    #[error("the kernel's command line has a NUL byte")]
    CmdlineNul,
    /// There is no room for the initramfs above the kernel.
    #[error(
        "the initramfs of {bytes} bytes does not fit between the kernel's end at {kernel_end:#x} and {limit:#x}; give \
         the guest more memory"
    )]
    InitramfsTooLarge {
        /// Its bytes.
        bytes: usize,
        /// Where the kernel ends.
        kernel_end: u64,
        /// The highest address that its last byte may have, and one more.
        limit: u64,
    },
    /// The ACPI tables do not fit where they lie.
    #[error("{cpus} vCPUs need {needed} bytes of ACPI tables, and there is room for {room}; use fewer")]
    TooManyCpus {
        /// vCPUs.
        cpus: u32,
        /// Bytes of the tables.
        needed: usize,
        /// Bytes that there are for them.
        room: usize,
    },
}
