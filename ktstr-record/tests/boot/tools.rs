//! Tables and leaves read by the archive's `iasl` and `cpuid`.

use std::arch::x86_64::__cpuid_count;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use ktstr_record::machine::boot::{BootImage, Guest, Protocol, build};
use ktstr_record::provision::{PackageProgram, Provisioner};
use ktstr_record::spec::Topology;
use kvm_bindings::kvm_cpuid_entry2;

use crate::PROVISIONED;

static KERNEL: LazyLock<Vec<u8>> = LazyLock::new(|| fs::read(&PROVISIONED.1.vmlinux).unwrap());

/// Two nodes, and APIC ids up to 333 for 252 vCPUs.
const LARGE: Topology = Topology { numa_nodes: 2, llcs: 42, cores_per_llc: 3, threads_per_core: 2 };

fn image(topology: Topology, node_bytes: &[u64]) -> BootImage<'_> {
    let protocol = Protocol::Linux64;
    build(&Guest { topology, node_bytes, kernel: &KERNEL, initramfs: &[], cmdline: "", protocol }).unwrap()
}

/// Runs a program of a package, in `folder`; returns all that it prints.
fn run(program: &PackageProgram, folder: &Path, args: &[&str]) -> String {
    let below = |path: &Path| program.root.join(path);
    let loader = program.loader.as_ref().expect("a program that is linked dynamically");
    let libraries: Vec<_> =
        program.folders.iter().map(|folder| below(folder).display().to_string()).collect();
    let mut command = Command::new(below(loader));
    command.arg("--library-path").arg(libraries.join(":")).arg(below(&program.program));
    let output = command.args(args).current_dir(folder).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{args:?}: {text}");
    text
}

/// Every table is decompiled, and what was read is compiled to the same bytes again.
#[test]
fn iasl_reads_the_tables() {
    let iasl = Provisioner::open().unwrap().package_program("acpica-tools", "iasl").unwrap();
    let small = Topology { numa_nodes: 1, llcs: 1, cores_per_llc: 1, threads_per_core: 1 };
    let gib = 1 << 30;
    for (topology, node_bytes) in [(small, &[gib][..]), (LARGE, &[2 * gib, 2 * gib])] {
        let image = image(topology, node_bytes);
        let dir = tempfile::tempdir().unwrap();
        let mut names = Vec::new();
        for (_, bytes) in &image.acpi {
            let name = String::from_utf8_lossy(&bytes[..4]).trim().to_lowercase();
            if name == "rsd" {
                // It leads to the XSDT, and iasl does not know it.
                continue;
            }
            fs::write(dir.path().join(format!("{name}.dat")), bytes).unwrap();
            let said = run(&iasl, dir.path(), &["-d", &format!("{name}.dat")]);
            for word in ["Error", "Warning", "ncorrect", "nvalid"] {
                assert!(!said.contains(word), "{name}: {said}");
            }
            let source = fs::read_to_string(dir.path().join(format!("{name}.dsl"))).unwrap();
            assert!(!source.contains("Incorrect checksum"), "{name}: {source}");
            if name != "dsdt" {
                let said = run(&iasl, dir.path(), &["-p", "again", &format!("{name}.dsl")]);
                let again = fs::read(dir.path().join("again.aml")).unwrap();
                // The compiler writes its own name and revision as the creator, which changes the checksum, too.
                let without = |bytes: &[u8]| {
                    let mut bytes = bytes.to_vec();
                    if name != "facs" {
                        bytes[9] = 0;
                        bytes[28..36].fill(0);
                    }
                    bytes
                };
                assert_eq!(without(&again), without(bytes), "{name}: {said}");
            } else {
                let said = run(&iasl, dir.path(), &["-p", "again", "dsdt.dsl"]);
                assert!(said.contains("0 Errors, 0 Warnings"), "{said}");
                for part in ["Name (_S5,", "Device (COM1)", "\"PNP0501\"", "0x03F8"] {
                    assert!(source.contains(part), "{part}: {source}");
                }
            }
            names.push(name);
            let count = |text: &str| source.matches(text).count();
            let ids: Vec<u32> = image.apic_ids.ids().collect();
            let wide = ids.iter().filter(|id| **id > 254).count();
            match names.last().map(String::as_str) {
                Some("apic") => {
                    assert_eq!(count("[Processor Local APIC]"), ids.len() - wide, "{source}");
                    assert_eq!(count("[Processor Local x2APIC]"), wide);
                    for id in ids.iter().filter(|id| **id > 254) {
                        assert_eq!(count(&format!("Processor x2Apic ID : {id:08X}")), 1, "{source}");
                    }
                }
                Some("srat") => {
                    assert_eq!(count("[Processor Local APIC/SAPIC Affinity]"), ids.len() - wide, "{source}");
                    assert_eq!(count("[Processor Local x2APIC Affinity]"), wide);
                    assert_eq!(count("[Memory Affinity]"), if topology == LARGE { 3 } else { 1 });
                }
                Some("facp") => {
                    assert!(source.contains("Reset Register Supported (V2) : 1"), "{source}");
                    assert!(source.contains("Hardware Reduced (V5) : 0"), "{source}");
                }
                _ => {}
            }
        }
        assert_eq!(names, ["dsdt", "facs", "facp", "apic", "srat", "slit", "xsdt"]);
    }
}

