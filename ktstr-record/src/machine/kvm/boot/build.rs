//! All of a guest's memory before its first instruction.

use std::borrow::Cow;
use std::ops::Range;

use super::acpi;
use super::cpu::KernelEntry;
use super::error::BootError;
use super::kernel::{Loaded, Protocol};
use super::layout::{ACPI, ACPI_END, CMDLINE, CMDLINE_MAX, GDT, HIGH, PAGE_TABLES, PARAMS};
use super::memory::MemoryMap;
use super::params::{self, Told};
use super::topology::ApicIds;
use crate::spec::Topology;

const PAGE: u64 = 4096;

/// What is to boot.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// Its CPUs.
    pub topology: Topology,
    /// RAM of each NUMA node in bytes, as the guest's RAM has it: below 3 GiB, and from 4 GiB on what is more.
    pub node_bytes: &'a [u64],
    /// The kernel's file: a bzImage or an ELF.
    pub kernel: &'a [u8],
    /// The initramfs; it can be empty.
    pub initramfs: &'a [u8],
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// How the kernel is entered.
    pub protocol: Protocol,
}

/// Bytes that go to guest-physical memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region<'a> {
    /// The address of the first one.
    pub at: u64,
    /// The bytes.
    pub bytes: Cow<'a, [u8]>,
}

/// What is in a guest's memory and registers before its first instruction.
#[derive(Clone, Debug)]
pub struct BootImage<'a> {
    /// What is in its memory; all else of it must be zero. They do not overlap.
    pub regions: Vec<Region<'a>>,
    /// The registers of the first vCPU.
    pub entry: KernelEntry,
    /// The APIC id of each vCPU. KVM's number of a vCPU must be its APIC id (`KVM_CREATE_VCPU`).
    pub apic_ids: ApicIds,
    /// The tables of ACPI that the kernel finds, by their address: the RSDP, then those with a header, which names them.
    pub acpi: Vec<(u64, Vec<u8>)>,
}

/// Lay out what `guest` boots from.
///
/// # Errors
/// [`BootError`] if the kernel cannot be entered so, something does not fit, or the topology is impossible.
pub fn build<'a>(guest: &Guest<'a>) -> Result<BootImage<'a>, BootError> {
    let apic_ids = ApicIds::new(guest.topology)?;
    if guest.node_bytes.len() != guest.topology.numa_nodes as usize {
        return Err(BootError::Nodes { given: guest.node_bytes.len(), nodes: guest.topology.numa_nodes });
    }
    let memory = MemoryMap::new(guest.node_bytes);
    let low = memory.low();
    let kernel = Loaded::new(guest.kernel, guest.protocol)?;
    if kernel.span.start < HIGH || kernel.span.end > low.end {
        return Err(BootError::KernelOutsideRam(kernel.span));
    }
    let initramfs = place_initramfs(&kernel, guest.initramfs.len(), low.end)?;
    let tables = acpi::tables(&apic_ids, &memory.nodes, ACPI);
    let room = (ACPI_END - ACPI) as usize;
    let needed = tables.last().map_or(0, |(at, bytes)| (at - ACPI) as usize + bytes.len());
    if needed > room {
        return Err(BootError::TooManyCpus { cpus: apic_ids.cpus(), needed, room });
    }

    let told = Told { memory: &memory, initramfs: &initramfs, rsdp: ACPI };
    let params = match guest.protocol {
        Protocol::Linux64 => params::linux64(&told, kernel.setup_header),
        Protocol::Pvh => params::pvh(&told),
    };
    let entry = KernelEntry::new(kernel.entry, guest.protocol);
    let mut regions = vec![
        Region { at: GDT, bytes: entry.gdt().into() },
        Region { at: PARAMS, bytes: params.into() },
        Region { at: CMDLINE, bytes: cmdline(guest.cmdline)?.into() },
        Region { at: initramfs.start, bytes: guest.initramfs.into() },
    ];
    regions.extend(entry.page_tables().map(|bytes| Region { at: PAGE_TABLES, bytes: bytes.into() }));
    regions.extend(tables.iter().map(|(at, bytes)| Region { at: *at, bytes: bytes.clone().into() }));
    regions.extend(kernel.regions);
    regions.sort_by_key(|region| region.at);
    Ok(BootImage { regions, entry, apic_ids, acpi: tables })
}

