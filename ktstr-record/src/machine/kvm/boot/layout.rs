//! Where each thing lies in guest-physical memory.
//!
//! ```text
//! 0x00000            not used
//! 0x01000            GDT
//! 0x02000            boot_params, or PVH's start info with its tables
//! 0x09000 - 0x0efff  page tables
//! 0x10000 - 0x1ffff  command line
//! 0x80000 - 0x9ffff  ACPI tables, the RSDP first (type 3 in e820)
//! 0xa0000 - 0xfffff  reserved, as on a PC
//! 1 MiB and above    RAM: the kernel, the guest channel at half, the initramfs at the end of low RAM
//! ```

/// The GDT, which the kernel replaces.
pub(super) const GDT: u64 = 0x1000;
/// `boot_params` ("zero page"), 4096 bytes, or `hvm_start_info` and what it points to.
pub(super) const PARAMS: u64 = 0x2000;
/// The top of a stack, which no entry of the kernel relies on.
pub(super) const STACK_TOP: u64 = 0x8ff0;
/// The first page table.
pub(super) const PAGE_TABLES: u64 = 0x9000;
/// The command line.
pub(super) const CMDLINE: u64 = 0x1_0000;
/// The most bytes of a command line, its NUL included, that the kernel keeps (`COMMAND_LINE_SIZE` of x86).
pub(super) const CMDLINE_MAX: usize = 2048;
/// The ACPI tables.
pub(super) const ACPI: u64 = 0x8_0000;
/// The end of them and of RAM below 1 MiB.
pub(super) const ACPI_END: u64 = 0xa_0000;
/// RAM goes on here.
pub(super) const HIGH: u64 = 0x10_0000;
