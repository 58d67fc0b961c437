//! The objects that have made schedulers: what a loader has loaded at once, with its maps and programs. All of it has one `struct btf`.

use std::collections::BTreeSet;

use super::schedulers::{MAX_SCHEDULERS, identity};
use super::state::held_at;
use crate::kernel::maps::{BpfMap, all_struct_ops};
use crate::kernel::{KernelError, KernelView};
use crate::path::SchedulerName;
use crate::trace::record::SchedulerMaps;
use crate::trace::record::scheduler_maps::ROOT_CGROUP;
use crate::units::KernelVirt;

/// What the `struct_ops` maps say of their objects, now.
#[derive(Debug, Default)]
pub(crate) struct SchedulerObjects {
    /// Those with a scheduler, and which it is.
    live: Vec<(KernelVirt, SchedulerMaps)>,
    /// Those whose scheduler has ended, or was not enabled yet.
    idle: BTreeSet<KernelVirt>,
    /// Those of which that cannot be read, as while a scheduler is being made.
    unread: BTreeSet<KernelVirt>,
    /// The kernel says which they are.
    is_told: bool,
}

impl SchedulerObjects {
    /// Read them. A kernel that does not say which object a scheduler is of has none.
    ///
    /// # Errors
    /// When the table of maps cannot be read.
    pub fn read(view: &KernelView<'_>) -> Result<Self, KernelError> {
        let mut found = Self::default();
        for (map, BpfMap { btf, btf_vmlinux_value_type_id, .. }) in all_struct_ops(view)? {
            let Some(at) = held_at(view, map, btf_vmlinux_value_type_id)? else { continue };
            found.is_told = true;
            // One that cannot be read is not to hide all others.
            match view.pointer(at) {
                Ok(None) => {
                    found.idle.insert(btf);
                }
                Ok(Some(scheduler)) if found.live.len() < MAX_SCHEDULERS => match identity(view, scheduler) {
                    Ok(who) => found.live.push((btf, who)),
                    Err(_) => {
                        found.unread.insert(btf);
                    }
                },
                Ok(Some(_)) | Err(_) => {
                    found.unread.insert(btf);
                }
            }
        }
        // One object may have several, of which one is used.
        let is_used =
            |btf: &KernelVirt| found.unread.contains(btf) || found.live.iter().any(|(live, _)| live == btf);
        found.idle.retain(|btf| btf.0 != 0 && !is_used(btf));
        Ok(found)
    }

    fn meant<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s (KernelVirt, SchedulerMaps)> {
        self.live.iter().filter(move |(_, scheduler)| scheduler.goes_by(name))
    }

    /// The objects whose scheduler goes by that name; `None`: there is no such scheduler now.
    pub fn named(&self, name: &str) -> Option<Vec<KernelVirt>> {
        let meant: Vec<KernelVirt> = self.meant(name).map(|(btf, _)| *btf).collect();
        (!meant.is_empty()).then_some(meant)
    }

    /// What tells those apart that go by that name, as paths write it, if they are several.
    pub fn several(&self, name: &str) -> Option<Vec<String>> {
        let different: BTreeSet<(&str, &str)> =
            self.meant(name).map(|(_, one)| (one.path_name(), one.scheduler.as_str())).collect();
        let which = || different.iter().map(|&(path, _)| format!("`{}`", SchedulerName(path))).collect();
        (different.len() > 1).then(which)
    }

    /// Whether there is one scheduler at most, the root, as the kernel does not tell more.
    pub fn is_root_alone(&self, name: &str) -> bool {
        !self.is_told && name == ROOT_CGROUP
    }

    /// What those are called that are there.
    pub fn names(&self) -> Vec<String> {
        let names = self.live.iter().flat_map(|(_, one)| [one.path_name().to_owned(), one.scheduler.clone()]);
        names.collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// The objects of schedulers below the root.
    pub fn below(&self) -> BTreeSet<KernelVirt> {
        self.live.iter().filter(|(_, scheduler)| scheduler.level > 0).map(|(btf, _)| *btf).collect()
    }

    /// Whether an object can make a scheduler and has none now.
    pub fn is_idle(&self, object: KernelVirt) -> bool {
        self.idle.contains(&object)
    }
}
