//! The path of a cgroup, by its kernfs nodes.

use std::collections::HashMap;

use crate::kernel::mirror::mirror;
use crate::kernel::{KernelError, KernelView};
use crate::units::KernelVirt;

mirror! {
    /// `struct cgroup`, as far as its name goes.
    struct Named, NamedLayout = "cgroup" {
        kn: KernelVirt,
    }
}

mirror! {
    /// `struct kernfs_node`.
    struct Node, NodeLayout = "kernfs_node" {
        parent: KernelVirt = "__parent" | "parent",
        name: KernelVirt,
    }
}

/// Deepest path that is followed.
const MAX_DEPTH: usize = 128;
/// Longest name of one directory, in bytes (`NAME_MAX`).
const MAX_NAME_BYTES: usize = 255;

/// Paths of cgroups, each found once.
#[derive(Debug, Default)]
pub struct Paths {
    known: HashMap<KernelVirt, Result<String, KernelError>>,
}

impl Paths {
    /// The path of the `struct cgroup` at `at` from the root of its hierarchy, as `/proc/PID/cgroup` shows it.
    ///
    /// # Errors
    /// [`KernelError::Broken`] when its parents do not end; those of [`KernelView::mirror`].
    pub fn of(&mut self, view: &KernelView<'_>, at: KernelVirt) -> Result<String, KernelError> {
        self.known.entry(at).or_insert_with(|| path(view, at)).clone()
    }
}

fn path(view: &KernelView<'_>, at: KernelVirt) -> Result<String, KernelError> {
    let mut node_at = view.mirror::<Named>(at)?.kn;
    let mut names = Vec::new();
    for _ in 0..MAX_DEPTH {
        let node: Node = view.mirror(node_at)?;
        if node.parent.0 == 0 {
            names.reverse();
            return Ok(format!("/{}", names.join("/")));
        }
        names.push(view.text(node.name, MAX_NAME_BYTES)?);
        node_at = node.parent;
    }
    let why = format!("it is deeper than {MAX_DEPTH} levels");
    Err(KernelError::Broken { what: "a cgroup's path", at, why })
}
