//! Going over the array of `struct page`; whose a page is, by its `mapping`.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::kernel::mirror::{At, mirror};
use crate::kernel::pages::image::{constant_pages, image_pages};
use crate::kernel::pages::structs::{PageStruct, free_blocks};
use crate::kernel::{KernelError, KernelProfile, KernelView, bytes};
use crate::memory::{LeftOut, Memory};
use crate::trace::record::PAGE_BYTES;
use crate::units::KernelVirt;

/// Structs that are read at once.
const STRUCTS_AT_ONCE: usize = 4096;
/// Blocks and folios of a higher order than this are none (`MAX_PAGE_ORDER` is 10 on x86; 18 is 1 GiB).
const MAX_ORDER: u64 = 18;
/// Highest bytes of a `page_type` that are a type: `PGTY_buddy` up to before `PGTY_mapcount_underflow`.
const TYPES: Range<u8> = 0xf0..0xff;
/// Most pages of RAM that are classified: 256 GiB. The rest is kept.
const MAX_PAGES: u64 = 1 << 26;

/// Tells what pages are, on one kernel.
pub struct PageClassifier {
    profile: Arc<KernelProfile>,
    page: PageStruct,
    vmemmap_base: KernelVirt,
}

/// What each page of RAM is, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageClasses {
    /// Ranges of frame numbers, ascending, with the first one's place in `classes`.
    ranges: Vec<(Range<u64>, usize)>,
    /// For each page whether, and why, it need not be kept.
    classes: Vec<Option<LeftOut>>,
    /// Ranges of frames whose contents never change.
    constant: Vec<Range<u64>>,
}

impl PageClassifier {
    /// The classifier of the kernel of `profile`.
    ///
    /// # Errors
    /// [`KernelError::NoSymbol`], [`KernelError::Field`], [`KernelError::Types`]: this kernel's pages cannot be told
    /// apart.
    pub fn new(profile: Arc<KernelProfile>) -> Result<Self, KernelError> {
        let page = PageStruct::find(profile.types(), profile.release())?;
        let vmemmap_base = profile.symbol("vmemmap_base")?;
        Ok(Self { profile, page, vmemmap_base })
    }

    /// What the pages of `ram` (bytes, ascending, disjoint) are in `memory`, which must not change meanwhile. Pages
    /// whose `struct page` cannot be read count as kept.
    ///
    /// # Errors
    /// Those of [`VirtualMemory::read`](crate::kernel::VirtualMemory::read), when it cannot be found where the structs are.
    pub fn classify(&self, memory: &dyn Memory, ram: &[Range<u64>]) -> Result<PageClasses, KernelError> {
        let view = KernelView::new(&self.profile, memory);
        let base = view.u64(self.vmemmap_base)?;
        let mut owners = Owners::new(&view);
        let mut found = PageClasses::default();
        let page = PAGE_BYTES as u64;
        for range in ram {
            let gfns = range.start.div_ceil(page)..range.end / page;
            let count = gfns.end.saturating_sub(gfns.start).min(MAX_PAGES - found.classes.len() as u64);
            let first = found.classes.len();
            found.classes.resize(first + count as usize, None);
            found.ranges.push((gfns.start..gfns.start + count, first));
            self.range(&view, base, gfns.start, &mut found.classes[first..], &mut owners);
        }
        found.constant = constant_pages(&view);
        for (gfns, why) in image_pages(&view) {
            for gfn in gfns {
                if let Some(class) = found.place(gfn).and_then(|place| found.classes.get_mut(place)) {
                    *class = Some(why);
                }
            }
        }
        // What the lists of CPUs hold is a saving, and no harm where they cannot be read.
        for (at, order) in free_blocks(&view, &self.page).unwrap_or_default() {
            self.free_block(&view, base, at, order, &mut found);
        }
        Ok(found)
    }

