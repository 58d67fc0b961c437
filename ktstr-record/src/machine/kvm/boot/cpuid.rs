//! CPUID: what the CPU says of itself, with the guest's topology in place of the host's.
//!
//! ```text
//! 0x1                      APIC id, CPUs of a package              all
//! 0x4                      caches and who shares them              Intel
//! 0xb, 0x1f                widths of core and package in APIC ids  all
//! 0x8000_0001, _0008       APIC ids of a package                   AMD, Hygon
//! 0x8000_001d, _001e       as 4; core and node                     AMD, Hygon
//! ```
//!
//! Sources: Intel's Software Developer's Manual, volume 2, CPUID; AMD's Architecture Programmer's Manual, volume 3,
//! appendix E; for what Linux reads of them `arch/x86/kernel/cpu/topology_{ext,amd}.c` and `cacheinfo.c`.
//!
//! There is no level of dies: the kernel takes LLCs from the leaves of caches. Leaf 0x8000_0026 is left out, so that AMD's
//! kernels use 0xb. Zen 1 and Hygon are the exception: for these the kernel takes bit 3 and up of the APIC id as the LLC
//! (`cacheinfo_amd_init_llc_id`), whatever the leaves say.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use super::topology::ApicIds;

/// Features of leaf 1: the id has 32 bits, the timer has a deadline mode (which KVM offers without saying so here), there is
/// a hypervisor (ECX); there are several CPUs in a package (EDX).
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
const SEVERAL: u32 = 1 << 28;
/// Features of leaf 0x8000_0001: as above, and leaves 0x8000_001d and 0x8000_001e.
const AMD_SEVERAL: u32 = 1 << 1;
const AMD_TOPOLOGY_LEAVES: u32 = 1 << 22;
/// Feature of KVM's leaf: messages can name APIC ids of 15 bits (`KVM_FEATURE_MSI_EXT_DEST_ID`). The machine has
/// that with an IOAPIC of its own (`ApicIds::beyond_xapic`), and without it the kernel leaves CPUs beyond 254 alone.
const KVM_FEATURES: u32 = 0x4000_0001;
const WIDE_MESSAGES: u32 = 1 << 15;

/// A cache, with what it has where the host does not say.
struct Cache {
    /// Kind (1 data, 2 instructions, 3 both) and level, as in the leaf.
    kind: u32,
    level: u32,
    ways: u32,
    sets: u32,
}

const CACHES: [Cache; 4] = [
    Cache { kind: 1, level: 1, ways: 8, sets: 64 },
    Cache { kind: 2, level: 1, ways: 8, sets: 64 },
    Cache { kind: 3, level: 2, ways: 16, sets: 1024 },
    Cache { kind: 3, level: 3, ways: 16, sets: 16384 },
];
const LINE_BYTES: u32 = 64;
/// Kind, level and whether it is fully associative, in EAX of a leaf of caches.
const CACHE_ITSELF: u32 = 0x3ff;
/// Leaf 0x8000_0006, EDX: 16 MiB in units of 512 KiB, 16 ways, a line of 64 bytes. The kernel asks it whether there is an L3.
const AMD_L3: u32 = 32 << 18 | 8 << 12 | 1 << 8 | LINE_BYTES;

impl ApicIds {
    /// The CPUID entries of vCPU `cpu`, out of those that KVM supports (`KVM_GET_SUPPORTED_CPUID`).
    #[must_use]
    pub fn cpuid(&self, supported: &[kvm_cpuid_entry2], cpu: u32) -> Vec<kvm_cpuid_entry2> {
        entries(supported, self, cpu)
    }
}

