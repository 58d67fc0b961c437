//! What the KVM machine's guest boots from, read by others: a real kernel in the emulator, `iasl`, `cpuid`.
//!
//! The emulator has the very memory and registers that KVM would be given. Its own firmware and tables are not there, and it
//! is told of no NUMA nodes, so that whatever the kernel says of them comes from our tables.

mod emulated;
mod firmware;
mod tools;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Instant;

use ktstr_record::machine::boot::{BootImage, Guest, Protocol, build};
use ktstr_record::provision::{KernelSpec, Provisioner};
use ktstr_record::spec::{BackendSpec, Emulator, Kernel, MachineSpec, Topology};
use kvm_bindings::kvm_cpuid_entry2;

use emulated::Said;

const MEMORY_MIB: u32 = 512;
/// All that is emulated of Intel's, as the kernel reads leaf 4 of no other vendor.
const INTEL: &str = "max,vendor=GenuineIntel,-erms,-fsrm,-fzrm,-fsrs,-fsrc";
/// AMD's leaves of topology, which the emulated CPU has without announcing them.
const AMD: &str = "max,xlevel=0x8000001e,-erms,-fsrm,-fzrm,-fsrs,-fsrc";

static PROVISIONED: LazyLock<(Emulator, Kernel)> = LazyLock::new(|| {
    let provisioner = Provisioner::open().unwrap();
    (provisioner.emulator().unwrap(), provisioner.kernel(&KernelSpec::Latest).unwrap())
});

/// An initramfs with `guest/topology.rs` as its init.
static INITRAMFS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/topology.rs");
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("topology");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(rustc)
        .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols"])
        .args(["--target", "x86_64-unknown-linux-gnu", "-o"])
        .args([&program, &source])
        .status()
        .unwrap();
    assert!(status.success());
    let init = cpio::newc::Builder::new("init").mode(0o100_755);
    let files = [(init, fs::File::open(program).unwrap())];
    cpio::write_cpio(files.into_iter(), Vec::new()).unwrap()
});

/// The command line that such a machine has.
fn cmdline(topology: Topology) -> String {
    let (emulator, kernel) = PROVISIONED.clone();
    let kargs = vec!["ktstr.test=boot".into()];
    let backend = BackendSpec::Qemu(emulator);
    MachineSpec { backend, kernel, topology, memory_mib: MEMORY_MIB, kaslr: true, kargs, performance: false }
        .cmdline()
}

/// Equal shares of the RAM.
fn node_bytes(topology: Topology) -> Vec<u64> {
    vec![(u64::from(MEMORY_MIB) << 20) / u64::from(topology.numa_nodes); topology.numa_nodes as usize]
}

/// What is in the `n`th of groups of `len` CPUs, in the kernel's list format.
fn group(n: u32, len: u32) -> String {
    match len {
        1 => n.to_string(),
        _ => format!("{}-{}", n * len, (n + 1) * len - 1),
    }
}

