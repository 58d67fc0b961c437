//! What a template depends on.

use std::fs;
use std::path::Path;

use guest_init::layout::PROTOCOL_VERSION;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_128;

use crate::machine::qemu::{Inherited, build};
use crate::spec::MachineSpec;

/// Version of the files in a template.
const FORMAT: u32 = 2;

/// The name of a template: the hash of everything that its contents depend on.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::machine) struct Key {
    /// 32 hex digits.
    pub digits: String,
    /// What was hashed, kept in the template for people.
    pub inputs: Value,
}

impl Key {
    /// Of the machine `spec` with this initramfs, on this host.
    pub(in crate::machine) fn of(spec: &MachineSpec, initramfs: &[u8]) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self::on_host(spec, initramfs, &host_cpu(&cpuinfo))
    }

    fn on_host(spec: &MachineSpec, initramfs: &[u8], host_cpu: &str) -> Self {
        // The arguments as they would be, except for what differs from run to run and place to place: numbers of
        // file descriptors and the kernel's path, for which its identity stands.
        let fds = Inherited {
            ram: vec![0; spec.topology.numa_nodes as usize],
            initrd: 0,
            console: 0,
            qmp: 0,
            gdb: 0,
        };
        let kernel = format!("{}-{}", if spec.kaslr { "bzimage" } else { "vmlinux" }, spec.kernel.id);
        let args = build(spec, Path::new(&kernel), &fds, false);
        let inputs = json!({
            "format": FORMAT,
            "protocol": PROTOCOL_VERSION,
            "emulator": {
                "version": spec.emulator.version,
                "command": spec.emulator.command,
                "env": spec.emulator.env,
            },
            "args": args.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>(),
            "initramfs_xxh3": format!("{:032x}", xxh3_128(initramfs)),
            "host_cpu": host_cpu,
        });
        Self { digits: format!("{:032x}", xxh3_128(inputs.to_string().as_bytes())), inputs }
    }
}

/// The host's CPU model.
///
/// What `-cpu max` offers does not depend on it, but the emulated TSC runs at the rate of the host's, which the kernel
/// measured while it booted.
fn host_cpu(cpuinfo: &str) -> String {
    let first = cpuinfo.split("\n\n").next().unwrap_or_default();
    let wanted = ["vendor_id", "cpu family", "model", "model name", "stepping"];
    let value = |key: &str| {
        let line = first.lines().find(|line| line.split(':').next().is_some_and(|k| k.trim() == key))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    wanted.iter().filter_map(|key| value(key)).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::{Key, host_cpu};
    use crate::machine::test_spec;
    use crate::spec::MachineSpec;

    #[test]
    fn every_input_changes_the_key() {
        let base = Key::on_host(&test_spec(), b"init", "cpu");
        assert_eq!(base, Key::on_host(&test_spec(), b"init", "cpu"));
        type Change = fn(&mut MachineSpec);
        let changes: [(&str, Change); 9] = [
            ("emulator version", |s| s.emulator.version = "10.1".into()),
            ("emulator command", |s| s.emulator.command.push("-L".into())),
            ("emulator environment", |s| s.emulator.env.push(("A".into(), "b".into()))),
            ("kernel", |s| s.kernel.id = "01".into()),
            ("llcs", |s| s.topology.llcs = 2),
            ("threads", |s| (s.topology.cores_per_llc, s.topology.threads_per_core) = (1, 2)),
            ("memory", |s| s.memory_mib = 1024),
            ("kaslr", |s| s.kaslr = true),
            ("command line", |s| s.kargs.push("quiet".into())),
        ];
        let mut seen = vec![base.digits];
        for (what, change) in changes {
            let mut spec = test_spec();
            change(&mut spec);
            let key = Key::on_host(&spec, b"init", "cpu").digits;
            assert!(!seen.contains(&key), "{what} does not change the key");
            seen.push(key);
        }
        for other in
            [Key::on_host(&test_spec(), b"other", "cpu"), Key::on_host(&test_spec(), b"init", "other")]
        {
            assert!(!seen.contains(&other.digits));
        }
    }

    #[test]
    fn the_place_of_the_kernel_does_not_matter() {
        let mut moved = test_spec();
        moved.kernel.vmlinux = "/elsewhere/vmlinux".into();
        assert_eq!(Key::on_host(&moved, b"init", "cpu"), Key::on_host(&test_spec(), b"init", "cpu"));
    }

    #[test]
    fn the_cpu_is_its_model_not_its_clock() {
        let info = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: EPYC\n\
                    stepping\t: 1\ncpu MHz\t\t: 2300.1\n\nprocessor\t: 1\n";
        assert_eq!(host_cpu(info), "AuthenticAMD/25/1/EPYC/1");
        assert_eq!(host_cpu(""), "");
    }
}
