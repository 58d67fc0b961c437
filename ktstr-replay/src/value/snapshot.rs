//! A recorded sample: its variables and maps, by the names that the scheduler's author gave them.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::{MapOwners, MapView, Scope, StatsAnswers, StatsError, StatsValue, Value, ValueError};
use crate::btf::{BtfError, Kind, TypeId, Types, plain};
use crate::path::{AsPath, Dotted, SchedulerName, StatsPath, Step, after_name, path_text};
use crate::text::Candidates;
use crate::trace::record::scheduler_maps::ROOT_CGROUP;
use crate::trace::record::{BlobId, MapContents, MapState, Sample, SchedulerMaps};

/// Where the types of a sample come from.
pub(crate) trait Blobs {
    /// The BTF blob of that id, parsed. Called once for each blob of a sample; implementations keep what they parsed.
    ///
    /// # Errors
    /// [`BlobError`] when the trace does not have it, or it cannot be used.
    fn types(&self, id: &BlobId) -> Result<Arc<Types>, BlobError>;
}

/// Why a blob of types cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BlobError {
    /// It is not in the trace.
    #[error("their BTF is not in the trace")]
    Absent,
    /// It is in the trace, but cannot be read.
    #[error("their BTF cannot be read from the trace: {0}")]
    Damaged(String),
    /// It was read, and is not usable.
    #[error(transparent)]
    Btf(#[from] BtfError),
}

/// `BPF_MAP_TYPE_STRUCT_OPS`: the map that a sched_ext scheduler registers itself with.
const STRUCT_OPS: u32 = 26;
/// Longest map name that the kernel keeps, in bytes.
const MAP_NAME_BYTES: usize = 15;
/// Deepest struct that is taken apart.
const LEAF_DEPTH: usize = 4;
/// Leaves that are looked at; a trace's types are not trusted and can have any number.
const MAX_LEAVES: usize = 2000;

/// A sample and the types of its maps.
///
/// ```
/// use ktstr_replay::trace::Trace;
///
/// let trace = Trace::open("../traces/steady.trace.zst".as_ref())?;
/// let captures = trace.periodic();
/// let capture = captures.snapshots().last().expect("a capture");
/// // By name, or all that there are.
/// let dispatched = capture.var("nr_dispatched")?.as_u64()?;
/// assert!(capture.vars().iter().any(|(name, value)| name.ends_with("nr_dispatched") && value.as_u64() == Ok(dispatched)));
/// assert_eq!(capture.constant("DEMO_SCHEDULING")?, 1);
///
/// let runs = capture.map("cpu_stats")?.at(0)?;
/// let of_cpus = runs.cpus().iter().map(|cpu| runs.cpu(*cpu)?.path("nr_running")?.as_u64());
/// let of_cpus = of_cpus.collect::<Result<Vec<u64>, _>>()?;
/// let (cpu, most) = runs.cpu_max("nr_running")?;
/// assert_eq!(most.to_i128(), of_cpus.iter().max().map(|max| i128::from(*max)), "on {cpu:?}");
/// assert!(runs.cpu_min("nr_running")?.1.to_f64() <= runs.cpu_sum("nr_running")?.to_f64());
///
/// let tasks = capture.map("task_stats")?;
/// let most = tasks.max_by("nr_runs")?;
/// let pid = most.key()?.as_i64()?;
/// assert_eq!(tasks.get_key(pid)?.value_bytes(), most.value_bytes());
/// assert_eq!(most.key_bytes().map(<[u8]>::len), Some(4));
///
/// // Where there is one scheduler all is its.
/// assert_eq!(capture.of_scheduler("/")?.var("nr_dispatched")?.as_u64()?, dispatched);
/// assert_eq!(capture.scheduler_of(tasks.state().id), None, "it is told where there are several");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Snapshot<'a> {
    sample: &'a Sample,
    types: Vec<(BlobId, Result<Arc<Types>, BlobError>)>,
    /// The blobs of the objects that have a `struct_ops` map.
    schedulers: Vec<BlobId>,
    /// What the scheduler answered after captures, where that is known.
    stats: Option<&'a StatsAnswers>,
    /// Whose maps are, where that is known.
    owners: Option<&'a MapOwners>,
    /// Ids of the maps that are looked into, if not all are.
    only: Option<BTreeSet<u32>>,
    /// What the sample was taken out of. Of what type that is only the modules above know, which read memory: this one is below them.
    origin: Option<&'a (dyn Any + Send + Sync)>,
}

