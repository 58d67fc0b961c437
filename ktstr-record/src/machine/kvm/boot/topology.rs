//! APIC ids: a CPU's place in the topology, in bits.

use super::error::BootError;
use crate::machine::limits::check_topology;
use crate::spec::Topology;

/// The largest APIC id that the 8-bit ids of an xAPIC can express; 255 means all CPUs.
pub(in crate::machine::kvm) const XAPIC_MAX: u32 = 254;
/// The largest APIC id that interrupts of devices can be sent to, without the remapping of an IOMMU.
pub(in crate::machine::kvm) const APIC_ID_MAX: u32 = 0x7fff;

/// How the APIC ids of a topology are composed. Each level has as many bits as its count needs, so that a count which is no
/// power of two leaves ids unused:
///
/// ```text
/// | node = package | LLC in the node | core in the LLC | thread in the core |
/// ```
///
/// Source: Intel's Software Developer's Manual, volume 3, "Hierarchical Mapping of Shared Resources".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicIds {
    topology: Topology,
    /// Bits below the number of the core.
    pub thread_bits: u32,
    /// Bits below the number of the LLC.
    pub llc_shift: u32,
    /// Bits below the number of the package.
    pub package_shift: u32,
}

/// How many bits `count` values need.
fn bits(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

impl ApicIds {
    /// Of a topology in which no dimension is zero and the LLCs divide among the nodes.
    ///
    /// # Errors
    /// [`BootError::Topology`] if it is another, [`BootError::ApicIds`] if its ids have more than 32 bits.
    pub fn new(topology: Topology) -> Result<Self, BootError> {
        check_topology(topology).map_err(|e| BootError::Topology(Box::new(e)))?;
        let too_many = || BootError::ApicIds(topology);
        let Topology { numa_nodes, llcs, cores_per_llc, threads_per_core } = topology;
        if [llcs, cores_per_llc, threads_per_core].iter().any(|&count| count > 1 << 16) {
            return Err(too_many());
        }
        let thread_bits = bits(threads_per_core);
        let llc_shift = thread_bits + bits(cores_per_llc);
        let package_shift = llc_shift + bits(llcs / numa_nodes);
        // Not 32: the largest id means all CPUs.
        if package_shift + bits(numa_nodes) > 31 {
            return Err(too_many());
        }
        Ok(Self { topology, thread_bits, llc_shift, package_shift })
    }

    /// The topology.
    #[must_use]
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// vCPUs.
    #[must_use]
    pub fn cpus(&self) -> u32 {
        self.topology.cpus()
    }

    /// CPUs of a NUMA node, which is a package.
    #[must_use]
    pub fn cpus_per_package(&self) -> u32 {
        self.cpus() / self.topology.numa_nodes
    }

    /// The NUMA node and package of vCPU `cpu`.
    #[must_use]
    pub fn node(&self, cpu: u32) -> u32 {
        cpu / self.cpus_per_package()
    }

    /// The core of vCPU `cpu`, counted in its package with the gaps of the ids.
    #[must_use]
    pub fn core_in_package(&self, cpu: u32) -> u32 {
        (self.id(cpu) & ((1 << self.package_shift) - 1)) >> self.thread_bits
    }

    /// The APIC id of vCPU `cpu`, by which KVM numbers it.
    #[must_use]
    pub fn id(&self, cpu: u32) -> u32 {
        let Topology { cores_per_llc, threads_per_core, .. } = self.topology;
        let (core, thread) = (cpu / threads_per_core, cpu % threads_per_core);
        let (llc, core) = (core / cores_per_llc, core % cores_per_llc);
        let llcs_per_node = self.topology.llcs / self.topology.numa_nodes;
        let (node, llc) = (llc / llcs_per_node, llc % llcs_per_node);
        node << self.package_shift | llc << self.llc_shift | core << self.thread_bits | thread
    }

    /// The APIC ids of all vCPUs, ascending.
    pub fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.cpus()).map(|cpu| self.id(cpu))
    }

    /// Whether there are ids that interrupts of KVM's IOAPIC cannot be sent to: then CPUs need x2APIC, and the machine has an
    /// IOAPIC of its own (KVM's "split irqchip"), without 8259s and a PIT.
    #[must_use]
    pub fn beyond_xapic(&self) -> bool {
        self.id(self.cpus() - 1) > XAPIC_MAX
    }

    /// Whether `id` needs the entries of an x2APIC in ACPI's tables.
    pub(super) fn is_x2apic(id: u32) -> bool {
        id > XAPIC_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{ApicIds, BootError};
    use crate::spec::Topology;

    fn topology(numa_nodes: u32, llcs: u32, cores_per_llc: u32, threads_per_core: u32) -> Topology {
        Topology { numa_nodes, llcs, cores_per_llc, threads_per_core }
    }

    #[test]
    fn counts_that_are_no_power_of_two_leave_gaps() {
        let ids = ApicIds::new(topology(2, 2, 3, 1)).unwrap();
        assert_eq!(ids.ids().collect::<Vec<_>>(), [0, 1, 2, 4, 5, 6]);
        let ids = ApicIds::new(topology(1, 3, 1, 3)).unwrap();
        assert_eq!(ids.ids().collect::<Vec<_>>(), [0, 1, 2, 4, 5, 6, 8, 9, 10]);
        assert_eq!((ids.thread_bits, ids.llc_shift, ids.package_shift), (2, 2, 4));
        let one = ApicIds::new(topology(1, 1, 1, 1)).unwrap();
        assert_eq!((one.thread_bits, one.package_shift, one.id(0)), (0, 0, 0));
    }

    #[test]
    fn few_cpus_can_have_ids_beyond_254() {
        // 252 vCPUs, of which each LLC takes 8 ids for its 6.
        let ids = ApicIds::new(topology(1, 42, 3, 2)).unwrap();
        assert_eq!((ids.cpus(), ids.id(251)), (252, 41 << 3 | 5));
        assert!(ids.beyond_xapic());
        assert!(!ApicIds::new(topology(1, 1, 254, 1)).unwrap().beyond_xapic());
    }

    #[test]
    fn impossible_topologies_are_refused() {
        assert!(matches!(ApicIds::new(topology(0, 1, 1, 1)), Err(BootError::Topology(_))));
        assert!(matches!(ApicIds::new(topology(2, 3, 1, 1)), Err(BootError::Topology(_))));
        assert!(matches!(ApicIds::new(topology(1, 1 << 16, 1 << 16, 1)), Err(BootError::ApicIds(_))));
        assert!(matches!(ApicIds::new(topology(1, u32::MAX, 1, 1)), Err(BootError::ApicIds(_))));
    }

    proptest! {
        /// What the kernel makes of the ids (`topology_update_apicid`, `cpu_llc_id`): equal bits above a level's shift mean
        /// the same core, LLC and package.
        #[test]
        fn shifts_tell_apart_just_what_is_apart(nodes in 1_u32..5, llcs in 1_u32..5, cores in 1_u32..8, threads in 1_u32..5) {
            let declared = topology(nodes, llcs * nodes, cores, threads);
            let ids = ApicIds::new(declared).unwrap();
            let all: Vec<u32> = ids.ids().collect();
            prop_assert!(all.is_sorted());
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), declared.cpus() as usize);
            for (shift, group) in [
                (ids.thread_bits, threads),
                (ids.llc_shift, threads * cores),
                (ids.package_shift, threads * cores * llcs),
            ] {
                for (a, id_a) in all.iter().enumerate() {
                    for (b, id_b) in all.iter().enumerate() {
                        let same = a as u32 / group == b as u32 / group;
                        prop_assert_eq!(id_a >> shift == id_b >> shift, same);
                    }
                }
            }
        }
    }
}
