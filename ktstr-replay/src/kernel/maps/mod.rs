//! BPF maps: every map of the kernel with its entries and its types.
//!
//! Sources: `kernel/bpf/syscall.c` (`map_idr`), `btf.c` of Linux, and those that each type's file names.
//!
//! `MapReader` reads what a sample keeps: the entries, in the forms of
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

mod arrays;
mod hashes;
mod memory;
mod objects;
mod reader;
#[cfg(test)]
mod tests;

pub(in crate::kernel) use arrays::array_values;
pub(in crate::kernel) use memory::{ArenaPlace, find_arenas};
pub use memory::{ArenaState, RingState};
pub use objects::{BpfObjects, MapDetail, MapObject};
pub use reader::MapCaps;
pub(in crate::kernel) use reader::{BpfMap, all_struct_ops, struct_ops_maps};
pub(in crate::kernel) use reader::{MapReader, MapsRead};
