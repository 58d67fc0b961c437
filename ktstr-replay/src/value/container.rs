//! Trees and lists that a BPF program owns: `bpf_rb_root`, `bpf_list_head`.
//!
//! The value itself is two pointers; the nodes are elsewhere in the kernel's memory. What they are is in a tag of the declaration,
//! `contains:TYPE:MEMBER` (`__contains` of the kernel's `bpf_experimental.h`).

use super::Value;
use crate::btf::Kind;

/// A tree or a list of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Container<'a> {
    /// It is a list, and else a tree.
    pub is_list: bool,
    /// The struct of its nodes, and the member of it that links them; `None` where no tag says it.
    pub of: Option<(&'a str, &'a str)>,
    /// The first pointer: the tree's root node, the list's first node; 0 if there is none.
    pub first: u64,
}

impl<'a> Value<'a> {
    /// Whether it is a tree or list of a program.
    pub(super) fn is_container(&self) -> bool {
        self.container_kind().is_some()
    }

    /// Whether it is a list, for trees and lists.
    fn container_kind(&self) -> Option<bool> {
        if self.kind() != Ok(Kind::Struct) {
            return None;
        }
        match self.types().name(self.types().resolve(self.type_id()).ok()?.0).ok()? {
            "bpf_rb_root" => Some(false),
            "bpf_list_head" => Some(true),
            _ => None,
        }
    }

    /// The tree or list that it is.
    pub(crate) fn container(&self) -> Option<Container<'a>> {
        let is_list = self.container_kind()?;
        let first = self.bytes().first_chunk::<8>().map_or(0, |first| u64::from_le_bytes(*first));
        let of = self.tag("contains:").and_then(|tag| tag.split_once(':'));
        Some(Container { is_list, of, first })
    }
}

impl Container<'_> {
    /// What it is, for a sentence: `a tree of struct node`.
    pub(crate) fn describe(&self) -> String {
        let what = if self.is_list { "a list" } else { "a tree" };
        match self.of {
            Some((node, _)) => format!("{what} of struct {node}"),
            None => format!("{what} of what its declaration does not say (it has no `contains` tag)"),
        }
    }

    /// What can be said of its nodes without the kernel's memory.
    pub(crate) fn without_memory(&self) -> String {
        match self.first {
            0 => format!("<{}: empty>", self.describe()),
            _ => format!(
                "<{}: its nodes are in the kernel's memory, which was not read here>",
                self.describe()
            ),
        }
    }
}
