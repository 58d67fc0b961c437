//! MADT, SRAT and SLIT: which CPUs there are and to which NUMA node CPUs and memory belong.

use std::ops::Range;

use acpi_tables::Aml;
use acpi_tables::madt::{EnabledStatus, IoApic, ProcessorLocalApic};
use acpi_tables::slit::SLIT;
use acpi_tables::srat::MemoryAffinity;

use super::super::topology::ApicIds;
use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID, SCI_GSI, bytes, table};

const LOCAL_APIC: u32 = 0xfee0_0000;
const IO_APIC: u32 = 0xfec0_0000;
/// There are two 8259s besides (`PCAT_COMPAT`); without it the kernel looks, and finds none.
const PC_AT: u32 = 1;
const NO_8259: u32 = 0;
/// The entry of a CPU or of memory counts.
const ENABLED: u32 = 1;

/// Numbers of structures in MADT (5.2.12) and SRAT (5.2.16).
const MADT_INTERRUPT_OVERRIDE: u8 = 2;
const MADT_LOCAL_APIC_NMI: u8 = 4;
const MADT_LOCAL_X2APIC: u8 = 9;
const MADT_LOCAL_X2APIC_NMI: u8 = 10;
const SRAT_LOCAL_APIC: u8 = 0;
const SRAT_LOCAL_X2APIC: u8 = 2;

/// The timer's interrupt 0 arrives at pin 2 of the IOAPIC, as on every PC.
const TIMER_OVERRIDE: (u8, u32, u16) = (0, 2, 0);
/// ACPI's own interrupt is active high and level-triggered.
const SCI_OVERRIDE: (u8, u32, u16) = (SCI_GSI as u8, SCI_GSI as u32, 0b1101);
/// NMIs arrive at this pin of every local APIC.
const NMI_PIN: u8 = 1;

/// Distances between NUMA nodes, of which 10 is that of a node to itself.
const DISTANCE_REMOTE: u8 = 20;

/// The CPUs in the order of their numbers: the kernel numbers them as they come. Ids that an xAPIC can have are listed as
/// such, since the kernel drops others of that size (`acpi_parse_x2apic`).
pub(super) fn madt(ids: &ApicIds) -> Vec<u8> {
    let flags = if ids.beyond_xapic() { NO_8259 } else { PC_AT };
    let mut body = [LOCAL_APIC.to_le_bytes(), flags.to_le_bytes()].concat();
    for (cpu, id) in (0..).zip(ids.ids()) {
        match (u8::try_from(cpu), u8::try_from(id)) {
            (Ok(cpu), Ok(id)) if !ApicIds::is_x2apic(id.into()) => {
                ProcessorLocalApic::new(cpu, id, EnabledStatus::Enabled).to_aml_bytes(&mut body);
            }
            _ => {
                body.extend([MADT_LOCAL_X2APIC, 16, 0, 0]);
                body.extend([id, ENABLED, cpu].map(u32::to_le_bytes).concat());
            }
        }
    }
    IoApic::new(0, IO_APIC, 0).to_aml_bytes(&mut body);
    // With the 8259s goes the timer.
    let overrides: &[_] = if ids.beyond_xapic() { &[SCI_OVERRIDE] } else { &[TIMER_OVERRIDE, SCI_OVERRIDE] };
    for &(irq, gsi, flags) in overrides {
        body.extend([MADT_INTERRUPT_OVERRIDE, 10, 0, irq]);
        body.extend(gsi.to_le_bytes());
        body.extend(flags.to_le_bytes());
    }
    // All processors, with polarity and trigger of the bus.
    body.extend([MADT_LOCAL_APIC_NMI, 6, 0xff, 0, 0, NMI_PIN]);
    if ids.beyond_xapic() {
        body.extend([MADT_LOCAL_X2APIC_NMI, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, NMI_PIN, 0, 0, 0]);
    }
    table(*b"APIC", 5, &body)
}