/// The entries of vCPU `cpu`.
fn entries(supported: &[kvm_cpuid_entry2], ids: &ApicIds, cpu: u32) -> Vec<kvm_cpuid_entry2> {
    let is_amd = supported.iter().any(|leaf| leaf.function == 0 && is_amd(leaf));
    let replaced = |function: u32| match function {
        0xb | 0x1f | 0x8000_0026 => true,
        4 => !is_amd,
        0x8000_001d | 0x8000_001e => is_amd,
        _ => false,
    };
    let mut leaves: Vec<_> = supported.iter().filter(|leaf| !replaced(leaf.function)).copied().collect();
    let host_has_1f = supported.iter().any(|leaf| leaf.function == 0 && leaf.eax >= 0x1f);
    for leaf in &mut leaves {
        mend(leaf, ids, cpu, is_amd);
    }
    leaves.extend(levels(0xb, ids, cpu));
    if host_has_1f {
        leaves.extend(levels(0x1f, ids, cpu));
    }
    if is_amd {
        leaves.extend(caches(0x8000_001d, supported, ids));
        leaves.push(amd_place(ids, cpu));
    } else {
        leaves.extend(caches(4, supported, ids));
    }
    leaves
}

fn is_amd(leaf: &kvm_cpuid_entry2) -> bool {
    let name = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat();
    name == b"AuthenticAMD" || name == b"HygonGenuine"
}

/// Changes what a leaf of the host says of topology.
fn mend(leaf: &mut kvm_cpuid_entry2, ids: &ApicIds, cpu: u32, is_amd: bool) {
    let several = ids.cpus_per_package() > 1;
    match leaf.function {
        0 => leaf.eax = leaf.eax.max(0xb),
        1 => {
            let in_package = (1 << ids.package_shift).min(0xff_u32);
            leaf.ebx = leaf.ebx & 0xffff | in_package << 16 | (ids.id(cpu) & 0xff) << 24;
            leaf.ecx |= X2APIC | TSC_DEADLINE | HYPERVISOR;
            leaf.edx = leaf.edx & !SEVERAL | if several { SEVERAL } else { 0 };
        }
        KVM_FEATURES if ids.beyond_xapic() => leaf.eax |= WIDE_MESSAGES,
        0x8000_0000 if is_amd => leaf.eax = leaf.eax.max(0x8000_001e),
        0x8000_0001 if is_amd => {
            let mask = AMD_TOPOLOGY_LEAVES | AMD_SEVERAL;
            leaf.ecx = leaf.ecx & !mask | AMD_TOPOLOGY_LEAVES | if several { AMD_SEVERAL } else { 0 };
        }
        0x8000_0006 if is_amd && leaf.edx == 0 => leaf.edx = AMD_L3,
        0x8000_0008 if is_amd => {
            let cpus = (ids.cpus_per_package() - 1).min(0xff);
            leaf.ecx = leaf.ecx & !0xf0ff | ids.package_shift.min(0xf) << 12 | cpus;
        }
        _ => {}
    }
}

fn leaf(function: u32, index: u32) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        ..kvm_cpuid_entry2::default()
    }
}

/// Leaf 0xb or 0x1f: threads of a core, cores of a package, and a level that says that there are no more.
fn levels(function: u32, ids: &ApicIds, cpu: u32) -> [kvm_cpuid_entry2; 3] {
    const THREADS: u32 = 1;
    const CORES: u32 = 2;
    let levels = [
        (THREADS, ids.thread_bits, ids.topology().threads_per_core),
        (CORES, ids.package_shift, ids.cpus_per_package()),
        (0, 0, 0),
    ];
    let mut index = 0;
    levels.map(|(kind, eax, cpus)| {
        let level = leaf(function, index);
        index += 1;
        kvm_cpuid_entry2 { eax, ebx: cpus, ecx: kind << 8 | level.index, edx: ids.id(cpu), ..level }
    })
}

/// Leaf 4 or 0x8000_001d: threads of a core share its caches, CPUs of an LLC the last one. A level that says that there
/// are no more is behind them, as KVM answers 0 for what is not in the list.
fn caches(function: u32, supported: &[kvm_cpuid_entry2], ids: &ApicIds) -> Vec<kvm_cpuid_entry2> {
    let found = |cache: &Cache| {
        let same = |leaf: &&kvm_cpuid_entry2| {
            leaf.function == function && leaf.eax & 0x1f == cache.kind && leaf.eax >> 5 & 7 == cache.level
        };
        supported.iter().find(same).copied()
    };
    let described = |(index, cache): (u32, &Cache)| {
        let mut described = found(cache).unwrap_or_else(|| kvm_cpuid_entry2 {
            eax: 1 << 8 | cache.level << 5 | cache.kind,
            ebx: (cache.ways - 1) << 22 | (LINE_BYTES - 1),
            ecx: cache.sets - 1,
            ..kvm_cpuid_entry2::default()
        });
        let bits = if cache.level == 3 { ids.llc_shift } else { ids.thread_bits };
        let sharing = ((1_u32 << bits) - 1).min(0xfff);
        // Only Intel's leaf has the cores of a package, in what bits there are.
        let cores =
            if function == 4 { ((1_u32 << (ids.package_shift - ids.thread_bits)) - 1).min(0x3f) } else { 0 };
        described.eax = described.eax & CACHE_ITSELF | sharing << 14 | cores << 26;
        kvm_cpuid_entry2 { function, index, flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX, ..described }
    };
    (0..).zip(&CACHES).map(described).collect()
}

