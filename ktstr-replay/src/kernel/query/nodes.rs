//! The nodes of a BPF program's trees and lists.
//!
//! Sources: `struct bpf_rb_root`, `bpf_rb_node_kern`, `bpf_list_head`, `bpf_list_node_kern` in `include/linux/bpf.h` and
//! `kernel/bpf/helpers.c` of Linux: what programs see as opaque begins with the kernel's own `rb_root_cached`, `rb_node`,
//! `list_head`.

use std::collections::HashSet;

use super::QueryError;
use crate::btf::TypeId;
use crate::kernel::trees::rbtree_nodes;
use crate::kernel::{KernelError, KernelView};
use crate::units::KernelVirt;
use crate::value::{Container, Value};

/// Most nodes of one tree or list.
const MAX_NODES: usize = 1 << 16;

/// The objects that a tree or list has, in its order, and their type in the types of `value`.
pub(super) struct Nodes {
    pub at: Vec<KernelVirt>,
    pub id: TypeId,
}

/// The objects in `container`, which is what `value` is.
///
/// # Errors
/// [`QueryError::NotWalked`] when nothing says what they are; [`QueryError::Kernel`] when a tree or list goes in circles, has more
/// than 65,536 nodes, or leads to memory that cannot be read.
pub(super) fn nodes(
    view: &KernelView<'_>,
    value: &Value<'_>,
    container: &Container<'_>,
    name: &dyn Fn() -> String,
) -> Result<Nodes, QueryError> {
    let not = |why: String| QueryError::NotWalked { path: name(), what: container.describe(), why };
    let Some((node, member)) = container.of else {
        return Err(not("nothing says what its nodes are".to_owned()));
    };
    let types = value.types();
    let id = types.struct_named(node).map_err(|error| not(error.to_string()))?;
    let offset = types.field(id, member).map_err(|error| not(error.to_string()))?.offset_bytes();
    let first = KernelVirt(container.first);
    let links = match container.is_list {
        false => rbtree_nodes(view, first, MAX_NODES)?,
        true => list(view, first, last_of(value))?,
    };
    let at = links.into_iter().map(|link| KernelVirt(link.0.wrapping_sub(offset))).collect();
    Ok(Nodes { at, id })
}

/// The second pointer of a list's head: the last node.
fn last_of(value: &Value<'_>) -> KernelVirt {
    let last = value.bytes().get(8..16).and_then(|last| last.first_chunk::<8>());
    KernelVirt(last.map_or(0, |last| u64::from_le_bytes(*last)))
}

/// The links of a list from the first to the last. Where the head is, a value out of a sample does not say; but the head of an
/// empty list is the one link that points at itself.
fn list(view: &KernelView<'_>, first: KernelVirt, last: KernelVirt) -> Result<Vec<KernelVirt>, KernelError> {
    let broken = |why: String| KernelError::Broken { what: "a BPF list", at: first, why };
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    let mut at = first;
    // A head that was never used is zero.
    while at.0 != 0 {
        let next = KernelVirt(view.u64(at)?);
        if next == at {
            return match found.is_empty() {
                true => Ok(found),
                false => Err(broken(format!("{at} points at itself"))),
            };
        }
        if !seen.insert(at) {
            return Err(broken(format!("it comes to {at} twice")));
        }
        if found.len() >= MAX_NODES {
            return Err(broken(format!("it has more than {MAX_NODES} nodes")));
        }
        found.push(at);
        if at == last {
            return Ok(found);
        }
        at = next;
    }
    match found.is_empty() {
        true => Ok(found),
        false => Err(broken("it ends before its last node".to_owned())),
    }
}
