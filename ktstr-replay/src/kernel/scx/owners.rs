//! Whose BPF maps are: each scheduler's are those of the object that registered it, and those that this object's programs use.
//!
//! The kernel does not say it. A `struct_ops` map points at the scheduler that it made (`sched_ext_ops.priv`), and has the types
//! (`bpf_map.btf`) that its loader gave all maps and programs of the object. Two loaders of one source have types of their own.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::maps::{MapsRead, struct_ops_maps};
use crate::kernel::scx::schedulers::{MAX_SCHEDULERS, identity};
use crate::kernel::scx::state::{held_at, held_by};
use crate::kernel::{KernelError, KernelView, UsedMaps};
use crate::trace::record::SchedulerMaps;
use crate::units::KernelVirt;

/// A `struct_ops` map that has made a scheduler.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel) struct Holder {
    /// The `struct scx_sched`.
    pub scheduler: KernelVirt,
    /// The object's `struct btf`.
    pub btf: KernelVirt,
    /// Kernel id of the map.
    map_id: u32,
}

/// The maps that hold schedulers. What cannot be read is added to `faults`.
pub(in crate::kernel) fn holders(
    view: &KernelView<'_>,
    read: &MapsRead,
    faults: &mut Vec<String>,
) -> Vec<Holder> {
    let mut found = Vec::new();
    for &(map, value_type) in &read.struct_ops {
        if found.len() >= MAX_SCHEDULERS {
            faults.push(format!("whose BPF maps are: there are more than {MAX_SCHEDULERS} schedulers"));
            break;
        }
        match held_by(view, map, value_type) {
            Ok(Some(scheduler)) => {
                let place = read.places.iter().find(|place| place.at == map);
                found.extend(place.map(|place| Holder {
                    scheduler,
                    btf: place.map.btf,
                    map_id: place.map.id,
                }));
            }
            Ok(None) => {}
            Err(error) => faults.push(format!("the scheduler of the BPF map at {map}: {error}")),
        }
    }
    found
}

/// Where the kernel keeps which scheduler a `struct_ops` map has made, of each map that has made one, up to as many as there can be: it
/// clears that when the scheduler has ended, before its maps go.
///
/// # Errors
/// When the table of maps cannot be read.
pub(crate) fn holds(view: &KernelView<'_>) -> Result<Vec<KernelVirt>, KernelError> {
    let mut found = Vec::new();
    for (map, value_type) in struct_ops_maps(view)? {
        // One that cannot be read is not to hide all others.
        if found.len() < MAX_SCHEDULERS
            && let Some(at) = held_at(view, map, value_type)?
            && view.pointer(at).is_ok_and(|scheduler| scheduler.is_some())
        {
            found.push(at);
        }
    }
    Ok(found)
}

/// Ids of the maps of the object with this `struct btf`, ascending.
fn maps_of(object: KernelVirt, read: &MapsRead, used: &[UsedMaps]) -> BTreeSet<u32> {
    let is_its = |btf: KernelVirt| btf.0 != 0 && btf == object;
    let declared = read.places.iter().filter(|place| is_its(place.map.btf)).map(|place| place.map.id);
    // Maps that the loader gave no types have no BTF, but the programs that use them do.
    let used = used.iter().filter(|one| is_its(one.btf)).flat_map(|one| one.map_ids.iter().copied());
    declared.chain(used).collect()
}

/// Whose maps are, by holder. A scheduler that cannot be read is a fault.
pub(in crate::kernel) fn owners(
    view: &KernelView<'_>,
    read: &MapsRead,
    holders: &[Holder],
    used: &[UsedMaps],
    faults: &mut Vec<String>,
) -> Vec<(Holder, SchedulerMaps)> {
    let mut found = Vec::new();
    // Gathered once of each object: in memory that is damaged, any number of holders may be of the same.
    let mut objects: BTreeMap<KernelVirt, BTreeSet<u32>> = BTreeMap::new();
    for holder in holders {
        match identity(view, holder.scheduler) {
            Ok(scheduler) => {
                let of_object = objects.entry(holder.btf).or_insert_with(|| maps_of(holder.btf, read, used));
                let mut maps = of_object.clone();
                maps.insert(holder.map_id);
                found.push((*holder, SchedulerMaps { maps: maps.into_iter().collect(), ..scheduler }));
            }
            Err(error) => {
                faults.push(format!("whose BPF maps are, of the scheduler at {}: {error}", holder.scheduler));
            }
        }
    }
    found
}