/// The NUMA nodes of CPUs and of `memory`.
pub(super) fn srat(ids: &ApicIds, memory: &[(u32, Range<u64>)]) -> Vec<u8> {
    // A reserved number that must be 1, and eight reserved bytes.
    let mut body = [&1_u32.to_le_bytes()[..], &[0; 8]].concat();
    for (cpu, id) in (0..).zip(ids.ids()) {
        let node = ids.node(cpu);
        let [node_low, node_high @ ..] = node.to_le_bytes();
        match u8::try_from(id) {
            Ok(apic) if !ApicIds::is_x2apic(id) => {
                body.extend([SRAT_LOCAL_APIC, 16, node_low, apic]);
                body.extend(ENABLED.to_le_bytes());
                body.push(0);
                body.extend(node_high);
                body.extend([0; 4]);
            }
            _ => {
                body.extend([SRAT_LOCAL_X2APIC, 24, 0, 0]);
                body.extend([node, id, ENABLED, 0, 0].map(u32::to_le_bytes).concat());
            }
        }
    }
    for (node, range) in memory {
        let affinity = MemoryAffinity::new(*node, range.start, range.end - range.start);
        affinity.enabled().to_aml_bytes(&mut body);
    }
    table(*b"SRAT", 3, &body)
}

/// The distance of each node to each.
pub(super) fn slit(nodes: u32) -> Vec<u8> {
    let mut slit = SLIT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION, nodes);
    for a in 0..nodes as usize {
        for b in 0..a {
            slit.set_distance(a, b, DISTANCE_REMOTE);
        }
    }
    bytes(&slit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Topology;

    /// The structures behind the first `skip` bytes of a table, each with its kind and length.
    fn structures(table: &[u8], skip: usize) -> Vec<&[u8]> {
        let (mut rest, mut found) = (&table[skip..], Vec::new());
        while !rest.is_empty() {
            let (first, others) = rest.split_at(rest[1].into());
            found.push(first);
            rest = others;
        }
        found
    }

    fn of_kind<'a>(all: &[&'a [u8]], kind: u8) -> Vec<&'a [u8]> {
        all.iter().filter(|s| s[0] == kind).copied().collect()
    }

    #[test]
    fn ids_beyond_254_have_x2apic_entries_and_only_they() {
        let topology = Topology { numa_nodes: 2, llcs: 42, cores_per_llc: 3, threads_per_core: 2 };
        let ids = ApicIds::new(topology).unwrap();
        let beyond: Vec<(u32, u32)> = (0..).zip(ids.ids()).filter(|(_, id)| *id > 254).collect();
        assert!(!beyond.is_empty());
        let madt = madt(&ids);
        let all = structures(&madt, 44);
        let x2apic = of_kind(&all, 9);
        assert_eq!((of_kind(&all, 0).len(), x2apic.len()), (252 - beyond.len(), beyond.len()));
        for ((cpu, id), entry) in beyond.iter().zip(&x2apic) {
            assert_eq!(entry[4..8], id.to_le_bytes());
            assert_eq!((&entry[8..12], &entry[12..16]), (&[1, 0, 0, 0][..], &cpu.to_le_bytes()[..]));
        }
        assert_eq!((of_kind(&all, 1).len(), of_kind(&all, 2).len(), of_kind(&all, 10).len()), (1, 1, 1));
        assert_eq!(madt[40..44], [0; 4], "no 8259");
        let srat = srat(&ids, &[(1, 4 << 30..5 << 30)]);
        let all = structures(&srat, 48);
        assert_eq!((of_kind(&all, 0).len(), of_kind(&all, 2).len()), (252 - beyond.len(), beyond.len()));
        let last = of_kind(&all, 2).pop().unwrap();
        assert_eq!(
            (&last[4..8], &last[8..12]),
            (&[1, 0, 0, 0][..], &beyond.last().unwrap().1.to_le_bytes()[..])
        );
        let memory = of_kind(&all, 1)[0];
        assert_eq!((memory[2], &memory[8..16], memory[28]), (1, &(4_u64 << 30).to_le_bytes()[..], 1));
    }

    #[test]
    fn distances_are_symmetric() {
        let slit = slit(3);
        assert_eq!(slit[44..], [10, 20, 20, 20, 10, 20, 20, 20, 10]);
    }
}
