//! CPUs and per-CPU data.

use super::{KernelError, KernelView, bytes};
use crate::units::KernelVirt;

/// Most CPUs that are looked at: `NR_CPUS` of distribution kernels.
const MAX_CPUS: u32 = 8192;

/// The CPUs of a kernel. Source: `include/linux/cpumask.h`, `arch/x86/kernel/setup_percpu.c`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus {
    possible: Vec<u32>,
    online: Vec<u32>,
    /// By CPU number.
    offsets: Vec<u64>,
}

impl Cpus {
    pub(super) fn read(view: &KernelView<'_>) -> Result<Self, KernelError> {
        let ids = view.u32(view.symbol("nr_cpu_ids")?)?;
        if ids == 0 || ids > MAX_CPUS {
            let why = format!("it claims {ids} CPUs");
            return Err(KernelError::Broken { what: "nr_cpu_ids", at: view.symbol("nr_cpu_ids")?, why });
        }
        let offsets = view.bytes(view.symbol("__per_cpu_offset")?, ids as usize * 8)?;
        Ok(Self {
            possible: mask(view, "__cpu_possible_mask", ids)?,
            online: mask(view, "__cpu_online_mask", ids)?,
            offsets: bytes::u64s(&offsets).collect(),
        })
    }

    /// CPUs that have per-CPU data, ascending.
    #[must_use]
    pub fn possible(&self) -> &[u32] {
        &self.possible
    }

    /// CPUs that run, ascending.
    #[must_use]
    pub fn online(&self) -> &[u32] {
        &self.online
    }

    /// Where CPU `cpu` has its copy of the per-CPU object at `at`.
    #[must_use]
    pub fn place(&self, at: KernelVirt, cpu: u32) -> Option<KernelVirt> {
        Some(KernelVirt(at.0.wrapping_add(*self.offsets.get(cpu as usize)?)))
    }
}

/// The numbers below `ids` whose bits are set in a `struct cpumask`.
fn mask(view: &KernelView<'_>, symbol: &str, ids: u32) -> Result<Vec<u32>, KernelError> {
    let words = view.bytes(view.symbol(symbol)?, (ids as usize).div_ceil(64) * 8)?;
    let words: Vec<u64> = bytes::u64s(&words).collect();
    let set = |cpu: &u32| words.get((cpu / 64) as usize).is_some_and(|word| word >> (cpu % 64) & 1 == 1);
    Ok((0..ids).filter(set).collect())
}