/// A map that is a data section, with the names that it goes by in paths.
struct Section<'s> {
    map: &'s MapState,
    types: &'s Types,
    id: TypeId,
    /// Its name without the leading dot: `bss`, `data.uei`.
    name: &'s str,
    /// The object's name, as far as the kernel has it: `demo` of `demo.bss`.
    object: Option<&'s str>,
}

impl Section<'_> {
    /// What one of its variables, or a part of it, is called among all sections.
    fn qualified(&self, variable: &str, rest: &[Step]) -> String {
        let object = self.object.map_or_else(String::new, |object| format!("{}.", Dotted(object)));
        let name = format!("{object}{}.{}", Dotted(self.name), Dotted(variable));
        path_text(&name, rest)
    }

    /// `path` without the section's name before it, in each form that fits; the whole path first.
    fn unqualified<'p>(&self, path: &'p [Step]) -> impl Iterator<Item = &'p [Step]> + use<'p> {
        let by_section = after_name(path, self.name);
        let by_object = self.object.and_then(|object| after_name(after_name(path, object)?, self.name));
        [Some(path), by_section, by_object].into_iter().flatten()
    }
}

impl<'a> Snapshot<'a> {
    /// Take a sample and get the types of its maps.
    pub(crate) fn new(sample: &'a Sample, blobs: &dyn Blobs) -> Self {
        let mut types: Vec<(BlobId, Result<Arc<Types>, BlobError>)> = Vec::new();
        let mut schedulers = Vec::new();
        for map in &sample.maps {
            let Some(id) = map.btf else { continue };
            if !types.iter().any(|(known, _)| *known == id) {
                types.push((id, blobs.types(&id)));
            }
            if map.map_type == STRUCT_OPS && !schedulers.contains(&id) {
                schedulers.push(id);
            }
        }
        Self { sample, types, schedulers, stats: None, owners: None, only: None, origin: None }
    }

    /// The same with what is known of whose maps are.
    pub(crate) fn with_owners(self, owners: &'a MapOwners) -> Self {
        Self { owners: Some(owners), ..self }
    }

    /// What one of several schedulers has: variables and maps are then looked for among its own. It is called by the cgroup that it
    /// schedules (`/` is the root scheduler's), by its name where only one is called that, or by both: `qmap on /below`.
    ///
    /// # Errors
    /// [`ValueError::NoScheduler`] with those that are there, [`ValueError::SeveralSchedulers`], [`ValueError::Missed`].
    pub fn of_scheduler(&self, name: &str) -> Result<Self, ValueError> {
        self.present()?;
        let ids = self.sample.maps.iter().map(|map| map.id);
        let here: Vec<&SchedulerMaps> = self.owners.map(|owners| owners.among(ids)).unwrap_or_default();
        let mut same = Self {
            sample: self.sample,
            types: self.types.clone(),
            schedulers: self.schedulers.clone(),
            stats: self.stats,
            owners: self.owners,
            only: self.only.clone(),
            origin: self.origin,
        };
        let none = |names: Vec<&str>| ValueError::NoScheduler {
            name: name.to_owned(),
            candidates: Box::new(Candidates::new(name, names)),
        };
        if here.is_empty() {
            // There is one at most, and all is its.
            let root = self.sample.scx.as_ref().and_then(|scx| scx.ops_name.as_deref());
            let Some(root) = root else { return Err(none(Vec::new())) };
            return if name == ROOT_CGROUP || name == root {
                Ok(same)
            } else {
                Err(none(vec![ROOT_CGROUP, root]))
            };
        }
        let meant: Vec<_> = here.iter().filter(|one| one.goes_by(name)).collect();
        let different: BTreeSet<(&str, &str)> =
            meant.iter().map(|one| (one.path_name(), one.scheduler.as_str())).collect();
        if different.is_empty() {
            return Err(none(here.iter().flat_map(|one| [one.path_name(), &one.scheduler]).collect()));
        }
        if different.len() > 1 {
            let which = meant.iter().map(|one| format!("`{}`", SchedulerName(one.path_name()))).collect();
            return Err(ValueError::SeveralSchedulers { name: name.to_owned(), which });
        }
        let ids: BTreeSet<u32> = meant.iter().flat_map(|one| one.maps.iter().copied()).collect();
        let has = |id: &BlobId| {
            self.sample.maps.iter().any(|map| ids.contains(&map.id) && map.btf.as_ref() == Some(id))
        };
        same.schedulers.retain(has);
        same.only = Some(ids);
        Ok(same)
    }