/// The command line with its NUL.
fn cmdline(line: &str) -> Result<Vec<u8>, BootError> {
    if line.len() >= CMDLINE_MAX {
        return Err(BootError::CmdlineTooLong { bytes: line.len(), most: CMDLINE_MAX - 1 });
    }
    if line.contains('\0') {
        return Err(BootError::CmdlineNul);
    }
    Ok([line.as_bytes(), b"\0"].concat())
}

/// As high as it may be, so that it meets neither the kernel nor the guest channel at half of RAM.
fn place_initramfs(kernel: &Loaded<'_>, bytes: usize, low_end: u64) -> Result<Range<u64>, BootError> {
    let limit = low_end.min(kernel.initramfs_max.saturating_add(1));
    let kernel_end = kernel.span.end;
    let too_large = BootError::InitramfsTooLarge { bytes, kernel_end, limit };
    let bytes = bytes as u64;
    let at = limit.checked_sub(bytes).map(|at| at & !(PAGE - 1)).filter(|&at| at >= kernel_end);
    at.map(|at| at..at + bytes).ok_or(too_large)
}

#[cfg(test)]
mod tests {
    use super::super::kernel::tiny_elf;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn guest<'a>(kernel: &'a [u8], initramfs: &'a [u8], node_bytes: &'a [u64]) -> Guest<'a> {
        let numa_nodes = node_bytes.len() as u32;
        let topology = Topology { numa_nodes, llcs: numa_nodes, cores_per_llc: 2, threads_per_core: 1 };
        Guest { topology, node_bytes, kernel, initramfs, cmdline: "quiet", protocol: Protocol::Linux64 }
    }

    #[test]
    fn regions_are_in_ram_and_apart() {
        let kernel = tiny_elf();
        let nodes = [256 * MIB, 4096 * MIB];
        let initramfs = vec![1; 5000];
        let image = build(&guest(&kernel, &initramfs, &nodes)).unwrap();
        for pair in image.regions.windows(2) {
            assert!(pair[0].at + pair[0].bytes.len() as u64 <= pair[1].at, "{:#x}", pair[1].at);
        }
        let last = image.regions.last().unwrap();
        assert_eq!((last.at, &last.bytes[..]), (0x8000_0000 - 8192, &initramfs[..]), "below initrd_addr_max");
        let cmdline = image.regions.iter().find(|region| region.at == 0x1_0000).unwrap();
        assert_eq!(&cmdline.bytes[..], b"quiet\0");
        assert!(image.regions.iter().all(|region| !(0xa_0000..0x10_0000).contains(&region.at)));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let kernel = tiny_elf();
        let error = |guest: &Guest<'_>| build(guest).unwrap_err().to_string();
        let small = error(&guest(&kernel, &[], &[8 * MIB]));
        assert_eq!(
            small,
            "the kernel needs 0x1000000-0x1001000, which is not RAM; give the guest more memory"
        );
        let initramfs = vec![0; 4 << 20];
        let full = error(&guest(&kernel, &initramfs, &[20 * MIB]));
        assert!(
            full.starts_with("the initramfs of 4194304 bytes does not fit between the kernel's end"),
            "{full}"
        );
        let long = "x".repeat(2048);
        let long = error(&Guest { cmdline: &long, ..guest(&kernel, &[], &[64 * MIB]) });
        assert_eq!(
            long,
            "the kernel's command line has 2048 bytes, but the kernel keeps 2047; use fewer kargs"
        );
        let nul = error(&Guest { cmdline: "a\0b", ..guest(&kernel, &[], &[64 * MIB]) });
        assert!(nul.contains("NUL"), "{nul}");
        let mut many = guest(&kernel, &[], &[64 * MIB]);
        many.topology.cores_per_llc = 8192;
        let many = error(&many);
        assert!(many.starts_with("8192 vCPUs need ") && many.contains("room for 131072"), "{many}");
        let mut nodes = guest(&kernel, &[], &[64 * MIB]);
        nodes.topology.numa_nodes = 2;
        nodes.topology.llcs = 2;
        assert_eq!(error(&nodes), "RAM is given for 1 NUMA nodes, but the topology has 2");
    }
}
