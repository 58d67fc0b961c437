//! The ORC tables: for each address of kernel code, where the caller's frame is.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::kernel::mirror::mirror;
use crate::kernel::{KernelError, KernelView, bytes};
use crate::units::KernelVirt;

mirror! {
    /// `struct orc_entry`. What its numbers mean is not in BTF: see [`NUMBERINGS`].
    struct OrcEntry, OrcEntryLayout = "orc_entry" {
        sp_offset: i64,
        bp_offset: i64,
        sp_reg: u64,
        bp_reg: u64,
        kind: u64 = "type",
        signal: u64,
    }
}

/// What an entry says: the caller's stack pointer is `sp_reg + sp_offset`, its frame pointer at `bp_reg + bp_offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub sp_offset: i64,
    pub bp_offset: i64,
    pub sp_reg: Base,
    pub bp_reg: Base,
    pub kind: u64,
    /// The instruction pointer that is found next has not run yet: it is no return address.
    pub signal: bool,
}

impl Rule {
    /// Of a frame that was called: the return address is below the caller's stack pointer.
    pub(super) fn call(sp_reg: Base, sp_offset: i64, bp_reg: Base, bp_offset: i64) -> Self {
        Self { sp_offset, bp_offset, sp_reg, bp_reg, kind: kind::CALL, signal: false }
    }
}

/// `ORC_TYPE_*` of `arch/x86/include/asm/orc_types.h`.
pub(super) mod kind {
    pub const UNDEFINED: u64 = 0;
    pub const END_OF_STACK: u64 = 1;
    pub const CALL: u64 = 2;
    pub const REGS: u64 = 3;
    pub const REGS_PARTIAL: u64 = 4;
}

/// What a place is relative to: `ORC_REG_*` of `arch/x86/include/asm/orc_types.h`, whose numbers changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Undefined,
    PrevSp,
    Ax,
    Dx,
    Di,
    Bp,
    Sp,
    R10,
    R13,
    BpIndirect,
    SpIndirect,
    /// A number that this kernel should not have.
    Unknown(u64),
}

/// The numbers of the bases, by the hash that the kernel's build makes of `orc_types.h` (`scripts/orc_hash.sh`) and puts
/// into `.orc_header`: the SHA-1 of its `#define ORC_REG_*`, `#define ORC_TYPE_*` and `struct orc_entry`. Macros are not
/// in BTF, so a kernel with another hash cannot be unwound until a row is added here.
const NUMBERINGS: [([u8; 20], &[Base]); 2] = [
    // fe5d32bf581bd63b2ca9a5c65ba5a625eab3fe24: 6.4 and later.
    (
        [
            0xfe, 0x5d, 0x32, 0xbf, 0x58, 0x1b, 0xd6, 0x3b, 0x2c, 0xa9, 0xa5, 0xc6, 0x5b, 0xa5, 0xa6, 0x25,
            0xea, 0xb3, 0xfe, 0x24,
        ],
        &[
            Base::Undefined,
            Base::PrevSp,
            Base::Dx,
            Base::Di,
            Base::Bp,
            Base::Sp,
            Base::R10,
            Base::R13,
            Base::BpIndirect,
            Base::SpIndirect,
        ],
    ),
    // 137c36ad7627c4dd55932176bb0ecdbd5041fc82: 7.2 and 7.3.
    (
        [
            0x13, 0x7c, 0x36, 0xad, 0x76, 0x27, 0xc4, 0xdd, 0x55, 0x93, 0x21, 0x76, 0xbb, 0x0e, 0xcd, 0xbd,
            0x50, 0x41, 0xfc, 0x82,
        ],
        &[
            Base::Undefined,
            Base::Ax,
            Base::Dx,
            Base::Sp,
            Base::Bp,
            Base::Di,
            Base::R10,
            Base::R13,
            Base::PrevSp,
            Base::SpIndirect,
            Base::BpIndirect,
        ],
    ),
];

/// The numbering that a kernel's header names.
fn numbering(view: &KernelView<'_>) -> Result<&'static [Base], KernelError> {
    let absent = |why: &'static str| {
        move |error| match error {
            KernelError::NoSymbol { release, .. } => KernelError::NoUnwindTables { release, why },
            other => other,
        }
    };
    view.symbol("__start_orc_unwind")
        .map_err(absent(".orc_unwind is absent; CONFIG_UNWINDER_ORC makes it"))?;
    let at = view.symbol("__start_orc_header").map_err(absent(
        ".orc_header, which says what the numbers in .orc_unwind mean, is absent; Linux has it since 6.4",
    ))?;
    let mut hash = [0u8; 20];
    view.read(at, &mut hash)?;
    let known = NUMBERINGS.iter().find(|(known, _)| *known == hash);
    known.map(|(_, bases)| *bases).ok_or_else(|| {
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let why = format!("their format has the hash {hash}, which this ktstr does not know");
        KernelError::Broken { what: "the ORC tables", at, why }
    })
}

