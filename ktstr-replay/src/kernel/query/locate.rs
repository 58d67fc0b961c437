//! Where in the kernel's memory a number is that a path names, so that it can be watched.

use std::collections::HashMap;
use std::sync::Arc;

use super::root;
use super::walk::{Here, along, from_root, no_end, of_value};
use super::{QueryError, Reading};
use crate::btf::Types;
use crate::kernel::KernelView;
use crate::kernel::maps::{MapCaps, MapReader, array_values};
use crate::kernel::scx::{SchedulerObjects, owners_now, read_scx};
use crate::path::{FieldPath, KernelPath, Step};
use crate::trace::record::{BlobId, CaptureKind, MapContents, Sample};
use crate::units::{GuestNs, HostNs, KernelVirt};
use crate::value::snapshot::{BlobError, Blobs};
use crate::value::{MapOwners, Place, Scalar, Scope, Snapshot, Value};

/// Most parts of a struct that are named.
const NAMED: usize = 8;

/// A number in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// Its first byte.
    pub at: KernelVirt,
    /// Its size in bytes: 1, 2, 4 or 8.
    pub bytes: u32,
    /// It can be negative.
    pub signed: bool,
}

impl Located {
    /// The number that these bytes are, least significant first.
    #[must_use]
    pub fn number(&self, bytes: &[u8]) -> i128 {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(bytes) {
            *to = *from;
        }
        let bits = self.bytes.clamp(1, 8) * 8;
        let value = i128::from(u64::from_le_bytes(word));
        let negative = self.signed && value >> (bits - 1) & 1 == 1;
        if negative { value - (1 << bits) } else { value }
    }

    /// The number now.
    ///
    /// # Errors
    /// [`QueryError::Kernel`] when it cannot be read.
    pub fn read(&self, view: &KernelView<'_>) -> Result<i128, QueryError> {
        Ok(self.number(&view.bytes(self.at, self.bytes as usize)?))
    }

    /// Whether it has a byte of the `bytes` at `at`.
    #[must_use]
    pub fn overlaps(&self, at: KernelVirt, bytes: u32) -> bool {
        self.at.0 < at.0.saturating_add(u64::from(bytes))
            && at.0 < self.at.0.saturating_add(u64::from(self.bytes))
    }
}

/// Where the number at `path` is.
///
/// # Errors
/// [`QueryError`]: those of a number that cannot be had, [`QueryError::Unwatchable`] for what is no number of its own.
pub fn locate(view: &KernelView<'_>, path: &KernelPath) -> Result<Located, QueryError> {
    let (at, of) = root::find(view, &path.root)?;
    if of.stars > 0 && path.rest.steps().is_empty() {
        return Ok(Located { at, bytes: 8, signed: false });
    }
    let mut found = None;
    from_root(view, path, &mut |here, name| {
        found = Some(of_here(here, name)?);
        Ok(())
    })?;
    found.ok_or_else(|| no_end(&path.root))
}

/// The pointers that a walk along `path` follows, outermost first: when one of them changes, the number is elsewhere.
#[must_use]
pub fn pointers_of(path: &KernelPath) -> Vec<KernelPath> {
    let of_root = |rest| KernelPath { root: path.root.clone(), rest };
    pointers_in(&path.rest).into_iter().map(of_root).collect()
}

/// The same of a variable.
#[must_use]
pub fn pointers_in(path: &FieldPath) -> Vec<FieldPath> {
    let steps = path.steps();
    let upto = |(nth, step): (usize, &Step)| {
        (*step == Step::Deref).then(|| steps[..nth].iter().cloned().collect::<FieldPath>())
    };
    steps.iter().enumerate().filter_map(upto).collect()
}

/// The types of the maps that are there now.
struct Now(HashMap<BlobId, Result<Arc<Types>, BlobError>>);

impl Blobs for Now {
    fn types(&self, id: &BlobId) -> Result<Arc<Types>, BlobError> {
        self.0.get(id).cloned().unwrap_or(Err(BlobError::Absent))
    }
}

