//! Maps and programs of one moment, as a reader of a checkpoint wants them: typed, and with whose they are.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::reader::Place;
use super::{ArenaState, MapCaps, MapReader, RingState};
use crate::btf::{TypeId, Types};
use crate::kernel::scx::{Holder, holders, owners};
use crate::kernel::{BpfProgram, BpfPrograms, KernelError, KernelView};
use crate::trace::record::{BlobId, MapState};
use crate::units::KernelVirt;
use crate::value::snapshot::BlobError;
use crate::value::{MOST_OF_ONE_MAP, MapView, Value, ValueError};

/// Maps and programs at one moment, and the types of their values.
#[derive(Debug)]
pub struct BpfObjects {
    maps: Vec<MapObject>,
    programs: BpfPrograms,
    faults: Vec<String>,
    types: HashMap<BlobId, Result<Arc<Types>, BlobError>>,
    kernel_types: Arc<Types>,
}

/// A map at one moment.
#[derive(Clone, Debug)]
pub struct MapObject {
    /// What a sample records of it.
    pub state: MapState,
    /// Its type as bpftool prints it: `hash`, `percpu_array`, `task_storage`, ...
    pub kind: String,
    /// What its type has that is no table.
    pub detail: Option<MapDetail>,
    /// It is of the object whose scheduler runs: it has that object's types, or a program of it uses it.
    pub of_scheduler: bool,
    /// Whose it is, where there are several schedulers: `qmap on /below`. More than one where they share it.
    pub schedulers: Vec<String>,
    /// Type of its value in the kernel's types, for `struct_ops`.
    kernel_value: Option<TypeId>,
}

/// State of a map that is not a table of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapDetail {
    /// A ring buffer.
    Ring(RingState),
    /// An arena.
    Arena(ArenaState),
}

impl BpfObjects {
    /// Read all maps and programs.
    ///
    /// # Errors
    /// When the table of either cannot be read. What cannot be read of one is a line of [`BpfObjects::faults`].
    pub fn read(view: &KernelView<'_>) -> Result<Self, KernelError> {
        let mut read = MapReader::new(MapCaps::default()).read(view)?;
        let programs = BpfPrograms::read(view)?;
        let mut faults = std::mem::take(&mut read.faults);
        faults.extend_from_slice(programs.faults());
        let holders = holders(view, &read, &mut faults);
        let scheduler = running(view, &holders);
        // One scheduler alone has all of them.
        let several = if holders.len() > 1 { &*holders } else { &[] };
        let owners = owners(view, &read, several, &programs.used_maps(), &mut faults);
        let programs = programs.of_scheduler(scheduler, |btf| {
            let owner = owners.iter().find(|(holder, _)| btf.0 != 0 && holder.btf == btf);
            owner.map(|(_, owner)| owner.in_words())
        });
        // Maps that the loader gave no types have no BTF, but the programs that use them do.
        let marked = programs.programs().iter().filter(|program| program.of_scheduler);
        let used: HashSet<u32> = marked.flat_map(|program| program.map_ids.iter().copied()).collect();
        let types = read
            .blobs
            .into_iter()
            .map(|blob| (blob.id, Types::parse(blob.bytes).map(Arc::new).map_err(BlobError::from)));
        let types = types.collect();
        let one = |(state, place): (MapState, Place)| {
            let kind = view.types().enum_name_of("bpf_map_type", i128::from(state.map_type));
            let detail = detail(view, &place, kind).unwrap_or_else(|error| {
                faults.push(format!("BPF map {} `{}`: {error}", state.id, state.name));
                None
            });
            let kind = match kind {
                Some(name) => name.trim_start_matches("BPF_MAP_TYPE_").to_lowercase(),
                None => format!("type {}", state.map_type),
            };
            let kernel_value = place.map.btf_vmlinux_value_type_id;
            let of_scheduler = scheduler.is_some_and(|btf| btf == place.map.btf) || used.contains(&state.id);
            let kernel_value = (kernel_value != 0).then_some(TypeId(kernel_value));
            let whose: BTreeSet<String> = owners
                .iter()
                .filter(|(_, owner)| owner.maps.binary_search(&state.id).is_ok())
                .take(MOST_OF_ONE_MAP)
                .map(|(_, owner)| owner.in_words())
                .collect();
            let schedulers = whose.into_iter().collect();
            MapObject { state, kind, detail, of_scheduler, schedulers, kernel_value }
        };
        let maps = read.maps.into_iter().zip(read.places).map(one).collect();
        Ok(Self { maps, programs, faults, types, kernel_types: Arc::clone(view.types()) })
    }

