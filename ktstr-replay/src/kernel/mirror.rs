//! Mirrors: kernel structs declared once, matched by name through BTF.
//!
//! A mirror names the fields that we need. Where they are, how wide they are and whether they are signed is the
//! kernel's own BTF's to say, so one declaration serves every kernel that has the fields:
//!
//! ```ignore
//! mirror! {
//!     /// `struct rq`.
//!     struct Rq, RqLayout = "rq" {
//!         nr_running: u64,
//!         // Another name on other kernels, the first that is there is taken:
//!         curr: KernelVirt = "curr" | "donor",
//!         // Not on every kernel: the reason in its place.
//!         scx_flags: Result<u64, FieldMissing> = "scx.flags",
//!         // The place of a field instead of its content.
//!         local: Result<At, FieldMissing> = "scx.local_dsq",
//!     }
//! }
//! ```
//!
//! A mandatory field that is missing makes the mirror unusable on that kernel, with an error that names struct, field
//! and kernel.

use btf_rs::Type;

use super::{FieldMissing, KernelError, KernelView, bytes};
use crate::btf::{BtfError, TypeId, Types};
use crate::units::KernelVirt;

/// A kernel struct that can be read.
pub trait Mirror: Sized + 'static {
    /// Where its fields are on one kernel.
    type Layout: Send + Sync + 'static;

    /// Find the fields in a kernel's types.
    ///
    /// # Errors
    /// [`KernelError::Field`], [`KernelError::Types`].
    fn layout(types: &Types, release: &str) -> Result<Self::Layout, KernelError>;

    /// Read the struct at `at`: one read that covers all fields.
    ///
    /// # Errors
    /// Those of [`VirtualMemory::read`](super::VirtualMemory::read).
    fn read(layout: &Self::Layout, view: &KernelView<'_>, at: KernelVirt) -> Result<Self, KernelError>;
}

/// Where one field is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldOffset {
    /// First byte, from the beginning of the struct.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// For bitfields: the first bit within those bytes, and the width.
    pub bits: Option<(u32, u32)>,
    /// The number in it is signed.
    pub signed: bool,
}

/// A type that a field of a mirror can have.
pub trait FieldType: Sized {
    /// What is kept of the field's place.
    type Place: Send + Sync + 'static;

    /// Whether the field's content is not read, only its place.
    const PLACE_ONLY: bool;

    /// Accept that the field was found or not.
    ///
    /// # Errors
    /// The [`FieldMissing`] given, for mandatory fields.
    fn place(found: Result<FieldOffset, FieldMissing>) -> Result<Self::Place, FieldMissing>;

    /// The offset, where there is one.
    fn offset(place: &Self::Place) -> Option<&FieldOffset>;

    /// Take the field out of `span`, which holds the struct's bytes from offset `first` on; `base` is where the
    /// struct is. `None` when the span is too short.
    fn take(place: &Self::Place, base: KernelVirt, span: &[u8], first: u64) -> Option<Self>;
}

/// The address of a field, for what is embedded or of variable length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At(pub KernelVirt);

/// The text of a character array, up to its NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

/// The bytes of a field out of a span.
fn content<'s>(field: &FieldOffset, span: &'s [u8], first: u64) -> Option<&'s [u8]> {
    let start = usize::try_from(field.offset.checked_sub(first)?).ok()?;
    span.get(start..start.checked_add(usize::try_from(field.bytes).ok()?)?)
}

/// The number in a field: sign-extended for signed fields, as two's complement.
pub(super) fn number(field: &FieldOffset, span: &[u8], first: u64) -> Option<u64> {
    let content = content(field, span, first)?;
    let mut word = [0u8; 8];
    word.get_mut(..content.len())?.copy_from_slice(content);
    let raw = u64::from_le_bytes(word);
    let (shift, width) = field.bits.unwrap_or((0, content.len() as u32 * 8));
    let unused = 64u32.checked_sub(width).filter(|&unused| unused < 64)?;
    let high = raw.checked_shr(shift)?.checked_shl(unused)?;
    Some(if field.signed { (high.cast_signed() >> unused).cast_unsigned() } else { high >> unused })
}