/// Where a variable of the scheduler is, as [`locate_variable`] finds it, and what is stored to when the scheduler that it is of has
/// ended: none where the kernel does not say which that is.
///
/// # Errors
/// Those of [`locate_variable`].
pub(crate) fn locate_with_end(
    view: &KernelView<'_>,
    of: Option<&str>,
    path: &FieldPath,
) -> Result<(Located, Vec<Located>), QueryError> {
    let (found, object) = variable(view, of, path)?;
    let objects = SchedulerObjects::read(view)?;
    let held = objects.held_by(object).map(|at| Located { at, bytes: 8, signed: false });
    Ok((found, held.collect()))
}

/// Where a variable of the scheduler's data sections is, or a part of it, or what it points at. `of`: which scheduler's, where there
/// are several, as [`Snapshot::of_scheduler`] names it.
///
/// # Errors
/// As [`locate`]; [`QueryError::NoScheduler`] when nothing but an object has it whose scheduler is not there;
/// [`QueryError::Value`] when there is no such variable or scheduler, with candidates.
pub fn locate_variable(
    view: &KernelView<'_>,
    of: Option<&str>,
    path: &FieldPath,
) -> Result<Located, QueryError> {
    variable(view, of, path).map(|(found, _)| found)
}

/// The variable, and the `struct btf` of the object whose map it is in.
fn variable(
    view: &KernelView<'_>,
    of: Option<&str>,
    path: &FieldPath,
) -> Result<(Located, KernelVirt), QueryError> {
    let mut read = MapReader::new(MapCaps::default()).read(view)?;
    let owners = MapOwners::new(owners_now(view, &read, &mut Vec::new()));
    // For the name of the only scheduler alone: without it a variable is found all the same.
    let scx = read_scx(view, &read, &mut Vec::new()).unwrap_or_default();
    let types = read.blobs.into_iter();
    let types = types.map(|blob| (blob.id, Types::parse(blob.bytes).map(Arc::new).map_err(BlobError::from)));
    let types = Now(types.collect());
    // The maps of a scheduler that has ended are there as long as its loader is, and then their memory is another's.
    let objects = SchedulerObjects::read(view)?;
    let idle: Vec<bool> = read.places.iter().map(|place| objects.is_idle(place.map.btf)).collect();
    let mut sample = Sample::new(0, "", CaptureKind::OnDemand, GuestNs(0), HostNs(0));
    (sample.maps, sample.scx) = (read.maps, scx);
    if of.is_none() && idle.contains(&true) {
        let all = sample.clone();
        let is_live = |nth: usize| !idle.get(nth).copied().unwrap_or_default();
        let (mut of_map, mut of_place) = (0.., 0..);
        sample.maps.retain(|_| of_map.next().is_some_and(is_live));
        read.places.retain(|_| of_place.next().is_some_and(is_live));
        if let Err(error) = Snapshot::new(&sample, &types).locate(path.steps()) {
            let was = Snapshot::new(&all, &types).locate(path.steps()).is_ok();
            return Err(if was { QueryError::NoScheduler { path: path.to_string() } } else { error.into() });
        }
    }
    let mut snapshot = Snapshot::new(&sample, &types).with_owners(&owners);
    if let Some(name) = of {
        snapshot = snapshot.of_scheduler(name)?;
    }
    let (value, name, rest) = snapshot.locate(path.steps())?;
    // The variable lies in what was read of one map.
    let within = |contents: &MapContents| match contents {
        MapContents::Array { values } => values.as_ptr_range().contains(&value.recorded().as_ptr()),
        _ => false,
    };
    let section = sample.maps.iter().zip(&read.places).find(|(map, _)| within(&map.contents));
    let Some((MapContents::Array { values }, place)) = section.map(|(map, place)| (&map.contents, place))
    else {
        return Err(unwatchable(&name, "it is in no map that could be read"));
    };
    let begin = array_values(view, place.at)?;
    let scope = Scope { kernel: Some(view.types()), ..value.scope() };
    let here = Here { value: value.within(scope), object: Some((begin, values)) };
    let mut found = None;
    along(view, here, Place { root: &name, steps: rest, done: 0 }, &mut |here, name| {
        found = Some(of_here(here, name)?);
        Ok(())
    })?;
    Ok((found.ok_or_else(|| no_end(&name))?, place.map.btf))
}

fn unwatchable(path: &str, why: impl Into<String>) -> QueryError {
    QueryError::Unwatchable { path: path.to_owned(), why: why.into() }
}