    /// The maps that are looked into.
    fn looked_into(&self) -> impl Iterator<Item = &'a MapState> {
        let taken = |map: &&MapState| self.only.as_ref().is_none_or(|only| only.contains(&map.id));
        self.sample.maps.iter().filter(taken)
    }

    /// What stands before the name of what a map has, in a path, to say whose it is: `scheduler(/below).`. Empty where nothing is known.
    fn before(&self, map: u32) -> String {
        let owner = self.owners.and_then(|owners| owners.of(map).next());
        owner.map_or_else(String::new, |one| format!("{}.", SchedulerName(one.path_name())))
    }

    /// The same for names that are shown: what the root has is called as if there were no other.
    fn shown_before(&self, map: u32) -> String {
        let below =
            |owners: &MapOwners| owners.of(map).next().is_some() && owners.of(map).all(|one| one.level > 0);
        if self.owners.is_some_and(below) { self.before(map) } else { String::new() }
    }

    /// The same with what the scheduler answered after captures.
    pub(crate) fn with_stats(self, stats: &'a StatsAnswers) -> Self {
        Self { stats: Some(stats), ..self }
    }

    /// The same with what the sample was taken out of.
    pub(crate) fn of_origin(self, origin: &'a (dyn Any + Send + Sync)) -> Self {
        Self { origin: Some(origin), ..self }
    }

    /// What the sample was taken out of, where that is known.
    pub(crate) fn origin(&self) -> Option<&'a (dyn Any + Send + Sync)> {
        self.origin
    }

    /// The sample.
    #[must_use]
    pub fn sample(&self) -> &'a Sample {
        self.sample
    }

    pub(crate) fn present(&self) -> Result<(), ValueError> {
        match &self.sample.missed {
            Some(why) => Err(ValueError::Missed { why: why.clone() }),
            None => Ok(()),
        }
    }

    fn types_of(&self, map: &MapState) -> Result<&Types, ValueError> {
        let no = |why: String| ValueError::NoTypes { map: map.name.clone(), why };
        let id = map.btf.ok_or_else(|| no("it was created without BTF".into()))?;
        match self.types.iter().find(|(known, _)| *known == id) {
            Some((_, Ok(types))) => Ok(types),
            Some((_, Err(why))) => Err(no(why.to_string())),
            None => Err(no(BlobError::Absent.to_string())),
        }
    }

    /// The types of the program: those of the scheduler, or the only ones that there are.
    fn program(&self) -> Option<&Types> {
        let of_scheduler = |(id, types): &'_ &(BlobId, Result<Arc<Types>, BlobError>)| {
            self.schedulers.contains(id) && types.is_ok()
        };
        let only = || if self.types.len() == 1 { self.types.first() } else { None };
        let (_, types) = self.types.iter().find(of_scheduler).or_else(only)?;
        types.as_deref().ok()
    }

    /// The value of an enumerator of the scheduler's program, such as the index of a statistic.
    ///
    /// # Errors
    /// [`ValueError::NoEnumerator`], with names that begin alike.
    pub fn constant(&self, name: &str) -> Result<i128, ValueError> {
        Scope { program: self.program(), ..Scope::default() }.constant(plain(), name)
    }

    fn is_schedulers(&self, map: &MapState) -> bool {
        map.btf.is_some_and(|id| self.schedulers.contains(&id))
    }

    /// The maps that are data sections.
    fn sections(&self) -> Vec<Section<'_>> {
        let of = |map: &'a MapState| {
            let types = self.types_of(map).ok()?;
            let id = TypeId(map.value_type_id);
            let section = types.name(id).ok().filter(|_| types.kind(id) == Ok(Kind::Datasec))?;
            // `demo.bss` is the section `.bss` of the object `demo`; `.data.uei` has no object in its name.
            let object =
                map.name.split_once('.').map(|(object, _)| object).filter(|object| !object.is_empty());
            Some(Section { map, types, id, name: section.trim_start_matches('.'), object })
        };
        self.looked_into().filter_map(of).collect()
    }

    /// A variable of the scheduler's data sections, or a part of one: `nr_dispatched`, `ctr.nr[3]`.
    ///
    /// The name is looked for in every `.bss`, `.data`, `.rodata` and custom data section. Where several have it, the
    /// one of the object that registered a scheduler is meant; where that does not decide, the name has to be
    /// qualified: `bss.nr_dispatched`, `demo.bss.nr_dispatched`.
    ///
    /// # Errors
    /// [`ValueError::NoVariable`] with candidates, [`ValueError::AmbiguousVariable`] with the names to choose from,
    /// [`ValueError::Unread`] when the section was not read, [`ValueError::Missed`] for a placeholder, and those of
    /// [`Value::path`].
    pub fn var(&self, path: &(impl AsPath + ?Sized)) -> Result<Value<'_>, ValueError> {
        let path = &*path.steps()?;
        let (value, name, rest) = self.locate(path)?;
        value.walk(&name, rest, 0)
    }

    /// The variable that a path begins at, its name as a path has it, and the steps from there.
    ///
    /// # Errors
    /// As [`Snapshot::var`], those of the further steps excepted.
    pub(crate) fn locate<'p>(&self, path: &'p [Step]) -> Result<(Value<'_>, String, &'p [Step]), ValueError> {
        self.present()?;
        let sections = self.sections();
        let mut found = Vec::new();
        for section in &sections {
            let variables = section.types.variables(section.id)?;
            // The longest name that fits: names of variables may have dots.
            let hit = section
                .unqualified(path)
                .flat_map(|rest| {
                    variables
                        .iter()
                        .filter_map(move |variable| Some((variable, after_name(rest, variable.name)?)))
                })
                .max_by_key(|(variable, _)| variable.name.len());
            if let Some((variable, rest)) = hit {
                found.push((section, *variable, rest));
            }
        }
        if found.len() > 1 && found.iter().any(|(section, ..)| self.is_schedulers(section.map)) {
            found.retain(|(section, ..)| self.is_schedulers(section.map));
        }
        match found.as_slice() {
            [(section, variable, rest)] => {
                let bytes = section_bytes(section.map)?;
                let bytes = bytes.get(variable.offset as usize..).unwrap_or_default();
                let value = Value::new(section.types, variable.type_id, bytes)?;
                let scope = Scope { program: self.program(), ..Scope::default() };
                Ok((
                    value.declared_at(variable.id, None).within(scope),
                    Dotted(variable.name).to_string(),
                    *rest,
                ))
            }
            [] => Err(self.no_variable(path, &sections)),
            several => Err(ValueError::AmbiguousVariable {
                path: path_text(&"", path),
                qualified: several
                    .iter()
                    .map(|(section, variable, rest)| {
                        format!("{}{}", self.before(section.map.id), section.qualified(variable.name, rest))
                    })
                    .collect(),
            }),
        }
    }

    fn no_variable(&self, path: &[Step], sections: &[Section<'_>]) -> ValueError {
        let asked = match path {
            [Step::Field(name), ..] => name,
            _ => "",
        };
        let names = sections.iter().flat_map(|section| {
            let variables = section.types.variables(section.id).unwrap_or_default();
            variables.into_iter().filter(|variable| variable.type_id.0 != 0).map(|variable| variable.name)
        });
        let listed: Vec<&str> = sections.iter().map(|section| section.map.name.as_str()).collect();
        ValueError::NoVariable {
            path: path_text(&"", path),
            sections: if listed.is_empty() {
                "this sample, which has none".into()
            } else {
                listed.join(", ")
            },
            candidates: Box::new(Candidates::new(asked, names)),
        }
    }

    /// All variables of the data sections, by qualified name. Those that cannot be read are left out.
    #[must_use]
    pub fn vars(&self) -> Vec<(String, Value<'_>)> {
        let mut found = Vec::new();
        for section in self.sections() {
            let Ok(bytes) = section_bytes(section.map) else { continue };
            for variable in section.types.variables(section.id).unwrap_or_default() {
                let rest = bytes.get(variable.offset as usize..).unwrap_or_default();
                if let Ok(value) = Value::new(section.types, variable.type_id, rest) {
                    let name = format!(
                        "{}{}",
                        self.shown_before(section.map.id),
                        section.qualified(variable.name, &[])
                    );
                    found.push((name, value.declared_at(variable.id, None)));
                }
            }
        }
        found
    }

    /// A map by its name. A name that the kernel cut to 15 characters may be given whole.
    ///
    /// # Errors
    /// [`ValueError::NoMap`] with candidates, [`ValueError::AmbiguousMap`] with ids, [`ValueError::Missed`].
    pub fn map(&self, name: &str) -> Result<MapView<'_>, ValueError> {
        self.present()?;
        let kept = name.get(..MAP_NAME_BYTES).unwrap_or(name);
        let mut found: Vec<&MapState> =
            self.looked_into().filter(|map| map.name == name || map.name == kept).collect();
        if found.len() > 1 && found.iter().any(|map| self.is_schedulers(map)) {
            found.retain(|map| self.is_schedulers(map));
        }
        match found.as_slice() {
            [map] => Ok(self.view(map)),
            [] => Err(ValueError::NoMap {
                name: name.to_owned(),
                candidates: Box::new(Candidates::new(name, self.looked_into().map(|map| map.name.as_str()))),
            }),
            several => {
                let call = |map: &&MapState| format!("{}map({})", self.before(map.id), Dotted(&map.name));
                let paths: BTreeSet<String> = several.iter().map(call).collect();
                Err(ValueError::AmbiguousMap {
                    name: name.to_owned(),
                    ids: several.iter().map(|map| map.id).collect(),
                    paths: if paths.len() > 1 { paths.into_iter().collect() } else { Vec::new() },
                })
            }
        }
    }

    /// All maps, ascending by id.
    pub fn maps(&self) -> impl Iterator<Item = MapView<'_>> {
        self.looked_into().map(|map| self.view(map))
    }

    /// Whose a map is, by its id, where the guest has several schedulers: `qmap on /below`. `None` where that is not known, or there
    /// is one scheduler.
    #[must_use]
    pub fn scheduler_of(&self, map: u32) -> Option<String> {
        let words: Vec<String> = self.owners?.of(map).map(SchedulerMaps::in_words).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// What a map is called among those of all schedulers: `scheduler(/below).fifo0`, `fifo0` of the root.
    pub(crate) fn shown_name(&self, map: &MapState) -> String {
        format!("{}{}", self.shown_before(map.id), map.name)
    }

    /// The statistics that the scheduler served after this capture, or a part of them, by a path that begins with what it was
    /// asked for: `top.nr_migrations`, `top.nodes.0.cpus[1]`. Many schedulers tell what has changed since the answer before.
    ///
    /// # Errors
    /// [`ValueError::Stats`] with what is there instead, or why nothing is; [`ValueError::Missed`] for a placeholder.
    pub fn stats(&self, path: &(impl AsPath + ?Sized)) -> Result<StatsValue<'a>, ValueError> {
        let steps = path.steps()?;
        let path = StatsPath::of_steps(&steps).ok_or_else(|| ValueError::BadPath {
            path: path_text(&"", &steps),
            at: 1,
            why: "it begins with what the scheduler is asked for, as in `top.nr_migrations`".to_owned(),
        })?;
        self.stats_at(&path)
    }

    /// As [`Snapshot::stats`], by a path of a claim.
    pub(crate) fn stats_at(&self, path: &StatsPath) -> Result<StatsValue<'a>, ValueError> {
        self.present()?;
        Ok(self.stats.ok_or(StatsError::None)?.at(self.sample.index, path)?)
    }

    fn view<'s>(&'s self, map: &'s MapState) -> MapView<'s> {
        MapView::new(map, self.types_of(map), self.program())
    }
}

