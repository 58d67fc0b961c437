//! From an object along a path to a number.

use std::fmt::Display;

use super::types::CType;
use super::{QueryError, root};
use crate::btf::{Kind, TypeId, Types};
use crate::kernel::KernelView;
use crate::kernel::maps::ArenaPlace;
use crate::kernel::mirror::scalar_of;
use crate::path::{FieldPath, KernelPath, Step, path_text, until_pointer};
use crate::units::KernelVirt;
use crate::value::{Scalar, Value};

/// Longest object that is read whole, in bytes.
const MAX_OBJECT_BYTES: u64 = 1 << 20;
/// First address of the kernel's half; below are those of processes, and of the arenas that they map.
const KERNEL_HALF: u64 = 1 << 63;

/// Where a path begins and its steps, to name how far a walk has come.
#[derive(Clone, Copy)]
struct Way<'p> {
    root: &'p dyn Display,
    steps: &'p [Step],
}

impl<'p> Way<'p> {
    /// The text of the path up to `done` steps.
    fn text(self, done: usize) -> String {
        path_text(self.root, self.upto(done))
    }

    fn upto(self, done: usize) -> &'p [Step] {
        self.steps.get(..done).unwrap_or(self.steps)
    }
}

/// The number at `path`.
///
/// # Errors
/// [`QueryError`]: what was asked for, how far it got and what is there instead.
pub fn number(view: &KernelView<'_>, path: &KernelPath) -> Result<Scalar, QueryError> {
    let (at, of) = root::find(view, &path.root)?;
    let way = Way { root: &path.root, steps: path.rest.steps() };
    if of.stars == 0 {
        return walk(view, view.types(), (at, of.id), way, 0);
    }
    if way.steps.first().is_some_and(|step| *step != Step::Deref) {
        return Err(QueryError::IsAPointer { path: way.text(0) });
    }
    let pointer = view.pointer(at)?;
    if way.steps.is_empty() {
        return Ok(Scalar::Pointer(pointer.map_or(0, |at| at.0)));
    }
    let at = pointer.ok_or_else(|| QueryError::NullPointer { path: way.text(0) })?;
    match of {
        CType { id, stars: 1 } => walk(view, view.types(), (at, id), way, 1),
        _ => {
            let type_name = "pointer to a pointer".to_owned();
            Err(QueryError::NotAPointer { path: way.text(1), type_name })
        }
    }
}

/// The number at `path`, whose steps before its first `->` lead to `pointer`: a pointer in a scheduler's own memory.
/// What it points at is the kernel's: its types decide, where they have a struct of that name.
///
/// # Errors
/// As [`number`].
pub fn follow(view: &KernelView<'_>, pointer: &Value<'_>, path: &FieldPath) -> Result<Scalar, QueryError> {
    let way = Way { root: &"", steps: path.steps() };
    let at_pointer = until_pointer(way.steps);
    let (at, target) = target(view, pointer, &|| way.text(at_pointer))?;
    let (types, id) = kernels_own(view.types(), pointer.types(), target)?;
    walk(view, types, (at, id), way, at_pointer + 1)
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
    let (at, target) = target(view, pointer, &name)?;
    let (types, id) = kernels_own(view.types(), pointer.types(), target)?;
    let object = object(view, types, (at, id), &name)?;
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

/// Where a pointer that is called `name` points, and at what type.
fn target(
    view: &KernelView<'_>,
    pointer: &Value<'_>,
    name: &dyn Fn() -> String,
) -> Result<(KernelVirt, TypeId), QueryError> {
    let not = || QueryError::NotAPointer { path: name(), type_name: pointer.type_name() };
    let Ok(Scalar::Pointer(at)) = pointer.scalar() else { return Err(not()) };
    if at == 0 {
        return Err(QueryError::NullPointer { path: name() });
    }
    let id = pointer.types().target_of(pointer.type_id())?.ok_or_else(not)?;
    if at >= KERNEL_HALF {
        return Ok((KernelVirt(at), id));
    }
    let inside = |arena: &ArenaPlace| Some((arena.name.clone(), arena.kernel_address(at)?));
    let arenas: Vec<_> = view.arenas()?.iter().filter_map(inside).collect();
    match *arenas.as_slice() {
        [(_, at)] => Ok((at, id)),
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

/// Take the steps from `from` on, of the object that those before lead to: up to the next `->` they are parts of it, and
/// then of what is pointed at.
fn walk(
    view: &KernelView<'_>,
    types: &Types,
    (mut at, mut id): (KernelVirt, TypeId),
    way: Way<'_>,
    mut from: usize,
) -> Result<Scalar, QueryError> {
    loop {
        let object = object(view, types, (at, id), &|| way.text(from))?;
        let end = from + until_pointer(way.steps.get(from..).unwrap_or_default());
        let value = Value::new(types, id, &object)?.walk(way.root, way.upto(end), from)?;
        if end >= way.steps.len() {
            return scalar(&value);
        }
        (at, id) = target(view, &value, &|| way.text(end))?;
        from = end + 1;
    }
}

/// The number of a value, also of a struct whose only member is one: `atomic_t`, `refcount_t`.
fn scalar(value: &Value<'_>) -> Result<Scalar, QueryError> {
    let plain = value.scalar();
    let inner = scalar_of(value.types(), value.type_id())?;
    if plain.is_ok() || inner == value.type_id() {
        return Ok(plain?);
    }
    Ok(Value::new(value.types(), inner, value.bytes())?.scalar().or(plain)?)
}