    /// Mark a block of a CPU's list as free, unless any of its pages is something else.
    fn free_block(
        &self,
        view: &KernelView<'_>,
        base: u64,
        at: KernelVirt,
        order: u64,
        found: &mut PageClasses,
    ) {
        let bytes = self.page.bytes as u64;
        let Some(offset) = at.0.checked_sub(base).filter(|offset| offset.is_multiple_of(bytes)) else {
            return;
        };
        let (gfn, count) = (offset / bytes, 1usize << order);
        let Some(place) = found.place(gfn) else { return };
        let Ok(structs) = view.bytes(at, count * self.page.bytes) else { return };
        let is_free = |page: &[u8]| {
            let refcount = page.get(self.page.refcount..self.page.refcount + 4);
            let page_type = page.get(self.page.page_type + 3).copied().unwrap_or(0);
            refcount == Some(&[0; 4]) && !TYPES.contains(&page_type)
        };
        if gfn.is_multiple_of(count as u64) && structs.chunks(self.page.bytes).all(is_free) {
            // The end of a range is a multiple of any block's length, or the block is none.
            if let Some(classes) = found.classes.get_mut(place..place + count) {
                classes.fill(Some(LeftOut::Free));
            }
        }
    }

    /// Classify the frames from `first` on.
    fn range(
        &self,
        view: &KernelView<'_>,
        base: u64,
        first: u64,
        classes: &mut [Option<LeftOut>],
        owners: &mut Owners<'_, '_>,
    ) {
        let mut structs = vec![0u8; STRUCTS_AT_ONCE * self.page.bytes];
        // Pages of a block or folio whose head is done.
        let mut covered = 0usize;
        let mut done = 0usize;
        while done < classes.len() {
            let now = STRUCTS_AT_ONCE.min(classes.len() - done);
            let gfn = first + done as u64;
            let at = KernelVirt(base.wrapping_add(gfn.wrapping_mul(self.page.bytes as u64)));
            let structs = &mut structs[..now * self.page.bytes];
            if view.read(at, structs).is_err() {
                done += now;
                covered = covered.max(done);
                continue;
            }
            for i in covered.saturating_sub(done)..now {
                if done + i < covered {
                    continue;
                }
                let here = structs.get(i * self.page.bytes..).unwrap_or_default();
                let (class, order) = self.one(here, gfn + i as u64, owners);
                let end = (done + i).saturating_add(1 << order).min(classes.len());
                if let Some(all) = classes.get_mut(done + i..end) {
                    all.fill(class);
                }
                covered = end;
            }
            done += now;
        }
    }

    /// What the page with `struct page` at the beginning of `structs` is, and the order of the block that it begins.
    fn one(&self, structs: &[u8], gfn: u64, owners: &mut Owners<'_, '_>) -> (Option<LeftOut>, u32) {
        let word = |at: usize| bytes::u64_at(structs, at).unwrap_or(0);
        let page_type = structs.get(self.page.page_type + 3).copied().unwrap_or(0);
        let flags = word(self.page.flags);
        // A block begins at a multiple of its length; what does not is no block.
        let aligned = |order: u64| order <= MAX_ORDER && gfn.is_multiple_of(1 << order);
        if page_type == self.page.buddy {
            let order = word(self.page.private);
            return if aligned(order) { (Some(LeftOut::Free), order as u32) } else { (None, 0) };
        }
        let order = if flags & self.page.head == 0 { 0 } else { word(self.page.folio_order) & 0xff };
        if !aligned(order) {
            return (None, 0);
        }
        if TYPES.contains(&page_type) || flags & self.page.reserved != 0 {
            return (None, order as u32);
        }
        (owners.of(word(self.page.mapping)), order as u32)
    }
}

impl PageClasses {
    /// Frames `gfns` of RAM, of which those in `left_out` need not be kept and those in `constant` never change.
    #[must_use]
    pub fn of(gfns: Range<u64>, left_out: &[(Range<u64>, LeftOut)], constant: Vec<Range<u64>>) -> Self {
        let why = |gfn| left_out.iter().find(|(range, _)| range.contains(&gfn)).map(|(_, why)| *why);
        Self { classes: gfns.clone().map(why).collect(), ranges: vec![(gfns, 0)], constant }
    }

    /// Leave out the page of frame `gfn` besides, if it is RAM.
    pub fn leave_out(&mut self, gfn: u64, why: LeftOut) {
        if let Some(class) = self.place(gfn).and_then(|place| self.classes.get_mut(place)) {
            *class = Some(why);
        }
    }

    /// Why the page of frame `gfn` need not be kept; `None` when it must be, and for frames that are no RAM.
    #[must_use]
    pub fn get(&self, gfn: u64) -> Option<LeftOut> {
        *self.classes.get(self.place(gfn)?)?
    }

