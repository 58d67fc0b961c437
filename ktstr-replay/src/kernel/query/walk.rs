//! From an object along a path to a number.

use std::fmt::Display;

use super::nodes::nodes;
use super::{QueryError, root};
use crate::btf::{Kind, TypeId, Types, plain, plain_number};
use crate::kernel::KernelView;
use crate::kernel::maps::ArenaPlace;
use crate::kernel::mirror::scalar_of;
use crate::kernel::proven::Proof;
use crate::path::{KernelPath, Step};
use crate::units::KernelVirt;
use crate::value::{Place, Scalar, Scope, Value};

/// Longest object that is read whole, in bytes.
const MAX_OBJECT_BYTES: u64 = 1 << 20;
/// First address of the kernel's half; below are those of processes, and of the arenas that they map.
const KERNEL_HALF: u64 = 1 << 63;

/// A number, and how wide it is where it was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// The number.
    pub scalar: Scalar,
    /// Its width in bits.
    pub bits: u32,
}

/// Where a walk begins.
#[derive(Clone, Copy)]
pub struct Start<'p> {
    /// What the value there is called; may be empty.
    pub root: &'p dyn Display,
    /// The steps from there.
    pub steps: &'p [Step],
}

/// A value on the way, and where in memory the object begins that it is a part of; `None` for what a sample holds.
#[derive(Clone, Copy)]
pub(super) struct Here<'v> {
    pub(super) value: Value<'v>,
    pub(super) object: Option<(KernelVirt, &'v [u8])>,
}

impl Here<'_> {
    /// Where the value itself is.
    pub(super) fn address(&self) -> Option<KernelVirt> {
        let (at, object) = self.object?;
        // Both are of the one slice that was read.
        let offset = (self.value.recorded().as_ptr() as usize).checked_sub(object.as_ptr() as usize)?;
        Some(KernelVirt(at.0.wrapping_add(offset as u64)))
    }
}

/// What is done at the end of a path.
pub(super) type Look<'l> = dyn FnMut(&Here<'_>, &dyn Fn() -> String) -> Result<(), QueryError> + 'l;

pub(super) fn no_end(root: &dyn Display) -> QueryError {
    QueryError::NotAPointer { path: root.to_string(), type_name: "path without an end".to_owned() }
}

/// The number at `path`, and its width.
///
/// # Errors
/// [`QueryError`]: what was asked for, how far it got and what is there instead.
pub fn number(view: &KernelView<'_>, path: &KernelPath) -> Result<Reading, QueryError> {
    let mut found = None;
    from_root(view, path, &mut |here, _| {
        found = Some(of_value(&here.value)?);
        Ok(())
    })?;
    found.ok_or_else(|| no_end(&path.root))
}

/// How many nodes the tree or list at `path` has.
///
/// # Errors
/// As [`number`].
pub fn count_at(view: &KernelView<'_>, path: &KernelPath) -> Result<usize, QueryError> {
    let mut found = None;
    from_root(view, path, &mut |here, name| {
        found = Some(count_of(view, &here.value, name)?);
        Ok(())
    })?;
    found.ok_or_else(|| no_end(&path.root))
}

/// The number that `start` leads to from `value`, which is of a program, out of a sample. What pointers point at is the kernel's:
/// its types decide, where they have a struct of that name.
///
/// # Errors
/// As [`number`].
pub fn follow(view: &KernelView<'_>, value: &Value<'_>, start: Start<'_>) -> Result<Reading, QueryError> {
    let mut found = None;
    from_value(view, value, start, &mut |here, _| {
        found = Some(of_value(&here.value)?);
        Ok(())
    })?;
    found.ok_or_else(|| no_end(start.root))
}