/// The one value of a data section's map.
fn section_bytes(map: &MapState) -> Result<&[u8], ValueError> {
    match &map.contents {
        MapContents::Array { values } => Ok(values),
        MapContents::Unread { why } => Err(ValueError::Unread { map: map.name.clone(), why: why.clone() }),
        _ => Err(ValueError::Unread { map: map.name.clone(), why: "it was not recorded as an array".into() }),
    }
}

/// A number, text or array, by its path.
pub(crate) type Leaf<'v> = (String, Value<'v>);

/// The leaves of each of these named values, a struct's members by `NAME.MEMBER`. At most 2000 in all.
pub(crate) fn leaves<'v>(values: impl IntoIterator<Item = Leaf<'v>>) -> Vec<Leaf<'v>> {
    let mut leaves = Vec::new();
    for (name, value) in values {
        flatten(name, value, 0, &mut leaves);
    }
    leaves
}

/// The leaves of a struct, or the value itself where it is none.
fn flatten<'v>(name: String, value: Value<'v>, depth: usize, leaves: &mut Vec<Leaf<'v>>) {
    if leaves.len() >= MAX_LEAVES {
        return;
    }
    let parts = value.parts().unwrap_or_default();
    // A union's members are the same bytes, and a nameless member has no path.
    let is_struct = value.types().resolve(value.type_id()).is_ok_and(|(id, _)| {
        value.types().kind(id) == Ok(Kind::Struct) && parts.iter().all(|(name, _)| !name.is_empty())
    });
    if !is_struct || depth >= LEAF_DEPTH || parts.is_empty() {
        leaves.push((name, value));
        return;
    }
    for (part, value) in parts {
        let path = path_text(&name, &[Step::Field(part.to_owned())]);
        flatten(path, value, depth + 1, leaves);
    }
}

/// The numbers, texts and arrays in the variables of a capture that can change.
pub(crate) fn changing<'v>(snapshot: &'v Snapshot<'_>) -> Vec<Leaf<'v>> {
    leaves(snapshot.vars().into_iter().filter(|(name, _)| !is_constant(name)))
}

/// `.rodata` does not change while the scheduler runs.
fn is_constant(name: &str) -> bool {
    name.split('.').take(2).any(|part| part == "rodata")
}