/// Boots `file` by `protocol`, and checks what the kernel says against what was declared.
fn check(file: &Path, protocol: Protocol, cpu_model: &str, topology: Topology) -> Said {
    let kernel = fs::read(file).unwrap();
    let (nodes, cmdline) = (node_bytes(topology), cmdline(topology));
    let initramfs: &[u8] = &INITRAMFS;
    let guest =
        Guest { topology, node_bytes: &nodes, kernel: &kernel, initramfs, cmdline: &cmdline, protocol };
    let begun = Instant::now();
    let image = build(&guest).unwrap();
    println!("{topology} laid out in {:?}", begun.elapsed());
    let said = emulated::boot(&PROVISIONED.0, &image, nodes.iter().sum(), cpu_model, topology);

    assert_eq!(said.one("/proc/cmdline"), cmdline);
    the_kernel_has_our_tables(&said, &image);
    let Topology { numa_nodes, threads_per_core, .. } = topology;
    let cpus_per_node = topology.cpus() / numa_nodes;
    assert_eq!(said.one("/sys/devices/system/cpu/online"), group(0, topology.cpus()));
    assert_eq!(said.one("/sys/devices/system/node/online"), group(0, numa_nodes));
    for cpu in 0..topology.cpus() {
        let topo = |file: &str| said.one(&format!("/sys/devices/system/cpu/cpu{cpu}/topology/{file}"));
        assert_eq!(topo("core_cpus_list"), group(cpu / threads_per_core, threads_per_core));
        assert_eq!(topo("package_cpus_list"), group(cpu / cpus_per_node, cpus_per_node));
    }
    for node in 0..numa_nodes {
        let of_node = |file: &str| format!("/sys/devices/system/node/node{node}/{file}");
        assert_eq!(said.one(&of_node("cpulist")), group(node, cpus_per_node));
        let distances = (0..numa_nodes).map(|other| if other == node { "10" } else { "20" });
        assert_eq!(said.one(&of_node("distance")), distances.collect::<Vec<_>>().join(" "));
        let total = said.all(&of_node("meminfo")).iter().find(|line| line.contains("MemTotal:")).unwrap();
        let kib: u64 = total.split_whitespace().rev().nth(1).unwrap().parse().unwrap();
        // The kernel and its early tables, and the channel memory, are not counted.
        let share = nodes[node as usize] >> 10;
        assert!((share / 2..=share).contains(&kib), "node {node}: {total}");
    }
    said
}

/// The tables in `/sys` are ours byte for byte, and there are no others.
fn the_kernel_has_our_tables(said: &Said, image: &BootImage<'_>) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let name = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..4]).into_owned();
    let found: Vec<_> = said
        .below("/sys/firmware/acpi/tables/")
        .map(|(name, hex)| (name.to_owned(), hex.to_owned()))
        .collect();
    let mut ours: Vec<_> = image.acpi.iter().map(|(_, bytes)| (name(bytes), hex(bytes))).collect();
    // The two that only lead to the others are not among them.
    ours.retain(|(name, _)| !["RSD ", "XSDT"].contains(&name.as_str()));
    ours.sort();
    // Of the FACS the kernel changes fields, as it must.
    let comparable = |tables: Vec<(String, String)>| -> Vec<_> {
        tables
            .into_iter()
            .map(|(name, hex)| if name == "FACS" { (name, String::new()) } else { (name, hex) })
            .collect()
    };
    assert_eq!(comparable(found), comparable(ours));
    let acpi = said.all("/proc/iomem").iter().find(|line| line.ends_with("ACPI Tables")).unwrap();
    assert!(acpi.starts_with("00080000-0009ffff"), "{acpi}");
}

/// The leaves as the emulator makes them of the same topology: its own code agrees with ours.
fn the_emulator_agrees(said: &Said, topology: Topology, vendor: &str, leaves: &[(u32, u32, [u32; 4])]) {
    let word = |at: usize| u32::from_le_bytes(vendor.as_bytes()[at..at + 4].try_into().unwrap());
    let (ebx, edx, ecx) = (word(0), word(4), word(8));
    let plain = |function, eax| kvm_cpuid_entry2 { function, eax, ..Default::default() };
    let host = [
        kvm_cpuid_entry2 { ebx, ecx, edx, ..plain(0, 0xd) },
        plain(1, 0),
        plain(0x8000_0000, 0x8000_001e),
        plain(0x8000_0001, 0),
    ];
    let kernel = fs::read(&PROVISIONED.1.vmlinux).unwrap();
    let nodes = node_bytes(topology);
    let protocol = Protocol::Linux64;
    let guest =
        Guest { topology, node_bytes: &nodes, kernel: &kernel, initramfs: &[], cmdline: "", protocol };
    let image = build(&guest).unwrap();
    for cpu in 0..topology.cpus() {
        let ours = image.apic_ids.cpuid(&host, cpu);
        for (function, index, mask) in leaves {
            let theirs = said.one(&format!("cpuid {cpu} {function:#x} {index}"));
            let theirs: Vec<u32> = theirs.split(' ').map(|word| word.parse().unwrap()).collect();
            let ours = ours.iter().find(|leaf| (leaf.function, leaf.index) == (*function, *index));
            let ours = ours.unwrap_or_else(|| panic!("no leaf {function:#x}.{index}"));
            let ours = [ours.eax, ours.ebx, ours.ecx, ours.edx];
            for ((ours, theirs), mask) in ours.iter().zip(&theirs).zip(mask) {
                assert_eq!(ours & mask, theirs & mask, "{topology}: CPU {cpu}, leaf {function:#x}.{index}");
            }
        }
    }
}

