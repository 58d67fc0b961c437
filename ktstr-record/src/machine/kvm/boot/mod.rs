//! What a guest of the KVM machine boots from: everything in its memory and registers before its first instruction.
//!
//! There is no firmware. [`build`] makes the memory that one would leave behind, and the state in which it would enter
//! the kernel.
//!
//! ```text
//! layout      where each thing lies in guest-physical memory      layout.rs
//! topology    APIC ids, and with them the widths of the levels    topology.rs
//! memory      RAM by NUMA node, the e820 map                      memory.rs
//! kernel      bzImage and ELF: segments, entry                    kernel/
//! params      boot_params or PVH's start info                     params.rs
//! cpu         GDT, page tables, registers, MSRs                   cpu.rs
//! acpi        RSDP, XSDT, FADT, DSDT, MADT, SRAT, SLIT            acpi/
//! cpuid       the leaves from which the kernel reads topology     cpuid.rs
//! ```
//!
//! Of the ACPI tables that can describe topology the kernel reads no PPTT on x86 (`CONFIG_ACPI_PPTT` is selected by other
//! architectures alone), and takes from an HMAT only latencies and bandwidths of memory, so that there is neither.
//! Threads, cores and LLCs come from CPUID; NUMA nodes from SRAT, and their distances from SLIT.

mod acpi;
mod build;
mod cpu;
mod cpuid;
mod error;
mod kernel;
mod layout;
mod memory;
mod params;
mod topology;

pub use acpi::{PM1_CONTROL_PORT, PM1_EVENT_PORT, RESET_PORT, RESET_VALUE, SCI_GSI};
pub use build::{BootImage, Guest, Region, build};
pub use cpu::KernelEntry;
pub(super) use cpu::{MISC_ENABLE, MTRR_DEF_TYPE};
pub use error::BootError;
pub use kernel::Protocol;
pub use topology::ApicIds;
pub(super) use topology::{APIC_ID_MAX, XAPIC_MAX};