/// What `look` makes of the value that `start` leads to from `value`, as [`follow`] finds it.
///
/// # Errors
/// As [`number`].
pub fn at_end<R>(
    view: &KernelView<'_>,
    value: &Value<'_>,
    start: Start<'_>,
    mut look: impl FnMut(&Value<'_>) -> R,
) -> Result<R, QueryError> {
    let mut found = None;
    from_value(view, value, start, &mut |here, _| {
        found = Some(look(&here.value));
        Ok(())
    })?;
    found.ok_or_else(|| no_end(start.root))
}

/// How many nodes the tree or list has that `start` leads to from `value`.
///
/// # Errors
/// As [`number`].
pub fn count(view: &KernelView<'_>, value: &Value<'_>, start: Start<'_>) -> Result<usize, QueryError> {
    let mut found = None;
    from_value(view, value, start, &mut |here, name| {
        found = Some(count_of(view, &here.value, name)?);
        Ok(())
    })?;
    found.ok_or_else(|| no_end(start.root))
}

fn count_of(
    view: &KernelView<'_>,
    value: &Value<'_>,
    name: &dyn Fn() -> String,
) -> Result<usize, QueryError> {
    let not = || QueryError::NotCounted { path: name(), type_name: value.type_name() };
    Ok(nodes(view, value, &value.container().ok_or_else(not)?, name)?.at.len())
}

/// Give `look` the whole of what `pointer` points at, as [`follow`] finds it.
///
/// # Errors
/// As [`follow`].
pub fn pointee<R>(
    view: &KernelView<'_>,
    pointer: &Value<'_>,
    name: &str,
    look: impl FnOnce(&Value<'_>) -> R,
) -> Result<R, QueryError> {
    let name = || name.to_owned();
    let target = target(view, pointer, &name)?;
    if target.stars > 0 {
        return Err(QueryError::NotAPointer { path: name(), type_name: pointer.type_name() });
    }
    let (types, id) = kernels_own(view.types(), target.types, target.id)?;
    let object = object(view, types, (target.at, id), &name)?;
    Ok(look(&Value::new(types, id, &object)?.within(pointer.scope())))
}

/// Give `look` each node of a tree or list, in its order.
///
/// # Errors
/// As [`count`]; the node that cannot be read ends it.
pub fn each_node(
    view: &KernelView<'_>,
    value: &Value<'_>,
    name: &str,
    mut look: impl FnMut(KernelVirt, &Value<'_>),
) -> Result<(), QueryError> {
    let name = || name.to_owned();
    let not = || QueryError::NotCounted { path: name(), type_name: value.type_name() };
    let found = nodes(view, value, &value.container().ok_or_else(not)?, &name)?;
    for at in found.at {
        let object = object(view, value.types(), (at, found.id), &name)?;
        look(at, &Value::new(value.types(), found.id, &object)?.within(value.scope()));
    }
    Ok(())
}

/// The kernel's type of that name, or else the program's own. `___` and what follows it tells a program's forms of a
/// type apart (libbpf's flavours).
fn kernels_own<'t>(
    kernel: &'t Types,
    program: &'t Types,
    id: TypeId,
) -> Result<(&'t Types, TypeId), QueryError> {
    let (shape, _) = program.resolve(id)?;
    let name = program.name(shape)?;
    let name = name.split_once("___").map_or(name, |(name, _)| name);
    let found = match program.kind(shape)? {
        kind @ (Kind::Struct | Kind::Union) => kernel.find(kind, name),
        Kind::Fwd => kernel.struct_named(name).ok(),
        _ => None,
    };
    Ok(found.filter(|_| !name.is_empty()).map_or((program, shape), |id| (kernel, id)))
}

/// What a pointer points at: where, and which type of which types, with how many `*`.
struct Target<'t> {
    at: KernelVirt,
    types: &'t Types,
    id: TypeId,
    stars: usize,
}

/// Where a pointer that is called `name` points, and at what. A `void *` or a number points at what the programs prove.
fn target<'t>(
    view: &'t KernelView<'_>,
    pointer: &Value<'t>,
    name: &dyn Fn() -> String,
) -> Result<Target<'t>, QueryError> {
    let not = || QueryError::NotAPointer { path: name(), type_name: pointer.type_name() };
    let proof = proof_of(view, pointer);
    let at = match pointer.scalar() {
        Ok(Scalar::Pointer(at)) => at,
        Ok(Scalar::Int(number)) if proof.is_some() => u64::try_from(number).map_err(|_| not())?,
        _ => return Err(not()),
    };
    if at == 0 {
        return Err(QueryError::NullPointer { path: name() });
    }
    let (types, id, stars) = match proof {
        Some(proof) => (proof.types(), proof.struct_id(), 0),
        None => {
            let (id, stars) = pointer.target()?.ok_or_else(not)?;
            (pointer.types(), id, stars)
        }
    };
    Ok(Target { at: place_of(view, at, name)?, types, id, stars })
}

/// What the programs prove of a word of a map's value whose own type does not say what it points at: a `void *`, or a number that is as
/// wide as an address.
pub(crate) fn proof_of<'v>(view: &'v KernelView<'_>, word: &Value<'_>) -> Option<&'v Proof> {
    let (map, offset) = word.place_in_map()?;
    let is_open = match word.kind().ok()? {
        Kind::Ptr => {
            let (target, stars) = word.target().ok()??;
            stars == 0
                && word.types().resolve(target).is_ok_and(|(id, _)| word.types().kind(id) == Ok(Kind::Void))
        }
        Kind::Int => word.bitfield().is_none() && word.width_bits() == 64,
        _ => false,
    };
    if !is_open {
        return None;
    }
    view.proven().ok()?.at(map, offset)
}

/// Where the kernel has the byte that a pointer of its own or into an arena points at.
fn place_of(view: &KernelView<'_>, at: u64, name: &dyn Fn() -> String) -> Result<KernelVirt, QueryError> {
    if at >= KERNEL_HALF {
        return Ok(KernelVirt(at));
    }
    let inside = |arena: &ArenaPlace| Some((arena.name.clone(), arena.kernel_address(at)?));
    let arenas: Vec<_> = view.arenas()?.iter().filter_map(inside).collect();
    match *arenas.as_slice() {
        [(_, at)] => Ok(at),
        [] => Err(QueryError::UserAddress { path: name(), at }),
        _ => {
            let arenas = arenas.into_iter().map(|(name, _)| name).collect();
            Err(QueryError::SeveralArenas { path: name(), at, arenas })
        }
    }
}