macro_rules! mandatory {
    ($place_only:literal) => {
        type Place = FieldOffset;
        const PLACE_ONLY: bool = $place_only;

        fn place(found: Result<FieldOffset, FieldMissing>) -> Result<FieldOffset, FieldMissing> {
            found
        }

        fn offset(place: &FieldOffset) -> Option<&FieldOffset> {
            Some(place)
        }
    };
}

impl FieldType for u64 {
    mandatory!(false);

    fn take(place: &FieldOffset, _: KernelVirt, span: &[u8], first: u64) -> Option<Self> {
        number(place, span, first)
    }
}

impl FieldType for i64 {
    mandatory!(false);

    fn take(place: &FieldOffset, _: KernelVirt, span: &[u8], first: u64) -> Option<Self> {
        number(place, span, first).map(u64::cast_signed)
    }
}

impl FieldType for u32 {
    mandatory!(false);

    /// The lower 32 bits.
    fn take(place: &FieldOffset, _: KernelVirt, span: &[u8], first: u64) -> Option<Self> {
        number(place, span, first).map(|wide| wide as u32)
    }
}

impl FieldType for KernelVirt {
    mandatory!(false);

    fn take(place: &FieldOffset, _: KernelVirt, span: &[u8], first: u64) -> Option<Self> {
        number(place, span, first).map(KernelVirt)
    }
}

impl FieldType for Text {
    mandatory!(false);

    fn take(place: &FieldOffset, _: KernelVirt, span: &[u8], first: u64) -> Option<Self> {
        content(place, span, first).map(|content| Text(bytes::text(content)))
    }
}

impl FieldType for At {
    mandatory!(true);

    fn take(place: &FieldOffset, base: KernelVirt, _: &[u8], _: u64) -> Option<Self> {
        Some(At(KernelVirt(base.0.wrapping_add(place.offset))))
    }
}

impl<T: FieldType<Place = FieldOffset>> FieldType for Result<T, FieldMissing> {
    type Place = Result<FieldOffset, FieldMissing>;
    const PLACE_ONLY: bool = T::PLACE_ONLY;

    fn place(found: Result<FieldOffset, FieldMissing>) -> Result<Self::Place, FieldMissing> {
        Ok(found)
    }

    fn offset(place: &Self::Place) -> Option<&FieldOffset> {
        place.as_ref().ok()
    }

    fn take(place: &Self::Place, base: KernelVirt, span: &[u8], first: u64) -> Option<Self> {
        match place {
            Ok(offset) => T::take(offset, base, span, first).map(Ok),
            Err(missing) => Some(Err(missing.clone())),
        }
    }
}

