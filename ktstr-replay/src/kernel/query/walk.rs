//! From an object along a path to a number.

use super::types::CType;
use super::{QueryError, root};
use crate::btf::{Kind, TypeId, Types};
use crate::kernel::KernelView;
use crate::kernel::maps::ArenaPlace;
use crate::kernel::mirror::scalar_of;
use crate::path::KernelPath;
use crate::units::KernelVirt;
use crate::value::{Scalar, Value};

/// Longest object that is read whole, in bytes.
const MAX_OBJECT_BYTES: u64 = 1 << 20;
/// First address of the kernel's half; below are those of processes, and of the arenas that they map.
const KERNEL_HALF: u64 = 1 << 63;

/// The number at `path`.
///
/// # Errors
/// [`QueryError`]: what was asked for, how far it got and what is there instead.
pub fn number(view: &KernelView<'_>, path: &KernelPath) -> Result<Scalar, QueryError> {
    let (at, of) = root::find(view, &path.root)?;
    let name = path.root.to_string();
    let mut segments = path.rest.split("->");
    let first = segments.next().unwrap_or_default();
    if of.stars == 0 {
        return walk(view, view.types(), (at, of.id), name, first, segments);
    }
    if !first.is_empty() {
        return Err(QueryError::IsAPointer { path: name });
    }
    let pointer = view.pointer(at)?;
    let Some(next) = segments.next() else { return Ok(Scalar::Pointer(pointer.map_or(0, |at| at.0))) };
    let at = pointer.ok_or_else(|| QueryError::NullPointer { path: name.clone() })?;
    match of {
        CType { id, stars: 1 } => walk(view, view.types(), (at, id), name + "->", next, segments),
        _ => Err(QueryError::NotAPointer { path: name + "->", type_name: "pointer to a pointer".to_owned() }),
    }
}

/// The number at `rest`, which begins behind a `->`, of what `pointer` points at: a pointer in a scheduler's own
/// memory, called `name`. What it points at is the kernel's: its types decide, where they have a struct of that name.
///
/// # Errors
/// As [`number`].
pub fn follow(
    view: &KernelView<'_>,
    pointer: &Value<'_>,
    name: &str,
    rest: &str,
) -> Result<Scalar, QueryError> {
    let (at, target) = target(view, pointer, name)?;
    let mut segments = rest.split("->");
    let first = segments.next().unwrap_or_default();
    let (types, id) = kernels_own(view.types(), pointer.types(), target)?;
    walk(view, types, (at, id), format!("{name}->"), first, segments)
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
    let (at, target) = target(view, pointer, name)?;
    let (types, id) = kernels_own(view.types(), pointer.types(), target)?;
    let object = object(view, types, (at, id), name)?;
    Ok(look(&Value::new(types, id, &object)?))
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

/// Where a pointer points, and at what type.
fn target(
    view: &KernelView<'_>,
    pointer: &Value<'_>,
    name: &str,
) -> Result<(KernelVirt, TypeId), QueryError> {
    let not = || QueryError::NotAPointer { path: name.to_owned(), type_name: pointer.type_name() };
    let Ok(Scalar::Pointer(at)) = pointer.scalar() else { return Err(not()) };
    if at == 0 {
        return Err(QueryError::NullPointer { path: name.to_owned() });
    }
    let id = pointer.types().target_of(pointer.type_id())?.ok_or_else(not)?;
    if at >= KERNEL_HALF {
        return Ok((KernelVirt(at), id));
    }
    let inside = |arena: &ArenaPlace| Some((arena.name.clone(), arena.kernel_address(at)?));
    let arenas: Vec<_> = view.arenas()?.iter().filter_map(inside).collect();
    match *arenas.as_slice() {
        [(_, at)] => Ok((at, id)),
        [] => Err(QueryError::UserAddress { path: name.to_owned(), at }),
        _ => {
            let arenas = arenas.into_iter().map(|(name, _)| name).collect();
            Err(QueryError::SeveralArenas { path: name.to_owned(), at, arenas })
        }
    }
}

/// The bytes of an object that is called `name`.
fn object(
    view: &KernelView<'_>,
    types: &Types,
    (at, id): (KernelVirt, TypeId),
    name: &str,
) -> Result<Vec<u8>, QueryError> {
    let bytes = types.size_of(id)?;
    if bytes > MAX_OBJECT_BYTES {
        return Err(QueryError::TooLong { path: name.to_owned(), at, bytes });
    }
    Ok(view.bytes(at, bytes as usize)?)
}

/// Take `segment` of the object called `name`, and the others each of what the one before points at.
fn walk<'p>(
    view: &KernelView<'_>,
    types: &Types,
    (mut at, mut id): (KernelVirt, TypeId),
    mut name: String,
    mut segment: &'p str,
    mut others: impl Iterator<Item = &'p str>,
) -> Result<Scalar, QueryError> {
    loop {
        let object = object(view, types, (at, id), &name)?;
        let value = Value::new(types, id, &object)?.path_below(&name, segment)?;
        name.push_str(segment);
        let Some(next) = others.next() else { return scalar(&value) };
        (at, id) = target(view, &value, &name)?;
        name.push_str("->");
        segment = next;
    }
}

/// The number of a value, also where a struct is nothing but one: `atomic_t`, `refcount_t`.
fn scalar(value: &Value<'_>) -> Result<Scalar, QueryError> {
    let plain = value.scalar();
    let inner = scalar_of(value.types(), value.type_id())?;
    if plain.is_ok() || inner == value.type_id() {
        return Ok(plain?);
    }
    Ok(Value::new(value.types(), inner, value.bytes())?.scalar().or(plain)?)
}