/// Finds whose maps are, again and again, and tells each scheduler once.
#[derive(Debug, Default)]
pub(in crate::kernel) struct OwnerReader {
    told: BTreeSet<u32>,
}

impl OwnerReader {
    /// The schedulers that were not told before; none while there is one alone, of which all maps are.
    pub fn read(
        &mut self,
        view: &KernelView<'_>,
        read: &MapsRead,
        faults: &mut Vec<String>,
    ) -> Vec<SchedulerMaps> {
        let holders = several(view, read, faults);
        self.tell(view, read, holders, faults)
    }

    /// Those of `holders` that were not told before. One that cannot be read now is told when it can be.
    fn tell(
        &mut self,
        view: &KernelView<'_>,
        read: &MapsRead,
        mut holders: Vec<Holder>,
        faults: &mut Vec<String>,
    ) -> Vec<SchedulerMaps> {
        holders.retain(|holder| !self.told.contains(&holder.map_id));
        if holders.is_empty() {
            return Vec::new();
        }
        let used = match UsedMaps::read(view) {
            Ok(used) => used,
            Err(error) => {
                faults.push(format!("which BPF maps programs use: {error}"));
                return Vec::new();
            }
        };
        let found = owners(view, read, &holders, &used, faults);
        self.told.extend(found.iter().map(|(holder, _)| holder.map_id));
        found.into_iter().map(|(_, owner)| owner).collect()
    }
}

/// Whose maps are now, where there are several schedulers.
pub(in crate::kernel) fn owners_now(
    view: &KernelView<'_>,
    read: &MapsRead,
    faults: &mut Vec<String>,
) -> Vec<SchedulerMaps> {
    OwnerReader::default().read(view, read, faults)
}

/// The holders, if there is more than one. With a single `struct_ops` map nothing is read.
fn several(view: &KernelView<'_>, read: &MapsRead, faults: &mut Vec<String>) -> Vec<Holder> {
    if read.struct_ops.len() < 2 {
        return Vec::new();
    }
    let found = holders(view, read, faults);
    if found.len() < 2 { Vec::new() } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::toy_kernel;

    /// Of one that was being made when it was looked at, nothing was ever told.
    #[test]
    fn a_scheduler_that_cannot_be_read_is_told_when_it_can_be() {
        let (mut guest, _) = toy_kernel(0);
        // There are no programs.
        guest.variable("prog_idr", "idr");
        let (profile, memory) = (guest.profile(), guest.ram);
        let view = KernelView::new(&profile, &memory);
        let root = profile.symbols().address("scx_root").expect("a symbol");
        let scheduler = view.pointer(root).expect("readable").expect("a scheduler");
        let holder = |map_id, scheduler| Holder { scheduler, btf: KernelVirt(0), map_id };
        let nowhere = KernelVirt(0xffff_ffff_ffff_f000);
        let (mut reader, mut faults, read) = (OwnerReader::default(), Vec::new(), MapsRead::default());
        let told = reader.tell(&view, &read, vec![holder(7, scheduler), holder(9, nowhere)], &mut faults);
        assert_eq!(told.iter().map(|one| one.maps.clone()).collect::<Vec<_>>(), [[7]]);
        assert!(faults.len() == 1 && faults[0].contains(&nowhere.to_string()), "{faults:?}");
        faults.clear();
        let told = reader.tell(&view, &read, vec![holder(7, scheduler), holder(9, scheduler)], &mut faults);
        assert_eq!(told.iter().map(|one| one.maps.clone()).collect::<Vec<_>>(), [[9]]);
        let again = reader.tell(&view, &read, vec![holder(7, scheduler), holder(9, scheduler)], &mut faults);
        assert!(again.is_empty() && faults.is_empty(), "{again:?} {faults:?}");
    }
}
