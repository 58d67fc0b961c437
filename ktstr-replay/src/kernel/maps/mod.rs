//! BPF maps: every map of the kernel with its entries and its types.
//!
//! Sources: `kernel/bpf/syscall.c` (`map_idr`), `btf.c` of Linux, and those that each type's file names.
//!
//! [`MapReader`] reads what a sample keeps: the entries, in the forms of
//! [`MapContents`](crate::trace::record::MapContents). What those forms have no place for, such as the positions of a
//! ring buffer, is read from a checkpoint by [`BpfObjects`], which also tells which objects the running scheduler has.
//!
//! | type | recorded as | key, value |
//! |---|---|---|
//! | array, per-CPU array, hash, LRU hash, both per CPU | itself | as declared |
//! | queue, stack | array | values in the order in which they would be popped |
//! | task, cgroup, inode storage | hash | pid, cgroup id, inode number; in `key_size` bytes |
//! | array and hash of maps, array of programs | array, hash | the id, 0 for none |
//! | `struct_ops` | array of one | `uvalue`: ids of programs in place of functions |
//! | ring buffer, arena | unread | in [`MapDetail`] |
//! | all others | unread | |

mod arena;
mod array;
mod find;
mod hash;
mod local;
mod objects;
mod queue;
mod reader;
mod refs;
mod ring;
mod struct_ops;
#[cfg(test)]
mod tests;
mod types;

pub use arena::ArenaState;
pub(in crate::kernel) use arena::{ArenaPlace, find_arenas};
pub(in crate::kernel) use find::struct_ops_maps;
pub use objects::{BpfObjects, MapDetail, MapObject};
pub use reader::{MapCaps, MapReader, MapsRead};
pub use ring::RingState;

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

mirror! {
    /// `struct bpf_queue_stack`.
    struct BpfQueueStack, BpfQueueStackLayout = "bpf_queue_stack" {
        head: u32,
        tail: u32,
        size: u32,
        elements: At,
    }
}

mirror! {
    /// `struct bpf_local_storage_map`.
    struct LocalStorageMap, LocalStorageMapLayout = "bpf_local_storage_map" {
        buckets: KernelVirt,
        bucket_log: u32,
    }
}

mirror! {
    /// `struct bpf_local_storage_elem`.
    struct LocalStorageElem, LocalStorageElemLayout = "bpf_local_storage_elem" {
        local_storage: KernelVirt,
        data: At = "sdata.data",
    }
}

mirror! {
    /// `struct bpf_local_storage`: all that one owner has.
    struct LocalStorage, LocalStorageLayout = "bpf_local_storage" {
        owner: KernelVirt,
    }
}

mirror! {
    /// `struct cgroup`, as the owner of storage.
    struct OwnerCgroup, OwnerCgroupLayout = "cgroup" {
        node: KernelVirt = "kn",
    }
}

mirror! {
    /// `struct kernfs_node`.
    struct KernfsNode, KernfsNodeLayout = "kernfs_node" {
        id: u64,
    }
}

mirror! {
    /// `struct inode`, as the owner of storage.
    struct OwnerInode, OwnerInodeLayout = "inode" {
        number: u64 = "i_ino",
    }
}

mirror! {
    /// `struct bpf_prog`, on the way to its id.
    struct ProgOfId, ProgOfIdLayout = "bpf_prog" {
        aux: KernelVirt,
    }
}

mirror! {
    /// `struct bpf_prog_aux`, as far as the id goes.
    struct ProgId, ProgIdLayout = "bpf_prog_aux" {
        id: u32,
    }
}

mirror! {
    /// `struct bpf_struct_ops_map`.
    struct BpfStructOpsMap, BpfStructOpsMapLayout = "bpf_struct_ops_map" {
        uvalue: KernelVirt,
        kvalue: At,
        refcnt: Result<i64, FieldMissing> = "map.refcnt",
        usercnt: Result<i64, FieldMissing> = "map.usercnt",
    }
}

mirror! {
    /// `struct bpf_ringbuf_map`.
    struct BpfRingbufMap, BpfRingbufMapLayout = "bpf_ringbuf_map" {
        rb: KernelVirt,
    }
}

mirror! {
    /// `struct bpf_ringbuf`.
    struct BpfRingbuf, BpfRingbufLayout = "bpf_ringbuf" {
        mask: u64,
        consumer_pos: u64,
        producer_pos: u64,
        data: At,
    }
}

mirror! {
    /// `struct bpf_arena`.
    struct BpfArena, BpfArenaLayout = "bpf_arena" {
        user_vm_start: u64,
        user_vm_end: u64,
        kern_vm: KernelVirt,
        scratch_page: Result<KernelVirt, FieldMissing>,
    }
}

mirror! {
    /// `struct vm_struct`.
    struct VmStruct, VmStructLayout = "vm_struct" {
        addr: KernelVirt,
    }
}
