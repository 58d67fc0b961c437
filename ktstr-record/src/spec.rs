//! What machine a test wants.

use std::fmt;
use std::path::{Path, PathBuf};

use guest_init::layout::{CHANNEL_BYTES, CMDLINE_CHANNEL, CMDLINE_DOORBELL, DOORBELL_PORT};
use ktstr_replay::units::GuestPhys;

use crate::tsc;

/// The CPU topology of a machine.
///
/// ```
/// use ktstr_record::spec::Topology;
///
/// let machine = Topology { numa_nodes: 1, llcs: 2, cores_per_llc: 4, threads_per_core: 2 };
/// assert_eq!((machine.cpus(), machine.to_string().as_str()), (16, "1n2l4c2t"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Topology {
    /// NUMA nodes.
    pub numa_nodes: u32,
    /// Last-level caches in the whole machine, a multiple of `numa_nodes`.
    pub llcs: u32,
    /// Cores of each LLC.
    pub cores_per_llc: u32,
    /// Hardware threads of each core.
    pub threads_per_core: u32,
}

impl Topology {
    /// vCPUs in the machine; `u32::MAX` where the product is larger.
    pub const fn cpus(&self) -> u32 {
        self.llcs.saturating_mul(self.cores_per_llc).saturating_mul(self.threads_per_core)
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { numa_nodes, llcs, cores_per_llc, threads_per_core } = self;
        write!(f, "{numa_nodes}n{llcs}l{cores_per_llc}c{threads_per_core}t")
    }
}

/// A kernel that can be booted, as provisioning found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// How it was asked for.
    pub asked: String,
    /// `uname -r`, where the file says.
    pub release: String,
    /// The decompressed ELF with a PVH note.
    pub vmlinux: PathBuf,
    /// The bzImage it came out of, needed for KASLR.
    pub bzimage: Option<PathBuf>,
    /// XXH3-128 of `vmlinux`, hex: the kernel's identity in caches and manifests.
    pub id: String,
    /// Whether it can run BPF schedulers; one that cannot still serves tests of EEVDF.
    pub has_sched_ext: bool,
}

/// A kernel's configuration, as the file `.config` of its build has it.
#[derive(Clone, PartialEq, Eq)]
pub struct KernelConfig {
    /// Lines of `CONFIG_NAME=value`.
    pub text: Vec<u8>,
    /// Where it came from, for people: a file, a package, the kernel's own image.
    pub origin: String,
}

impl KernelConfig {
    /// Where libbpf looks for the configuration in the guest of a kernel of this release (`libbpf.c`,
    /// `bpf_object__read_kconfig_file`).
    #[must_use]
    pub fn guest_path(release: &str) -> String {
        format!("/boot/config-{release}")
    }
}

impl fmt::Debug for KernelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KernelConfig({} bytes, {})", self.text.len(), self.origin)
    }
}

/// A `qemu-system-x86_64` that can be run, as provisioning found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulator {
    /// Program and leading arguments (a bundle runs through its own dynamic loader, with `-L` folders).
    pub command: Vec<PathBuf>,
    /// Variables to set for it.
    pub env: Vec<(String, String)>,
    /// Version, as `10.0.13`.
    pub version: String,
    /// `PATH`, `bundle` or the path that the user gave.
    pub origin: String,
}

/// Which kind of machine runs a spec, with what that kind needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendSpec {
    /// QEMU, which emulates every instruction.
    Qemu(Emulator),
    /// Our own VMM on KVM, which has the CPU execute them.
    Kvm(KvmSpec),
}

/// What a machine of KVM is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvmSpec {
    /// What is booted.
    pub boots: KvmBoots,
    /// Whether templates are made and used: not shown on hardware yet.
    pub templates: bool,
}

/// What a machine of KVM boots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvmBoots {
    /// A kernel: refused unless the probe finds that this host's KVM executes guests.
    #[default]
    Kernel,
    /// Something of so few instructions that a KVM which emulates them will do, for trying out the machine itself.
    Tiny,
}

impl From<Emulator> for BackendSpec {
    fn from(emulator: Emulator) -> Self {
        Self::Qemu(emulator)
    }
}

/// Everything that decides what a machine is before its job arrives; the template's key is made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSpec {
    /// What runs it.
    pub backend: BackendSpec,
    /// What it boots.
    pub kernel: Kernel,
    /// Its CPUs.
    pub topology: Topology,
    /// Its RAM, in MiB.
    pub memory_mib: u32,
    /// Place the kernel at random (with 5-level paging). Otherwise the decompressed kernel is booted by PVH at its link
    /// address.
    pub kaslr: bool,
    /// More words for the kernel's command line.
    pub kargs: Vec<String>,
    /// Its vCPUs have CPUs and a cache of the host to themselves, and the host is kept out of its way as far as it lets: performance
    /// mode. A host that cannot give it the former is refused ([`StartError::Performance`]).
    ///
    /// [`StartError::Performance`]: crate::machine::StartError::Performance
    pub performance: bool,
}

/// RAM below this address at most; what is more begins at 4 GiB.
pub(crate) const LOW_RAM_LIMIT_BYTES: u64 = 3 << 30;

/// Words of every kernel command line.
///
/// All but the last two only make an emulated boot shorter (measured: 30 % less CPU time together) or its
/// console quieter. `panic=-1` turns a panic into a reset, which stops the machine with its memory intact.
const CMDLINE: &str = "console=ttyS0 quiet tsc=reliable cryptomgr.notests lsm=capability audit=0 \
                       mitigations=off no_timer_check panic=-1";

/// Words of the command line of a machine of KVM: its clock stands still while the machine is stopped, the TSC does not.
const KVM_CMDLINE: &str = "clocksource=kvm-clock";