/// Find a field of a struct by the first of several paths that this kernel has.
///
/// # Errors
/// [`KernelError::Types`] when the struct is there but its types are damaged. A struct or field that is not there is
/// the inner error.
pub fn find_field(
    types: &Types,
    release: &str,
    struct_name: &str,
    paths: &[&str],
) -> Result<Result<FieldOffset, FieldMissing>, KernelError> {
    let missing = |why: &str| FieldMissing {
        struct_name: struct_name.to_owned(),
        fields: paths.iter().map(|&path| path.to_owned()).collect(),
        release: release.to_owned(),
        why: why.to_owned(),
    };
    let Ok(id) = types.struct_named(struct_name) else { return Ok(Err(missing("there is no such struct"))) };
    for path in paths {
        match types.field(id, path) {
            Ok(field) => return Ok(Ok(field_offset(types, field)?)),
            Err(BtfError::NoSuchField { .. } | BtfError::WrongKind { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Err(missing("")))
}

fn field_offset(types: &Types, field: crate::btf::Field) -> Result<FieldOffset, KernelError> {
    let (offset, type_id) = (field.offset_bits / 8, scalar_of(types, field.type_id)?);
    let signed = match types.resolve(type_id)?.1 {
        Type::Int(int) => int.is_signed(),
        Type::Enum(of) => of.is_signed(),
        Type::Enum64(of) => of.is_signed(),
        _ => false,
    };
    Ok(match field.width_bits {
        Some(width) => {
            let shift = (field.offset_bits % 8) as u32;
            FieldOffset {
                offset,
                bytes: u64::from(shift + width).div_ceil(8),
                bits: Some((shift, width)),
                signed,
            }
        }
        None => FieldOffset { offset, bytes: types.size_of(type_id)?, bits: None, signed },
    })
}

/// The number inside of wrappers such as `atomic_t`: structs with one member, that is all of them.
pub(super) fn scalar_of(types: &Types, mut id: TypeId) -> Result<TypeId, KernelError> {
    for _ in 0..8 {
        let Some([only]) = types.members(id)? else { break };
        let inner = Types::member_field(only).type_id;
        if types.size_of(inner)? != types.size_of(id)? {
            break;
        }
        id = inner;
    }
    Ok(id)
}

/// The bytes that cover all fields that are read, as (offset of the first, length). Wrong types cannot make it longer
/// than 64 KiB.
#[must_use]
pub(crate) fn span_of<'s>(fields: impl IntoIterator<Item = &'s FieldOffset>) -> (u64, usize) {
    let (mut first, mut end) = (u64::MAX, 0);
    for field in fields {
        first = first.min(field.offset);
        end = end.max(field.offset.saturating_add(field.bytes));
    }
    let len = end.saturating_sub(first).min(64 << 10);
    if len == 0 { (0, 0) } else { (first, len as usize) }
}

/// Declare a mirror; see the [module](self).
macro_rules! mirror {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident, $layout:ident = $kernel:literal {
            $( $(#[$field_meta:meta])* $field:ident : $type:ty $(= $first:literal $(| $other:literal)*)? ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        $vis struct $name {
            $( $(#[$field_meta])* pub $field: $type, )+
        }

        #[doc = concat!("Where the fields of [`", stringify!($name), "`] are on one kernel.")]
        $vis struct $layout {
            span: (u64, usize),
            $( $field: <$type as $crate::kernel::mirror::FieldType>::Place, )+
        }

        impl $crate::kernel::mirror::Mirror for $name {
            type Layout = $layout;

            fn layout(
                types: &$crate::btf::Types,
                release: &str,
            ) -> Result<$layout, $crate::kernel::KernelError> {
                use $crate::kernel::mirror::FieldType;
                let find = |paths: &[&str]| $crate::kernel::mirror::find_field(types, release, $kernel, paths);
                $(
                    let paths: &[&str] = $crate::kernel::mirror::mirror!(@paths $field $($first $(| $other)*)?);
                    let $field = <$type as FieldType>::place(find(paths)?)?;
                )+
                let read = [$(
                    <$type as FieldType>::offset(&$field).filter(|_| !<$type as FieldType>::PLACE_ONLY),
                )+];
                Ok($layout { span: $crate::kernel::mirror::span_of(read.into_iter().flatten()), $($field),+ })
            }

            fn read(
                layout: &$layout,
                view: &$crate::kernel::KernelView<'_>,
                at: $crate::units::KernelVirt,
            ) -> Result<Self, $crate::kernel::KernelError> {
                use $crate::kernel::mirror::FieldType;
                let (first, len) = layout.span;
                let span = view.bytes($crate::units::KernelVirt(at.0.wrapping_add(first)), len)?;
                let lost = || $crate::kernel::KernelError::Broken {
                    what: concat!("struct ", $kernel),
                    at,
                    why: "its types put a field where no field can be".to_owned(),
                };
                Ok(Self {
                    $( $field: <$type as FieldType>::take(&layout.$field, at, &span, first).ok_or_else(lost)?, )+
                })
            }
        }
    };
    (@paths $field:ident) => { &[stringify!($field)] };
    (@paths $field:ident $first:literal $(| $other:literal)*) => { &[$first $(, $other)*] };
}

pub(crate) use mirror;
