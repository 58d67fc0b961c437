//! The kernel's resizable hash tables.
//!
//! Source: `include/linux/rhashtable.h`. Bit 0 of a bucket is its lock; a chain ends with an odd pointer.

use crate::kernel::mirror::mirror;
use crate::kernel::{Gaps, KernelError, KernelView, bytes};
use crate::units::KernelVirt;

mirror! {
    /// `struct bucket_table`.
    struct BucketTable, BucketTableLayout = "bucket_table" {
        size: u64,
        nest: u64,
        future_tbl: KernelVirt,
    }
}

/// Most buckets that are looked at, of each table.
const MAX_BUCKETS: u64 = 1 << 20;
/// Most tables: one, and the one that it grows into.
const MAX_TABLES: usize = 4;

/// The `struct rhash_head`s in the table that the `struct rhashtable` at `at` begins with; at most `max`.
///
/// # Errors
/// [`KernelError::Broken`] for tables that are too large or nested (which they are only when memory is short), and
/// for more than `max` elements, which a chain that goes in circles has.
pub(super) fn elements(
    view: &KernelView<'_>,
    at: KernelVirt,
    max: usize,
    gaps: &mut Gaps,
) -> Result<Vec<KernelVirt>, KernelError> {
    let tbl = view.offset_of("rhashtable", "tbl")?;
    let buckets_at = view.offset_of("bucket_table", "buckets")?;
    let broken = |why: String| KernelError::Broken { what: "a hash table", at, why };
    let mut found = Vec::new();
    let mut table = view.pointer(KernelVirt(at.0.wrapping_add(tbl)))?;
    for _ in 0..MAX_TABLES {
        let Some(table_at) = table else { return Ok(found) };
        let header: BucketTable = view.mirror(table_at)?;
        if header.nest != 0 {
            return Err(broken("its buckets are nested, which is not read".to_owned()));
        }
        if header.size > MAX_BUCKETS {
            return Err(broken(format!("it claims {} buckets", header.size)));
        }
        let raw = view.bytes(KernelVirt(table_at.0.wrapping_add(buckets_at)), header.size as usize * 8)?;
        for bucket in bytes::u64s(&raw) {
            let mut next = bucket & !1;
            // What lies behind an odd pointer is the end's marker.
            while next != 0 && next & 1 == 0 {
                if found.len() >= max {
                    return Err(broken(format!("it has more than {max} elements, or goes in circles")));
                }
                found.push(KernelVirt(next));
                match gaps.read("a hash chain", view.u64(KernelVirt(next))) {
                    Some(after) => next = after,
                    None => break,
                }
            }
        }
        table = Some(header.future_tbl).filter(|next| next.0 != 0);
    }
    Err(broken(format!("it has more than {MAX_TABLES} tables")))
}
