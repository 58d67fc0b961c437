//! What is at an address that nothing gives a type to: a task, or a place in a BPF arena.

use std::collections::HashMap;

use serde::Serialize;

use super::TaskName;
use crate::kernel::task::task_addresses;
use crate::kernel::{Gaps, KernelError, KernelView};
use crate::units::KernelVirt;

/// What is at an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Landmark {
    /// The `task_struct` of a thread that lives.
    Task {
        /// Thread id; 0 for idle tasks.
        pid: u32,
        /// Command name.
        comm: String,
    },
    /// A place in a BPF arena, whose pointers are kept as user addresses.
    Arena {
        /// The map's name.
        name: String,
        /// Distance from the arena's first user address, in bytes.
        offset_bytes: u64,
    },
}

/// Known objects by address, looked up once.
pub struct Landmarks<'v> {
    view: &'v KernelView<'v>,
    tasks: HashMap<KernelVirt, (u32, String)>,
}

impl<'v> Landmarks<'v> {
    /// The tasks of a kernel; its arenas are looked up when an address may be of one.
    ///
    /// # Errors
    /// When the list of tasks cannot be read. A task that cannot be read is passed over.
    pub fn of(view: &'v KernelView<'v>) -> Result<Self, KernelError> {
        let named = |at: KernelVirt| {
            let task: TaskName = view.mirror(at).ok()?;
            Some((at, (task.pid, task.comm.0)))
        };
        let tasks = task_addresses(view, &mut Gaps::default())?.into_iter().filter_map(named).collect();
        Ok(Self { view, tasks })
    }

    /// What is at `at`; `None` for what is none of these, and for an address that is in several arenas.
    #[must_use]
    pub fn at(&self, at: u64) -> Option<Landmark> {
        if let Some((pid, comm)) = self.tasks.get(&KernelVirt(at)) {
            return Some(Landmark::Task { pid: *pid, comm: comm.clone() });
        }
        let arenas = self.view.arenas().ok()?;
        let mut inside = arenas.iter().filter_map(|arena| Some((arena, arena.offset(at)?)));
        match (inside.next(), inside.next()) {
            (Some((arena, offset_bytes)), None) => {
                Some(Landmark::Arena { name: arena.name.clone(), offset_bytes })
            }
            _ => None,
        }
    }
}