    /// Whether the page of frame `gfn` is the same at every capture: the kernel's read-only data. Once is enough to read it.
    #[must_use]
    pub fn is_constant(&self, gfn: u64) -> bool {
        self.constant.iter().any(|range| range.contains(&gfn))
    }

    /// The ranges of frames whose contents never change.
    #[must_use]
    pub fn constant(&self) -> &[Range<u64>] {
        &self.constant
    }

    /// The place of frame `gfn` in `classes`.
    fn place(&self, gfn: u64) -> Option<usize> {
        let after = self.ranges.partition_point(|(range, _)| range.start <= gfn);
        let (range, first) = self.ranges.get(after.checked_sub(1)?)?;
        let offset = range.contains(&gfn).then(|| gfn - range.start)?;
        Some(first + usize::try_from(offset).ok()?)
    }

    /// The ranges of frames that need not be kept, ascending.
    #[must_use]
    pub fn left_out(&self) -> Vec<(Range<u64>, LeftOut)> {
        let mut out: Vec<(Range<u64>, LeftOut)> = Vec::new();
        for (range, first) in &self.ranges {
            for (gfn, class) in range.clone().zip(self.classes.get(*first..).unwrap_or_default()) {
                let Some(class) = *class else { continue };
                match out.last_mut() {
                    Some((last, why)) if last.end == gfn && *why == class => last.end += 1,
                    _ => out.push((gfn..gfn + 1, class)),
                }
            }
        }
        out
    }
}

mirror! {
    /// `struct address_space`.
    struct AddressSpace, AddressSpaceLayout = "address_space" {
        host: KernelVirt,
    }
}

mirror! {
    /// `struct inode`.
    struct Inode, InodeLayout = "inode" {
        i_mapping: KernelVirt,
        i_data: At,
    }
}

mirror! {
    /// `struct anon_vma`.
    struct AnonVma, AnonVmaLayout = "anon_vma" {
        root: KernelVirt,
    }
}

/// Low bits of a mapping that say what it points to (`FOLIO_MAPPING_FLAGS`, `include/linux/page-flags.h`).
const FLAGS: u64 = 3;
/// With these bits it points to an `anon_vma` (`FOLIO_MAPPING_ANON`).
const ANON: u64 = 1;
/// Addresses below this one are no kernel pointers.
const LOWEST_POINTER: u64 = 0xff00_0000_0000_0000;
/// Most different mappings that are looked at; pages of others are kept.
const MAX_MAPPINGS: usize = 16_384;

/// Says what mappings are, each looked at once.
struct Owners<'v, 'm> {
    view: &'v KernelView<'m>,
    known: HashMap<u64, Option<LeftOut>>,
}

impl<'v, 'm> Owners<'v, 'm> {
    fn new(view: &'v KernelView<'m>) -> Self {
        Self { view, known: HashMap::new() }
    }

    /// Why a page with this mapping can be left out; `None` when it is the kernel's own, or in doubt.
    fn of(&mut self, mapping: u64) -> Option<LeftOut> {
        if mapping < LOWEST_POINTER {
            return None;
        }
        if let Some(known) = self.known.get(&mapping) {
            return *known;
        }
        if self.known.len() >= MAX_MAPPINGS {
            return None;
        }
        let at = KernelVirt(mapping & !FLAGS);
        let found = match mapping & FLAGS {
            0 if self.is_of_a_file(at) => Some(LeftOut::PageCache),
            ANON if self.is_anonymous(at) => Some(LeftOut::User),
            _ => None,
        };
        self.known.insert(mapping, found);
        found
    }

    /// Whether there is an `address_space` at `at`: its inode points back to it, or has it inside.
    fn is_of_a_file(&self, at: KernelVirt) -> bool {
        let Ok(space) = self.view.mirror::<AddressSpace>(at) else { return false };
        let Ok(inode) = self.view.mirror::<Inode>(space.host) else { return false };
        inode.i_mapping == at || inode.i_data.0 == at
    }

    /// Whether there is an `anon_vma` at `at`: its root is a root.
    fn is_anonymous(&self, at: KernelVirt) -> bool {
        let Ok(vma) = self.view.mirror::<AnonVma>(at) else { return false };
        let root = self.view.mirror::<AnonVma>(vma.root);
        root.is_ok_and(|root| root.root == vma.root)
    }
}