/// The number of a value that is somewhere.
fn of_here(here: &Here<'_>, name: &dyn Fn() -> String) -> Result<Located, QueryError> {
    let path = name();
    let Reading { scalar, bits } = match of_value(&here.value) {
        Ok(reading) => reading,
        Err(error) => return Err(no_number(&here.value, &path).unwrap_or(error)),
    };
    let at = here.address().ok_or_else(|| unwatchable(&path, "nothing says where it is"))?;
    let bytes = bits / 8;
    if !matches!(bits, 8 | 16 | 32 | 64) || u64::from(bytes) > here.value.recorded().len() as u64 {
        return Err(unwatchable(
            &path,
            format!("it is {bits} bits of a larger number, which stores do not hit alone"),
        ));
    }
    if matches!(scalar, Scalar::Float(_)) {
        return Err(unwatchable(&path, "it is a floating-point number"));
    }
    if !at.0.is_multiple_of(u64::from(bytes)) {
        return Err(unwatchable(&path, format!("its {bytes} bytes at {at} are not aligned to their size")));
    }
    Ok(Located { at, bytes, signed: is_signed(&here.value) })
}

/// Whether the number is negative where its highest bit is set.
fn is_signed(value: &Value<'_>) -> bool {
    let ones = [0xff; 16];
    let kind = crate::kernel::mirror::scalar_of(value.types(), value.type_id()).unwrap_or(value.type_id());
    if value.target().ok().flatten().is_some() {
        return false;
    }
    let number = Value::new(value.types(), kind, &ones).and_then(|value| value.scalar());
    matches!(number, Ok(Scalar::Int(number)) if number < 0)
}

/// What is no number of its own has members or elements that can be.
fn no_number(value: &Value<'_>, path: &str) -> Option<QueryError> {
    let (kind, bytes) = (value.type_name(), value.recorded().len());
    let parts = match (value.parts(), value.as_array()) {
        (Ok(parts), _) => {
            let all = parts.len();
            let names = parts.into_iter().map(|(name, _)| name).filter(|name| !name.is_empty());
            let names: Vec<&str> = names.take(NAMED).collect();
            format!("parts, {}{}", names.join(", "), if all > names.len() { ", .." } else { "" })
        }
        (_, Ok(_)) => format!("elements, as `{path}[0]`"),
        _ => return None,
    };
    Some(unwatchable(path, format!("it is a `{kind}` of {bytes} bytes: watch one of its {parts}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::query::tests::path;

    #[test]
    fn a_path_follows_the_pointers_before_its_arrows() {
        let pointers = |text| pointers_of(&path(text)).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            pointers("kernel.scx_root->exit_info->kind"),
            ["kernel.scx_root", "kernel.scx_root->exit_info"]
        );
        assert_eq!(pointers("kernel.jiffies_64"), Vec::<String>::new());
        let variable: FieldPath = "demo.bss.task_ctx->next->vtime".parse().expect("a path");
        let pointers: Vec<String> = pointers_in(&variable).iter().map(ToString::to_string).collect();
        assert_eq!(pointers, ["demo.bss.task_ctx", "demo.bss.task_ctx->next"]);
    }

    #[test]
    fn numbers_have_the_sign_of_their_type() {
        let number = |bytes, signed, of: &[u8]| Located { at: KernelVirt(0), bytes, signed }.number(of);
        assert_eq!(number(4, true, &[0xfe, 0xff, 0xff, 0xff]), -2);
        assert_eq!(number(4, false, &[0xfe, 0xff, 0xff, 0xff]), 0xffff_fffe);
        assert_eq!(number(8, false, &[0xff; 8]), i128::from(u64::MAX));
        assert_eq!(number(8, true, &[0xff; 8]), -1);
        assert_eq!(number(1, true, &[0x7f]), 127);
    }

    #[test]
    fn what_shares_a_byte_overlaps() {
        let one = Located { at: KernelVirt(16), bytes: 8, signed: false };
        assert!(one.overlaps(KernelVirt(23), 1) && one.overlaps(KernelVirt(8), 9));
        assert!(!one.overlaps(KernelVirt(24), 8) && !one.overlaps(KernelVirt(8), 8));
    }
}