/// Who shares: fields of leaf 4 and leaf 0x8000_001d (EAX), and of leaf 0xb.
const LEVELS: [u32; 4] = [0x1f, 0xffff, 0xffff, u32::MAX];
const INTEL_LEAVES: [(u32, u32, [u32; 4]); 8] = [
    (1, 0, [0, 0xff00_0000, 0, 1 << 28]),
    (4, 0, [0xffff_c0ff, 0, 0, 0]),
    (4, 1, [0xffff_c0ff, 0, 0, 0]),
    (4, 2, [0xffff_c0ff, 0, 0, 0]),
    (4, 3, [0xffff_c0ff, 0, 0, 0]),
    (0xb, 0, LEVELS),
    (0xb, 1, LEVELS),
    (0xb, 2, LEVELS),
];
const AMD_LEAVES: [(u32, u32, [u32; 4]); 8] = [
    (1, 0, [0, 0xff00_0000, 0, 1 << 28]),
    (0xb, 0, LEVELS),
    (0xb, 1, LEVELS),
    (0x8000_001d, 0, [0x03ff_c0ff, 0, 0, 0]),
    (0x8000_001d, 1, [0x03ff_c0ff, 0, 0, 0]),
    (0x8000_001d, 2, [0x03ff_c0ff, 0, 0, 0]),
    (0x8000_001d, 3, [0x03ff_c0ff, 0, 0, 0]),
    (0x8000_001e, 0, [u32::MAX, 0xff00, 0, 0]),
];

/// Last-level caches as `/sys` shows them.
fn the_kernel_has_the_llcs(said: &Said, topology: Topology) {
    let per_llc = topology.cores_per_llc * topology.threads_per_core;
    for cpu in 0..topology.cpus() {
        let cache = |file: &str| said.one(&format!("/sys/devices/system/cpu/cpu{cpu}/cache/index3/{file}"));
        assert_eq!((cache("level"), cache("shared_cpu_list")), ("3", group(cpu / per_llc, per_llc).as_str()));
    }
}

/// Three cores need two bits, so that an APIC id is left out.
#[test]
fn vmlinux_boots_by_its_64_bit_entry_on_two_nodes() {
    let topology = Topology { numa_nodes: 2, llcs: 2, cores_per_llc: 3, threads_per_core: 1 };
    let said = check(&PROVISIONED.1.vmlinux, Protocol::Linux64, INTEL, topology);
    the_kernel_has_the_llcs(&said, topology);
    the_emulator_agrees(&said, topology, "GenuineIntel", &INTEL_LEAVES);
}

/// Two LLCs in one package, of which no table of ACPI knows.
#[test]
fn bzimage_boots_by_its_64_bit_entry_with_two_llcs_in_a_package() {
    let topology = Topology { numa_nodes: 1, llcs: 2, cores_per_llc: 2, threads_per_core: 1 };
    let bzimage = PROVISIONED.1.bzimage.as_ref().expect("the archive's kernels have one");
    let said = check(bzimage, Protocol::Linux64, INTEL, topology);
    the_kernel_has_the_llcs(&said, topology);
    the_emulator_agrees(&said, topology, "GenuineIntel", &INTEL_LEAVES);
}

#[test]
fn vmlinux_boots_by_pvh_with_threads() {
    let topology = Topology { numa_nodes: 2, llcs: 2, cores_per_llc: 1, threads_per_core: 2 };
    let said = check(&PROVISIONED.1.vmlinux, Protocol::Pvh, AMD, topology);
    the_emulator_agrees(&said, topology, "AuthenticAMD", &AMD_LEAVES);
}
