//! Finding a kernel in RAM that is all the input's: vmcoreinfo, page tables, kallsyms, BTF.
#![no_main]

use std::ops::Range;

use ktstr_replay::kernel::KernelProfile;
use ktstr_replay::memory::{Memory, MemoryError};
use ktstr_replay::units::GuestPhys;
use libfuzzer_sys::fuzz_target;

/// RAM from address 0, the input over and over up to 4 MiB: a pointer anywhere meets something.
struct Ram<'a>(&'a [u8]);

const RAM: u64 = 4 << 20;

impl Memory for Ram<'_> {
    fn read(&self, at: GuestPhys, out: &mut [u8]) -> Result<(), MemoryError> {
        if at.0.checked_add(out.len() as u64).is_none_or(|end| end > RAM) {
            return Err(MemoryError::OutOfRange { at, len: out.len() });
        }
        let mut from = at.0 as usize % self.0.len();
        for byte in out {
            *byte = self.0[from];
            from = (from + 1) % self.0.len();
        }
        Ok(())
    }

    fn populated(&self) -> Vec<Range<u64>> {
        std::iter::once(0..(self.0.len() as u64).min(RAM)).collect()
    }
}

fuzz_target!(|input: &[u8]| {
    if !input.is_empty() {
        let _ = KernelProfile::from_memory(&Ram(input));
    }
});
