//! ACPI: the tables through which the kernel finds CPUs, NUMA nodes, interrupts and power-off.
//!
//! ```text
//! RSDP ──► XSDT ─┬► FADT ─┬► DSDT   the serial port, \_S5     fixed.rs
//!                │        └► FACS   nothing, but it must exist
//!                ├► MADT            APIC ids                  cpus.rs
//!                ├► SRAT            NUMA nodes
//!                └► SLIT            their distances
//! ```
//!
//! Source of all formats: the ACPI specification 6.5, chapter 5.2.

mod cpus;
mod fixed;

use std::ops::Range;

use acpi_tables::Aml;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;

use super::topology::ApicIds;

pub use fixed::{PM1_CONTROL_PORT, PM1_EVENT_PORT, RESET_PORT, RESET_VALUE, SCI_GSI};

const OEM_ID: [u8; 6] = *b"KTSTR ";
const OEM_TABLE_ID: [u8; 8] = *b"KTSTR VM";
const OEM_REVISION: u32 = 1;
/// An FACS must be on a multiple of it; the others are, too.
const ALIGNMENT: u64 = 64;

/// The tables by their addresses: the RSDP at `base`, the others behind it.
pub(super) fn tables(ids: &ApicIds, memory: &[(u32, Range<u64>)], base: u64) -> Vec<(u64, Vec<u8>)> {
    let mut placed = Placed { tables: Vec::new(), end: base + Rsdp::len() as u64 };
    let dsdt = placed.add(fixed::dsdt());
    let facs = placed.add(fixed::facs());
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    for table in [
        fixed::fadt(dsdt, facs),
        cpus::madt(ids),
        cpus::srat(ids, memory),
        cpus::slit(ids.topology().numa_nodes),
    ] {
        xsdt.add_entry(placed.add(table));
    }
    let xsdt = placed.add(bytes(&xsdt));
    placed.tables.insert(0, (base, bytes(&Rsdp::new(OEM_ID, xsdt))));
    placed.tables
}

struct Placed {
    tables: Vec<(u64, Vec<u8>)>,
    end: u64,
}

impl Placed {
    /// Puts it behind the others; returns its address.
    fn add(&mut self, table: Vec<u8>) -> u64 {
        let at = self.end.next_multiple_of(ALIGNMENT);
        self.end = at + table.len() as u64;
        self.tables.push((at, table));
        at
    }
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// A table of a header and `body`.
fn table(signature: [u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut table = Sdt::new(signature, 36, revision, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    table.append_slice(body);
    table.as_slice().to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::topology::ApicIds;
    use super::tables;
    use crate::spec::Topology;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    /// As the kernel goes: from the RSDP by addresses alone.
    #[test]
    fn every_table_is_found_by_its_address_and_has_a_right_sum() {
        let topology = Topology { numa_nodes: 2, llcs: 84, cores_per_llc: 3, threads_per_core: 1 };
        let ids = ApicIds::new(topology).unwrap();
        let placed = tables(&ids, &[(0, 0..1 << 28), (1, 1 << 28..1 << 29)], 0x8_0000);
        let at = |address: u64| &placed.iter().find(|(at, _)| *at == address).expect("a table").1;
        let rsdp = at(0x8_0000);
        assert_eq!((&rsdp[..8], sum(&rsdp[..20]), sum(rsdp), rsdp.len()), (&b"RSD PTR "[..], 0, 0, 36));
        let xsdt = at(u64_at(rsdp, 24));
        let mut names = vec![String::from_utf8_lossy(&xsdt[..4]).into_owned()];
        let mut others: Vec<_> = xsdt[36..].chunks(8).map(|entry| at(u64_at(entry, 0))).collect();
        let fadt = others[0];
        others
            .extend([at(u64_at(fadt, 140)), at(u32::from_le_bytes(fadt[36..40].try_into().unwrap()).into())]);
        for table in others.iter().chain([&xsdt]) {
            assert_eq!(u32::from_le_bytes(table[4..8].try_into().unwrap()) as usize, table.len());
            let is_facs = table.starts_with(b"FACS");
            assert!(is_facs || sum(table) == 0, "{:?}", &table[..4]);
        }
        names.extend(others.iter().map(|table| String::from_utf8_lossy(&table[..4]).into_owned()));
        assert_eq!(names, ["XSDT", "FACP", "APIC", "SRAT", "SLIT", "DSDT", "FACS"]);
        assert_eq!(placed.len(), 8);
        assert!(placed.windows(2).all(|pair| pair[0].0 + pair[0].1.len() as u64 <= pair[1].0));
    }
}