/// Leaf 0x8000_001e: the core in its package; the package as the one node of it.
fn amd_place(ids: &ApicIds, cpu: u32) -> kvm_cpuid_entry2 {
    let threads = ids.topology().threads_per_core - 1;
    kvm_cpuid_entry2 {
        eax: ids.id(cpu),
        ebx: (threads & 0xff) << 8 | ids.core_in_package(cpu) & 0xff,
        ecx: ids.node(cpu) & 0xff,
        flags: 0,
        ..leaf(0x8000_001e, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Topology;

    const INTEL: &[u8; 12] = b"GenuntelineI";
    const AMD: &[u8; 12] = b"AuthcAMDenti";

    /// What a host with this vendor (EBX, ECX, EDX) supports. Its own topology, all bits set, must not show.
    fn host(vendor: &[u8; 12]) -> Vec<kvm_cpuid_entry2> {
        let word = |at: usize| u32::from_le_bytes(vendor[at..at + 4].try_into().unwrap());
        let plain = |function, eax| kvm_cpuid_entry2 { function, eax, ..kvm_cpuid_entry2::default() };
        let full = |function, index| kvm_cpuid_entry2 {
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
            eax: u32::MAX,
            ..leaf(function, index)
        };
        let cache = |function, index, kind: u32, level: u32| kvm_cpuid_entry2 {
            eax: u32::MAX << 14 | level << 5 | kind,
            ebx: 11 << 22 | 63,
            ecx: 2047,
            ..leaf(function, index)
        };
        let mut leaves = vec![
            kvm_cpuid_entry2 { ebx: word(0), ecx: word(4), edx: word(8), ..plain(0, 0x1f) },
            kvm_cpuid_entry2 { ebx: 0xffff_0800, ..plain(1, 0x806f8) },
            plain(0x8000_0000, 0x8000_0026),
            plain(0x8000_0001, 0),
            plain(0x8000_0006, 0),
            kvm_cpuid_entry2 { ecx: 0xf0ff, ..plain(0x8000_0008, 0x3030) },
            plain(KVM_FEATURES, 0x0100_00fb),
        ];
        for function in [0xb, 0x1f, 0x8000_0026, 0x8000_001e] {
            leaves.extend((0..4).map(|index| full(function, index)));
        }
        for function in [4, 0x8000_001d] {
            leaves.extend([cache(function, 0, 1, 1), cache(function, 1, 3, 3)]);
        }
        leaves
    }

    fn ids(numa_nodes: u32, llcs: u32, cores_per_llc: u32, threads_per_core: u32) -> ApicIds {
        ApicIds::new(Topology { numa_nodes, llcs, cores_per_llc, threads_per_core }).unwrap()
    }

    fn get(leaves: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
        let mut found = leaves.iter().filter(|leaf| (leaf.function, leaf.index) == (function, index));
        let first = found.next().unwrap_or_else(|| panic!("leaf {function:#x}.{index}"));
        assert!(found.next().is_none(), "leaf {function:#x}.{index} twice");
        *first
    }

    #[test]
    fn intel_reads_levels_and_caches() {
        let ids = ids(2, 4, 3, 2);
        // Thread 1 of core 2 of LLC 1 of node 1: 1 | 1 | 10 | 1.
        let cpu = 23;
        assert_eq!(ids.id(cpu), 1 << 4 | 1 << 3 | 2 << 1 | 1);
        let leaves = entries(&host(INTEL), &ids, cpu);
        let one = get(&leaves, 1, 0);
        assert_eq!((one.ebx, one.edx >> 28 & 1), (29 << 24 | 16 << 16 | 0x0800, 1));
        for function in [0xb, 0x1f] {
            let level = |index| {
                let leaf = get(&leaves, function, index);
                (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx, leaf.flags)
            };
            assert_eq!(level(0), (1, 2, 0x100, 29, 1));
            assert_eq!(level(1), (4, 12, 0x201, 29, 1));
            assert_eq!(level(2), (0, 0, 2, 29, 1));
            assert_eq!(leaves.iter().filter(|leaf| leaf.function == function).count(), 3);
        }
        let shared = |index| {
            let leaf = get(&leaves, 4, index);
            (leaf.eax & 0x1f, leaf.eax >> 5 & 7, (leaf.eax >> 14 & 0xfff) + 1, (leaf.eax >> 26) + 1)
        };
        assert_eq!([0, 1, 2, 3].map(shared), [(1, 1, 2, 8), (2, 1, 2, 8), (3, 2, 2, 8), (3, 3, 8, 8)]);
        // The host's own sizes, where it has such a cache.
        assert_eq!((get(&leaves, 4, 3).ebx, get(&leaves, 4, 3).ecx), (11 << 22 | 63, 2047));
        assert_eq!(get(&leaves, 4, 2).ecx, 1023);
        assert_eq!(get(&leaves, 0x8000_0001, 0).ecx, 0, "not AMD's");
    }

    #[test]
    fn amd_reads_its_own_leaves_besides() {
        let ids = ids(2, 4, 3, 2);
        let leaves = entries(&host(AMD), &ids, 23);
        assert_eq!(get(&leaves, 0xb, 1).eax, 4);
        let shared = |index| (get(&leaves, 0x8000_001d, index).eax >> 14) + 1;
        assert_eq!([0, 1, 2, 3].map(shared), [2, 2, 2, 8]);
        let place = get(&leaves, 0x8000_001e, 0);
        assert_eq!((place.eax, place.ebx, place.ecx), (29, 1 << 8 | 6, 1));
        assert_eq!(get(&leaves, 0x8000_0001, 0).ecx, 1 << 22 | 1 << 1);
        assert_eq!(get(&leaves, 0x8000_0008, 0).ecx, 4 << 12 | 11);
        assert_ne!(get(&leaves, 0x8000_0006, 0).edx, 0);
        assert!(!leaves.iter().any(|leaf| leaf.function == 0x8000_0026));
    }

    #[test]
    fn ids_beyond_254_are_whole_where_they_have_32_bits() {
        let ids = ids(1, 42, 3, 2);
        let leaves = entries(&host(INTEL), &ids, 251);
        assert_eq!((get(&leaves, 0xb, 0).edx, get(&leaves, 1, 0).ebx >> 24), (333, 333 & 0xff));
        assert_eq!(get(&leaves, 1, 0).ebx >> 16 & 0xff, 255);
        assert_eq!(get(&leaves, KVM_FEATURES, 0).eax >> 15 & 1, 1);
        let one =
            ApicIds::new(Topology { numa_nodes: 1, llcs: 1, cores_per_llc: 1, threads_per_core: 1 }).unwrap();
        let few = entries(&host(INTEL), &one, 0);
        assert_eq!((get(&few, KVM_FEATURES, 0).eax >> 15 & 1, get(&few, 1, 0).edx >> 28 & 1), (0, 0));
    }

    #[test]
    fn a_host_with_few_leaves_gets_those_of_topology() {
        let mut old = host(AMD);
        old.retain(|leaf| leaf.function != 0x8000_001d);
        old[0].eax = 5;
        old[2].eax = 0x8000_0008;
        let leaves = entries(&old, &ids(1, 1, 2, 1), 1);
        assert_eq!((get(&leaves, 0, 0).eax, get(&leaves, 0x8000_0000, 0).eax), (0xb, 0x8000_001e));
        assert!(!leaves.iter().any(|leaf| leaf.function == 0x1f));
        assert_eq!(leaves.iter().filter(|leaf| leaf.function == 0x8000_001d).count(), 4);
    }
}