    /// The maps, ascending by id.
    #[must_use]
    pub fn maps(&self) -> &[MapObject] {
        &self.maps
    }

    /// The programs.
    #[must_use]
    pub fn programs(&self) -> &BpfPrograms {
        &self.programs
    }

    /// What could not be read, or was left out.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// A map with accessors for its entries.
    #[must_use]
    pub fn view<'o>(&'o self, map: &'o MapObject) -> MapView<'o> {
        let no = |why: String| ValueError::NoTypes { map: map.state.name.clone(), why };
        let types = match map.state.btf.map(|id| self.types.get(&id)) {
            None => Err(no("it was created without BTF".into())),
            Some(Some(Ok(types))) => Ok(types.as_ref()),
            Some(Some(Err(why))) => Err(no(why.to_string())),
            Some(None) => Err(no(BlobError::Absent.to_string())),
        };
        MapView::new(&map.state, types, self.program())
    }

    /// The types of the running scheduler's program.
    fn program(&self) -> Option<&Types> {
        let ids = self.maps.iter().filter(|map| map.of_scheduler).filter_map(|map| map.state.btf);
        ids.filter_map(|id| self.types.get(&id)?.as_ref().ok()).map(Arc::as_ref).next()
    }

    /// The value of a `struct_ops` map by the kernel's own type: where that has functions, there are ids of programs.
    /// `None` for other maps.
    #[must_use]
    pub fn struct_ops<'o>(&'o self, map: &'o MapObject) -> Option<Value<'o>> {
        let entry = self.view(map).at(0).ok()?;
        Value::new(&self.kernel_types, map.kernel_value?, entry.value_bytes()).ok()
    }

    /// The operations that a `struct_ops` map has programs for: name of the member, program. Empty for other maps.
    #[must_use]
    pub fn operations<'o>(&'o self, map: &'o MapObject) -> Vec<(&'o str, &'o BpfProgram)> {
        let Some(data) = self.struct_ops(map).and_then(|value| value.path("data").ok()) else {
            return Vec::new();
        };
        let member = |(name, value): (&'o str, Value<'o>)| {
            let id = value.is_function().ok()?.then(|| value.as_u64().ok())??;
            Some((name, self.programs.program(u32::try_from(id).ok().filter(|&id| id != 0)?)?))
        };
        data.parts().unwrap_or_default().into_iter().filter_map(member).collect()
    }
}

/// The `struct btf` of the object whose `struct_ops` map registered the scheduler that runs.
fn running(view: &KernelView<'_>, holders: &[Holder]) -> Option<KernelVirt> {
    let root = view.pointer(view.profile().symbols().address("scx_root")?).ok()??;
    let holder = holders.iter().find(|holder| holder.scheduler == root)?;
    Some(holder.btf).filter(|btf| btf.0 != 0)
}

fn detail(
    view: &KernelView<'_>,
    place: &Place,
    kind: Option<&str>,
) -> Result<Option<MapDetail>, KernelError> {
    Ok(match kind {
        Some("BPF_MAP_TYPE_RINGBUF" | "BPF_MAP_TYPE_USER_RINGBUF") => {
            Some(MapDetail::Ring(RingState::read(view, place.at)?))
        }
        Some("BPF_MAP_TYPE_ARENA") => Some(MapDetail::Arena(ArenaState::read(view, &place.map, place.at)?)),
        _ => None,
    })
}
