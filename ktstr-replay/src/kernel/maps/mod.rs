//! BPF maps: every map of the kernel with its entries and its types.
//!
//! Sources: `kernel/bpf/syscall.c` (`map_idr`), `arraymap.c`, `hashtab.c`, `btf.c` of Linux.

mod array;
mod find;
mod hash;
mod reader;
#[cfg(test)]
mod tests;
mod types;

pub(in crate::kernel) use find::struct_ops_maps;
pub use reader::{MapCaps, MapReader, MapsRead};

use super::FieldMissing;
use super::mirror::{At, Text, mirror};
use crate::units::KernelVirt;

mirror! {
    /// `struct bpf_map`, which every map begins with.
    pub(super) struct BpfMap, BpfMapLayout = "bpf_map" {
        id: u32,
        name: Text,
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        btf: KernelVirt,
        btf_key_type_id: u32,
        btf_value_type_id: u32,
        btf_vmlinux_value_type_id: u32,
    }
}

mirror! {
    /// `struct idr`.
    struct Idr, IdrLayout = "idr" {
        head: u64 = "idr_rt.xa_head",
    }
}

mirror! {
    /// `struct btf`, as far as the program's blob goes.
    struct Btf, BtfLayout = "btf" {
        data: KernelVirt,
        data_size: u32,
        id: u32,
        kernel_btf: Result<u32, FieldMissing>,
    }
}

mirror! {
    /// `struct bpf_array`.
    struct BpfArray, BpfArrayLayout = "bpf_array" {
        elem_size: u64,
        value: At,
        pptrs: At,
    }
}

mirror! {
    /// `struct bpf_htab`.
    struct BpfHtab, BpfHtabLayout = "bpf_htab" {
        buckets: KernelVirt,
        n_buckets: u64,
    }
}