/// Family 25, model 1, stepping 1: one of AMD's that has all its leaves of topology. Intel's are read alike for any family.
const SIGNATURE: u32 = 0x00a0_0f11;

/// All leaves of the CPU that this runs on, as if KVM supported them.
fn host() -> Vec<kvm_cpuid_entry2> {
    let mut leaves = Vec::new();
    for base in [0, 0x8000_0000_u32] {
        let last = __cpuid_count(base, 0).eax;
        for function in base..=last.min(base + 0x40) {
            for index in 0..8 {
                let found = __cpuid_count(function, index);
                let (eax, ebx, ecx, edx) = (found.eax, found.ebx, found.ecx, found.edx);
                leaves.push(kvm_cpuid_entry2 { function, index, eax, ebx, ecx, edx, ..Default::default() });
                if !matches!(function, 4 | 0xb | 0x1f | 0x8000_001d) {
                    break;
                }
            }
        }
    }
    leaves
}

/// The archive's `cpuid` decodes topology as Linux does: APIC ids and the widths of their parts.
#[test]
fn cpuid_reads_the_leaves() {
    let cpuid = Provisioner::open().unwrap().package_program("cpuid", "cpuid").unwrap();
    let (host, dir) = (host(), tempfile::tempdir().unwrap());
    for (vendor, ebx, edx, ecx) in [
        ("GenuineIntel", 0x756e_6547, 0x4965_6e69, 0x6c65_746e),
        ("AuthenticAMD", 0x6874_7541, 0x6974_6e65, 0x444d_4163),
    ] {
        let mut host = host.clone();
        (host[0].eax, host[0].ebx, host[0].edx, host[0].ecx) = (0x1f, ebx, edx, ecx);
        // The family says how a vendor's leaves are read, and must not be the other vendor's that this runs on.
        let signature = host.iter_mut().find(|leaf| leaf.function == 1).expect("every CPU has leaf 1");
        signature.eax = SIGNATURE;
        // Intel has no leaves of its own beyond.
        host.retain(|leaf| vendor == "AuthenticAMD" || leaf.function <= 0x8000_0008);
        if let Some(last) = host.iter_mut().find(|leaf| leaf.function == 0x8000_0000) {
            last.eax = if vendor == "AuthenticAMD" { last.eax } else { 0x8000_0008 };
        }
        let image = image(LARGE, &[1 << 30, 1 << 30]);
        let mut dump = String::new();
        for cpu in 0..LARGE.cpus() {
            writeln!(dump, "CPU {cpu}:").unwrap();
            for leaf in image.apic_ids.cpuid(&host, cpu) {
                let kvm_cpuid_entry2 { function, index, eax, ebx, ecx, edx, .. } = leaf;
                writeln!(
                    dump,
                    "   {function:#010x} {index:#04x}: eax={eax:#010x} ebx={ebx:#010x} ecx={ecx:#010x} edx={edx:#010x}"
                )
                .unwrap();
            }
        }
        fs::write(dir.path().join("dump"), dump).unwrap();
        let said = run(&cpuid, dir.path(), &["-f", "dump"]);
        let synthesized = |what: &str| -> Vec<&str> {
            said.lines().filter_map(|line| line.trim().strip_prefix(what)?.strip_prefix(": ")).collect()
        };
        let places = synthesized("(APIC synth)");
        assert_eq!(places.len(), 252, "{vendor}: {said}");
        for (cpu, place) in (0..).zip(places) {
            // Cores are counted with the gaps of the ids: 4 for the 3 of an LLC.
            let (node, in_node) = (cpu / 126, cpu % 126);
            let core = in_node / 6 * 4 + in_node % 6 / 2;
            assert_eq!(
                place,
                format!("PKG_ID={node} CORE_ID={core} SMT_ID={}", cpu % 2),
                "{vendor}, CPU {cpu}"
            );
        }
        assert!(
            synthesized("(APIC widths synth)").iter().all(|w| *w == "CORE_width=7 SMT_width=1"),
            "{vendor}"
        );
        let counts = synthesized("(multi-processing synth)");
        assert!(
            counts.iter().all(|count| *count == "multi-core (c=63), hyper-threaded (t=2)"),
            "{vendor}: {counts:?}"
        );
    }
}