impl MachineSpec {
    /// RAM in bytes.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.memory_mib) << 20
    }

    /// RAM of each NUMA node in bytes: equal shares in multiples of the channel memory, the last one with the rest.
    pub(crate) fn node_bytes(&self) -> Vec<u64> {
        let nodes = u64::from(self.topology.numa_nodes.max(1));
        let share = self.memory_bytes() / nodes / CHANNEL_BYTES as u64 * CHANNEL_BYTES as u64;
        let mut sizes = vec![share; nodes as usize - 1];
        sizes.push(self.memory_bytes() - share * (nodes - 1));
        sizes
    }

    /// Where the guest channel begins: half of the RAM below `LOW_RAM_LIMIT_BYTES`, on a multiple of its size.
    ///
    /// The kernel's image lies far below and the initramfs at the end of low RAM, so that neither meets it. NUMA nodes
    /// end on such multiples, too, so that it lies in one.
    pub fn channel_base(&self) -> GuestPhys {
        let half = self.memory_bytes().min(LOW_RAM_LIMIT_BYTES) / 2;
        GuestPhys(half - half % CHANNEL_BYTES as u64)
    }

    /// The file that is booted: the bzImage for KASLR, where there is one, else the decompressed kernel.
    pub(crate) fn boot_image(&self) -> &Path {
        match &self.kernel.bzimage {
            Some(bzimage) if self.kaslr => bzimage,
            _ => &self.kernel.vmlinux,
        }
    }

    /// What tells that file from those of other kernels, wherever it lies: for the keys of templates.
    pub(crate) fn boot_image_id(&self) -> String {
        format!("{}-{}", if self.kaslr { "bzimage" } else { "vmlinux" }, self.kernel.id)
    }

    /// The kernel's command line.
    pub fn cmdline(&self) -> String {
        let base = self.channel_base().0;
        let (doorbell, clock) = match self.backend {
            BackendSpec::Qemu(_) => {
                ("page".to_owned(), tsc::host_khz().map(|khz| format!("tsc_early_khz={khz}")))
            }
            BackendSpec::Kvm(_) => (format!("port:{DOORBELL_PORT:#x}"), Some(KVM_CMDLINE.to_owned())),
        };
        let mut line = format!(
            "{CMDLINE} memmap={}M${base:#x} {CMDLINE_CHANNEL}={base:#x} {CMDLINE_DOORBELL}={doorbell}",
            CHANNEL_BYTES >> 20
        );
        let kaslr = (!self.kaslr).then(|| "nokaslr".to_owned());
        for word in clock.iter().chain(&kaslr).chain(&self.kargs) {
            line.push(' ');
            line.push_str(word);
        }
        line
    }
}

/// A spec for unit tests, of files that do not exist.
#[cfg(test)]
pub(crate) fn test_spec() -> MachineSpec {
    MachineSpec {
        backend: BackendSpec::Qemu(Emulator {
            command: vec!["/nonexistent/qemu".into()],
            env: Vec::new(),
            version: "10.0.13".into(),
            origin: "PATH".into(),
        }),
        kernel: Kernel {
            asked: "7.3".into(),
            release: "7.3.4".into(),
            vmlinux: "/nonexistent/vmlinux".into(),
            bzimage: None,
            id: "00".into(),
            has_sched_ext: true,
        },
        topology: Topology { numa_nodes: 1, llcs: 1, cores_per_llc: 2, threads_per_core: 1 },
        memory_mib: 512,
        kaslr: false,
        kargs: Vec::new(),
        performance: false,
    }
}

#[cfg(test)]
mod tests {
    use ktstr_replay::units::GuestPhys;

    use super::{BackendSpec, KvmSpec, test_spec};

    #[test]
    fn the_channel_memory_is_at_half_of_low_ram() {
        let mut spec = test_spec();
        for (mib, base) in [(512, 256 << 20), (513, 256 << 20), (333, 160 << 20), (8192, 1536 << 20)] {
            spec.memory_mib = mib;
            assert_eq!(spec.channel_base(), GuestPhys(base), "{mib} MiB");
        }
    }

    #[test]
    fn the_command_line_has_channel_and_own_words() {
        let mut spec = test_spec();
        spec.kargs = vec!["loglevel=7".into()];
        let line = spec.cmdline();
        assert!(
            line.contains(" memmap=8M$0x10000000 ktstr.channel=0x10000000 ktstr.doorbell=page"),
            "{line}"
        );
        assert!(line.ends_with(" nokaslr loglevel=7"), "{line}");
        spec.kaslr = true;
        assert!(!spec.cmdline().contains("nokaslr"));
        spec.backend = BackendSpec::Kvm(KvmSpec::default());
        let line = spec.cmdline();
        assert!(line.contains(" ktstr.doorbell=port:0x5f0 clocksource=kvm-clock "), "{line}");
    }

    #[test]
    fn nodes_share_all_of_the_memory() {
        let mut spec = test_spec();
        spec.topology.numa_nodes = 3;
        spec.memory_mib = 1000;
        assert_eq!(spec.node_bytes(), [328 << 20, 328 << 20, 344 << 20]);
    }

    #[test]
    fn the_channel_memory_lies_in_one_node() {
        let mut spec = test_spec();
        for nodes in 1..=8 {
            for mib in (512..9000).step_by(37) {
                (spec.topology.numa_nodes, spec.memory_mib) = (nodes, mib);
                let base = spec.channel_base().0;
                let mut end = 0;
                let ends = spec.node_bytes().into_iter().map(|bytes| {
                    end += bytes;
                    end
                });
                let cut = ends.into_iter().find(|end| (base + 1..base + (8 << 20)).contains(end));
                assert_eq!(cut, None, "{mib} MiB in {nodes} nodes");
            }
        }
    }
}
