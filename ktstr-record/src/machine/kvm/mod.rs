//! The machine that runs guest code on the host's CPU, by `/dev/kvm`.
//!
//! ```text
//! boot        what its guest boots from: kernel, page tables, ACPI, CPUID    boot/
//! ```

pub mod boot;