/// The bytes of an object that is called `name`.
fn object(
    view: &KernelView<'_>,
    types: &Types,
    (at, id): (KernelVirt, TypeId),
    name: &dyn Fn() -> String,
) -> Result<Vec<u8>, QueryError> {
    let bytes = types.size_of(id)?;
    if bytes > MAX_OBJECT_BYTES {
        return Err(QueryError::TooLong { path: name(), at, bytes });
    }
    Ok(view.bytes(at, bytes as usize)?)
}

/// Walk `path` from the kernel's object that it begins at.
pub(super) fn from_root(
    view: &KernelView<'_>,
    path: &KernelPath,
    look: &mut Look<'_>,
) -> Result<(), QueryError> {
    let (at, of) = root::find(view, &path.root)?;
    let way = Place { root: &path.root, steps: path.rest.steps(), done: 0 };
    let scope = Scope { kernel: Some(view.types()), ..Scope::default() };
    if of.stars == 0 {
        return at_object(view, view.types(), (at, of.id), scope, way, look);
    }
    if matches!(way.steps.first(), Some(Step::Field(_) | Step::Index(_) | Step::Named(_))) {
        return Err(QueryError::IsAPointer { path: way.upto() });
    }
    let pointer = view.bytes(at, 8)?;
    let unsigned = plain_number(8).unwrap_or_default();
    let value = Value::new(plain(), unsigned, &pointer)?.within(scope);
    let value = value.pointer_to(view.types(), of.id, of.stars, value.as_u64()?);
    along(view, Here { value, object: None }, way, look)
}

/// Walk from a value of a sample.
fn from_value(
    view: &KernelView<'_>,
    value: &Value<'_>,
    start: Start<'_>,
    look: &mut Look<'_>,
) -> Result<(), QueryError> {
    let scope = Scope { kernel: Some(view.types()), ..value.scope() };
    let here = Here { value: value.within(scope), object: None };
    along(view, here, Place { root: start.root, steps: start.steps, done: 0 }, look)
}

/// Read the object at `at` whole, and go on from there.
fn at_object(
    view: &KernelView<'_>,
    types: &Types,
    (at, id): (KernelVirt, TypeId),
    scope: Scope<'_>,
    way: Place<'_>,
    look: &mut Look<'_>,
) -> Result<(), QueryError> {
    let object = object(view, types, (at, id), &|| way.upto())?;
    let value = Value::new(types, id, &object)?.within(scope);
    along(view, Here { value, object: Some((at, &object)) }, way, look)
}

/// Take the steps that are left: up to the next `->` they are parts of one object, and then of what is pointed at. Each object
/// takes room on the stack, and a path has no more than its text has arrows.
pub(super) fn along(
    view: &KernelView<'_>,
    mut here: Here<'_>,
    mut way: Place<'_>,
    look: &mut Look<'_>,
) -> Result<(), QueryError> {
    while let Some(step) = way.steps.get(way.done) {
        let next = Place { done: way.done + 1, ..way };
        let name = || way.upto();
        match (step, here.value.container()) {
            (Step::Deref, _) => {
                let Target { at, types, id, stars } = target(view, &here.value, &name)?;
                if stars > 0 {
                    let value = here.value.pointer_to(types, id, stars, view.u64(at)?);
                    return along(view, Here { value, object: None }, next, look);
                }
                let (types, id) = kernels_own(view.types(), types, id)?;
                return at_object(view, types, (at, id), here.value.scope(), next, look);
            }
            (Step::Index(index), Some(container)) => {
                let found = nodes(view, &here.value, &container, &name)?;
                let at = usize::try_from(*index).ok().and_then(|index| found.at.get(index));
                let at = *at.ok_or_else(|| QueryError::NoNode {
                    path: name(),
                    what: container.describe(),
                    len: found.at.len(),
                    index: *index,
                })?;
                return at_object(view, here.value.types(), (at, found.id), here.value.scope(), next, look);
            }
            (Step::Cast(words), _) if words.ends_with('*') && here.value.scalar().is_err() => {
                let type_name = here.value.type_name();
                let at = here.address().ok_or_else(|| QueryError::NoAddress { path: name(), type_name })?;
                let unsigned = here.value.pointer_to(here.value.types(), TypeId(0), 1, at.0);
                here = Here { value: unsigned.step(way)?, object: None };
            }
            _ => here.value = here.value.step(way)?,
        }
        way = next;
    }
    look(&here, &|| way.upto())
}

/// The number of a value, also of a struct whose only member is one: `atomic_t`, `refcount_t`.
pub(crate) fn of_value(value: &Value<'_>) -> Result<Reading, QueryError> {
    let plain = value.scalar();
    let reading = |value: &Value<'_>, scalar| Reading { scalar, bits: value.width_bits() };
    match plain {
        Ok(scalar) => Ok(reading(value, scalar)),
        Err(error) => {
            let inner = scalar_of(value.types(), value.type_id())?;
            if inner == value.type_id() {
                return Err(error.into());
            }
            let inner = Value::new(value.types(), inner, value.recorded())?;
            inner.scalar().map(|scalar| reading(&inner, scalar)).map_err(|_| error.into())
        }
    }
}
