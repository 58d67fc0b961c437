//! BPF programs: what is loaded, how often it ran, and whose code an address is in.
//!
//! Sources: `kernel/bpf/syscall.c` (`prog_idr`), `core.c` (`bpf_kallsyms`), `include/linux/bpf.h` of Linux.

mod reader;
mod symbols;
#[cfg(test)]
mod tests;

pub use reader::{BpfProgram, BpfPrograms};
pub use symbols::JitSymbol;

use super::FieldMissing;
use super::mirror::{Text, mirror};
use crate::units::KernelVirt;

mirror! {
    /// `struct bpf_prog`.
    struct Prog, ProgLayout = "bpf_prog" {
        kind: u32 = "type",
        tag: u64,
        insns: u32 = "len",
        jited_len: u32,
        stats: KernelVirt,
        code: KernelVirt = "bpf_func",
        aux: KernelVirt,
    }
}

mirror! {
    /// `struct bpf_prog_aux`.
    struct Aux, AuxLayout = "bpf_prog_aux" {
        id: u32,
        name: Text,
        func_cnt: u32,
        func: KernelVirt,
        used_map_cnt: u32,
        used_maps: KernelVirt,
        btf: KernelVirt,
        attach_func_name: Result<KernelVirt, FieldMissing>,
        load_time: Result<u64, FieldMissing>,
        verified_insns: Result<u32, FieldMissing>,
    }
}

mirror! {
    /// `struct bpf_prog_stats`, of one CPU.
    struct Stats, StatsLayout = "bpf_prog_stats" {
        cnt: u64,
        nsecs: u64,
        misses: Result<u64, FieldMissing>,
    }
}

mirror! {
    /// `struct bpf_ksym`: a range of JIT code.
    struct Ksym, KsymLayout = "bpf_ksym" {
        start: u64,
        end: u64,
    }
}

mirror! {
    /// Its name, which is long.
    struct KsymName, KsymNameLayout = "bpf_ksym" {
        name: Text,
    }
}
