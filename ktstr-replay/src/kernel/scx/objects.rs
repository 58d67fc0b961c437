//! The objects that have made schedulers: what a loader has loaded at once, with its maps and programs. All of it has one `struct btf`.

use std::collections::{BTreeMap, BTreeSet};

use super::schedulers::{MAX_SCHEDULERS, identity, linked};
use super::state::held_at;
use crate::kernel::maps::{BpfMap, all_struct_ops};
use crate::kernel::{Gaps, KernelError, KernelView};
use crate::path::SchedulerName;
use crate::trace::record::SchedulerMaps;
use crate::trace::record::scheduler_maps::ROOT_CGROUP;
use crate::units::KernelVirt;

/// What the `struct_ops` maps say of their objects, now.
#[derive(Debug, Default)]
pub(crate) struct SchedulerObjects {
    /// Those with a scheduler.
    live: Vec<LiveObject>,
    /// Those whose scheduler has ended, or was not enabled yet.
    idle: BTreeSet<KernelVirt>,
    /// Those of which that cannot be read, as while a scheduler is being made.
    unread: BTreeSet<KernelVirt>,
    /// The kernel says which they are.
    is_told: bool,
}

/// An object with a scheduler.
#[derive(Debug)]
struct LiveObject {
    /// Its `struct btf`.
    btf: KernelVirt,
    /// Where the kernel keeps its pointer to the scheduler.
    held: KernelVirt,
    /// The `struct scx_sched`.
    scheduler: KernelVirt,
    /// Which scheduler it is.
    who: SchedulerMaps,
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
                    Ok(who) => found.live.push(LiveObject { btf, held: at, scheduler, who }),
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
            |btf: &KernelVirt| found.unread.contains(btf) || found.live.iter().any(|live| live.btf == *btf);
        found.idle.retain(|btf| btf.0 != 0 && !is_used(btf));
        Ok(found)
    }

    fn meant<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s LiveObject> {
        self.live.iter().filter(move |live| live.who.goes_by(name))
    }

    /// The objects whose scheduler goes by that name; `None`: there is no such scheduler now.
    pub fn named(&self, name: &str) -> Option<Vec<KernelVirt>> {
        let meant: Vec<KernelVirt> = self.meant(name).map(|live| live.btf).collect();
        (!meant.is_empty()).then_some(meant)
    }

    /// Where the kernel keeps its pointers to the schedulers that go by that name, one for each that can be told apart. One that has
    /// ended, and whose loader is still there, is meant only where there is no other of that name.
    pub fn pointers(&self, view: &KernelView<'_>, name: &str) -> Vec<KernelVirt> {
        let linked = linked(view, &mut Gaps::default());
        let is_linked = |live: &LiveObject| linked.contains(&live.scheduler);
        let any_linked = self.meant(name).any(is_linked);
        let meant = self.meant(name).filter(|live| !any_linked || is_linked(live));
        // The latest of one cgroup is the one that is meant: maps are in the order in which they were made.
        let found: BTreeMap<(&str, &str), KernelVirt> =
            meant.map(|live| ((live.who.path_name(), live.who.scheduler.as_str()), live.held)).collect();
        found.into_values().collect()
    }

    /// Where the kernel keeps its pointers to the schedulers of an object.
    pub fn held_by(&self, object: KernelVirt) -> impl Iterator<Item = KernelVirt> {
        self.live.iter().filter(move |live| live.btf == object).map(|live| live.held)
    }

    /// What tells those apart that go by that name, as paths write it, if they are several.
    pub fn several(&self, name: &str) -> Option<Vec<String>> {
        let different: BTreeSet<(&str, &str)> =
            self.meant(name).map(|live| (live.who.path_name(), live.who.scheduler.as_str())).collect();
        let which = || different.iter().map(|&(path, _)| format!("`{}`", SchedulerName(path))).collect();
        (different.len() > 1).then(which)
    }

    /// Whether there is one scheduler at most, the root, as the kernel does not tell more.
    pub fn is_root_alone(&self, name: &str) -> bool {
        !self.is_told && name == ROOT_CGROUP
    }

    /// What those are called that are there.
    pub fn names(&self) -> Vec<String> {
        let names =
            self.live.iter().flat_map(|live| [live.who.path_name().to_owned(), live.who.scheduler.clone()]);
        names.collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// The objects of schedulers below the root.
    pub fn below(&self) -> BTreeSet<KernelVirt> {
        self.live.iter().filter(|live| live.who.level > 0).map(|live| live.btf).collect()
    }

    /// Whether an object can make a scheduler and has none now.
    pub fn is_idle(&self, object: KernelVirt) -> bool {
        self.idle.contains(&object)
    }
}

#[cfg(test)]
mod tests;