/// Largest table of addresses that is read, in bytes: ten times that of a distribution's kernel.
const MAX_IPS_BYTES: u64 = 32 << 20;

/// The tables of the kernel's image; sorted by the kernel at boot.
pub(super) struct OrcTables {
    bases: &'static [Base],
    /// Distances from each word to the address that its entry begins at.
    ips: Vec<u8>,
    ips_at: KernelVirt,
    entries_at: KernelVirt,
    entry_bytes: u64,
    /// Entries by their number: a stack is much like the next one.
    read: RefCell<HashMap<usize, Rule>>,
}

impl OrcTables {
    /// Read the tables' addresses.
    ///
    /// # Errors
    /// [`KernelError::NoUnwindTables`] for a kernel that has none; [`KernelError::Broken`] when the
    /// tables do not belong together, or are in a format that is not known.
    pub(super) fn read(view: &KernelView<'_>) -> Result<Self, KernelError> {
        let table = |name: &str| -> Result<(KernelVirt, u64), KernelError> {
            let (from, to) =
                (view.symbol(&format!("__start_{name}"))?, view.symbol(&format!("__stop_{name}"))?);
            Ok((from, to.0.wrapping_sub(from.0)))
        };
        let bases = numbering(view)?;
        let (ips_at, ips_bytes) = table("orc_unwind_ip")?;
        let (entries_at, entries_bytes) = table("orc_unwind")?;
        let broken = |why: String| KernelError::Broken { what: "the ORC tables", at: ips_at, why };
        if ips_bytes == 0 || ips_bytes % 4 != 0 || ips_bytes > MAX_IPS_BYTES {
            return Err(broken(format!("{ips_bytes} bytes of addresses")));
        }
        let entry_bytes = view.types().struct_bytes("orc_entry")?;
        if entry_bytes.checked_mul(ips_bytes / 4) != Some(entries_bytes) {
            return Err(broken(format!(
                "{} addresses, and {entries_bytes} bytes of entries of {entry_bytes} bytes each",
                ips_bytes / 4
            )));
        }
        let ips = view.bytes(ips_at, ips_bytes as usize)?;
        Ok(Self { bases, ips, ips_at, entries_at, entry_bytes, read: RefCell::default() })
    }

    /// The address that entry `n` begins at.
    fn begins(&self, n: usize) -> Option<u64> {
        let distance = i32::from_le_bytes(bytes::array_at(&self.ips, n * 4)?);
        Some(self.ips_at.0.wrapping_add(n as u64 * 4).wrapping_add_signed(i64::from(distance)))
    }

    /// The last entry that begins at or before `ip`: of several that begin at one address, the kernel puts those first
    /// that only end a section.
    ///
    /// # Errors
    /// When the entry cannot be read.
    pub(super) fn find(&self, view: &KernelView<'_>, ip: KernelVirt) -> Result<Option<Rule>, KernelError> {
        let (mut low, mut high) = (0, self.ips.len() / 4);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.begins(middle) {
                Some(begins) if begins <= ip.0 => low = middle + 1,
                _ => high = middle,
            }
        }
        let Some(found) = low.checked_sub(1) else { return Ok(None) };
        if let Some(rule) = self.read.borrow().get(&found) {
            return Ok(Some(*rule));
        }
        let at = self.entries_at.0.wrapping_add((found as u64).wrapping_mul(self.entry_bytes));
        let OrcEntry { sp_offset, bp_offset, sp_reg, bp_reg, kind, signal } = view.mirror(KernelVirt(at))?;
        let base = |number: u64| {
            let known = usize::try_from(number).ok().and_then(|number| self.bases.get(number));
            known.copied().unwrap_or(Base::Unknown(number))
        };
        let (sp_reg, bp_reg) = (base(sp_reg), base(bp_reg));
        let rule = Rule { sp_offset, bp_offset, sp_reg, bp_reg, kind, signal: signal != 0 };
        self.read.borrow_mut().insert(found, rule);
        Ok(Some(rule))
    }
}
