//! Where the fields of `struct page` are, and the numbers that are in them.

use crate::btf::{Kind, Types};
use crate::kernel::mirror::{Slot, find_slot, mirror};
use crate::kernel::{FieldMissing, KernelError};
use crate::units::KernelVirt;

mirror! {
    /// `struct address_space`.
    pub(super) struct AddressSpace, AddressSpaceLayout = "address_space" {
        host: KernelVirt,
    }
}

mirror! {
    /// `struct inode`.
    pub(super) struct Inode, InodeLayout = "inode" {
        i_mapping: KernelVirt,
        i_data: crate::kernel::mirror::At,
    }
}

mirror! {
    /// `struct anon_vma`.
    pub(super) struct AnonVma, AnonVmaLayout = "anon_vma" {
        root: KernelVirt,
    }
}

/// Where the parts of a `struct page` are that tell what the page is, in bytes from its beginning.
#[derive(Clone, Debug)]
pub(super) struct PageStruct {
    /// Length of the struct.
    pub(super) bytes: usize,
    pub(super) flags: usize,
    pub(super) page_type: usize,
    pub(super) mapping: usize,
    pub(super) private: usize,
    /// Of a large folio: the flags of its second page, whose low byte is the order. From the head's beginning.
    pub(super) folio_order: usize,
    pub(super) refcount: usize,
    /// The links of a page on a list of a CPU.
    pub(super) list: usize,
    /// `MIGRATE_PCPTYPES`: lists that a CPU has for each order.
    pub(super) pcp_types: u64,
    /// `1 << PG_head`.
    pub(super) head: u64,
    /// `1 << PG_reserved`.
    pub(super) reserved: u64,
    /// `PGTY_buddy`: the highest byte of the type of a page that begins a free block.
    pub(super) buddy: u8,
}

impl PageStruct {
    /// # Errors
    /// [`KernelError::Field`] when this kernel's pages say what they are in another way, as before Linux 6.12.
    pub(super) fn find(types: &Types, release: &str) -> Result<Self, KernelError> {
        let missing = |what: &str, field: &str, why: &str| FieldMissing {
            struct_name: what.to_owned(),
            fields: vec![field.to_owned()],
            release: release.to_owned(),
            why: why.to_owned(),
        };
        let place = |what: &str, field: &str, bytes: u64| -> Result<usize, KernelError> {
            let slot = find_slot(types, release, what, &[field])??;
            let Slot { offset, bytes: found, bits: None, .. } = slot else {
                return Err(missing(what, field, "it is a bitfield").into());
            };
            usize::try_from(offset)
                .ok()
                .filter(|offset| found == bytes && *offset < 4096)
                .ok_or_else(|| missing(what, field, "it is not where it could be").into())
        };
        let number = |name: &str, constant: &str, most: i128| -> Result<u64, KernelError> {
            types
                .find(Kind::Enum, name)
                .and_then(|id| types.enumerators(id).ok())
                .and_then(|all| all.into_iter().find(|one| one.name == constant))
                .filter(|one| (0..=most).contains(&one.value))
                .and_then(|one| u64::try_from(one.value).ok())
                .ok_or_else(|| missing(name, constant, "it is not among the enum's constants").into())
        };
        let bytes = usize::try_from(types.size_of(types.struct_named("page")?)?).unwrap_or(0);
        if !(32..=4096).contains(&bytes) {
            return Err(missing("page", "flags", "the struct has no possible length").into());
        }
        Ok(Self {
            bytes,
            flags: place("page", "flags", 8)?,
            page_type: place("page", "page_type", 4)?,
            mapping: place("page", "mapping", 8)?,
            private: place("page", "private", 8)?,
            folio_order: place("folio", "_flags_1", 8)?,
            refcount: place("page", "_refcount", 4)?,
            list: place("page", "pcp_list.prev", 8)?.saturating_sub(8),
            pcp_types: number("migratetype", "MIGRATE_PCPTYPES", 16)?.max(1),
            head: 1 << number("pageflags", "PG_head", 31)?,
            reserved: 1 << number("pageflags", "PG_reserved", 31)?,
            buddy: number("pagetype", "PGTY_buddy", 0xff)? as u8,
        })
    }
}
