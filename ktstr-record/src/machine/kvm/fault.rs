//! Why KVM could not go on with a vCPU, in words.
//!
//! Source: Linux, `Documentation/virt/kvm/api.rst`, `KVM_EXIT_INTERNAL_ERROR` and `KVM_EXIT_FAIL_ENTRY`.

use std::fmt::Write as _;

use kvm_bindings::{
    KVM_INTERNAL_ERROR_DELIVERY_EV, KVM_INTERNAL_ERROR_EMULATION,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES, KVM_INTERNAL_ERROR_SIMUL_EX,
    KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, kvm_run,
};

/// What KVM said of an internal error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InternalError {
    suberror: u32,
    data: Vec<u64>,
}

impl InternalError {
    /// Out of `run`, whose exit reason must be `KVM_EXIT_INTERNAL_ERROR`.
    pub(super) fn of(run: &kvm_run) -> Self {
        // SAFETY: the exit reason says that this is the part of the union that KVM wrote; it is numbers only.
        let internal = unsafe { run.__bindgen_anon_1.internal };
        let count = (internal.ndata as usize).min(internal.data.len());
        Self { suberror: internal.suberror, data: internal.data[..count].to_vec() }
    }

    /// The bytes of the instruction that could not be emulated; empty where KVM does not tell.
    pub(super) fn instruction(&self) -> Vec<u8> {
        let flags = self.data.first().copied().unwrap_or(0);
        let told = u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
        if self.suberror != KVM_INTERNAL_ERROR_EMULATION || flags & told == 0 {
            return Vec::new();
        }
        // After the flags a byte with their number, then the bytes.
        let bytes: Vec<u8> = self.data[1..].iter().flat_map(|word| word.to_le_bytes()).collect();
        let Some((count, bytes)) = bytes.split_first() else { return Vec::new() };
        bytes[..bytes.len().min(usize::from(*count).min(15))].to_vec()
    }

    /// All of it, and `rip`, in one line.
    pub(super) fn describe(&self, rip: u64) -> String {
        let what = match self.suberror {
            KVM_INTERNAL_ERROR_EMULATION => "KVM had to emulate an instruction and cannot",
            KVM_INTERNAL_ERROR_SIMUL_EX => "two exceptions at once",
            KVM_INTERNAL_ERROR_DELIVERY_EV => "a fault while an event was delivered",
            KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON => "an exit of the CPU that KVM does not know",
            _ => "an error of a kind that this program does not know",
        };
        let mut text = format!("KVM_EXIT_INTERNAL_ERROR: {what} (suberror {}), RIP {rip:#x}", self.suberror);
        let instruction = self.instruction();
        if !instruction.is_empty() {
            text.push_str(", instruction bytes");
            instruction.iter().for_each(|byte| write!(text, " {byte:02x}").unwrap_or(()));
        } else if !self.data.is_empty() {
            text.push_str(", data");
            self.data.iter().for_each(|word| write!(text, " {word:#x}").unwrap_or(()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::InternalError;

    #[test]
    fn an_instruction_that_kvm_cannot_emulate_is_shown() {
        // As KVM gives `lock cmpxchg16b [rdi + 16]`.
        let data = vec![1, 0x0010_4fc7_0f48_f006, 0];
        let error = InternalError { suberror: 1, data };
        assert_eq!(error.instruction(), [0xf0, 0x48, 0x0f, 0xc7, 0x4f, 0x10]);
        assert_eq!(
            error.describe(0x20_0014),
            "KVM_EXIT_INTERNAL_ERROR: KVM had to emulate an instruction and cannot (suberror 1), RIP 0x200014, \
             instruction bytes f0 48 0f c7 4f 10"
        );
    }

    #[test]
    fn whatever_kvm_says_is_described() {
        for (suberror, data, end) in [
            (1, vec![], "(suberror 1), RIP 0x10"),
            (1, vec![1], "data 0x1"),
            (1, vec![1, 0xff], "instruction bytes 00 00 00 00 00 00 00"),
            (3, vec![0x8000_0b0e, 2], "(suberror 3), RIP 0x10, data 0x80000b0e 0x2"),
            (77, vec![], "does not know (suberror 77), RIP 0x10"),
        ] {
            let text = InternalError { suberror, data }.describe(0x10);
            assert!(text.ends_with(end), "{text}");
        }
    }
}
