//! What machine a test wants.

use std::fmt;
use std::path::PathBuf;

/// The CPU topology of a machine.
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
    /// vCPUs in the machine.
    pub fn cpus(&self) -> u32 {
        self.llcs * self.cores_per_llc * self.threads_per_core
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

/// Everything that decides what a machine is before its job arrives; the template's key is made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSpec {
    /// What runs it.
    pub emulator: Emulator,
    /// What it boots.
    pub kernel: Kernel,
    /// Its CPUs.
    pub topology: Topology,
    /// Its RAM, in MiB.
    pub memory_mib: u32,
    /// Boot through the bzImage, so that the kernel is placed at random.
    pub kaslr: bool,
    /// More words for the kernel's command line.
    pub kargs: Vec<String>,
}
