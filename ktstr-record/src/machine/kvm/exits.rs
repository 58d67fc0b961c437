//! Letting a vCPU that waits stay in the guest, or near it: for performance mode, in which nothing else uses its CPU.
//!
//! Source: `Documentation/virt/kvm/api.rst` of Linux, `KVM_CAP_X86_DISABLE_EXITS` and `KVM_CAP_HALT_POLL`.

use ktstr_replay::trace::record::manifest::PerformancePart;
use kvm_bindings::{
    KVM_CAP_HALT_POLL, KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_HLT, KVM_X86_DISABLE_EXITS_PAUSE,
    kvm_enable_cap,
};
use kvm_ioctls::VmFd;

use crate::machine::performance::Tuning;

/// For how long KVM looks out for the end of a halt before it gives the CPU away: as KVM itself does at most.
const HALT_POLL_NS: u64 = 200_000;

/// Have halts and pauses of the guest stay in it, as far as this KVM can; what it refuses is noted. It must have no vCPU yet.
pub(super) fn suppress(vm: &VmFd, tuning: &mut Tuning) {
    let enable = |cap: u32, argument: u64| {
        let enable = kvm_enable_cap { cap, args: [argument, 0, 0, 0], ..kvm_enable_cap::default() };
        // A KVM may offer what it then does not do.
        vm.enable_cap(&enable).map_err(|error| format!("this KVM offers it, and refuses it: {error}"))
    };
    let known = |cap: u32| u64::try_from(vm.check_extension_raw(cap.into())).unwrap_or(0);
    let polls = match known(KVM_CAP_HALT_POLL) {
        0 => Err("this KVM has no KVM_CAP_HALT_POLL, which came with Linux 5.10".to_owned()),
        _ => enable(KVM_CAP_HALT_POLL, HALT_POLL_NS).map(|()| format!("for {} us", HALT_POLL_NS / 1000)),
    };
    tuning.note(PerformancePart::HALT_POLL, polls);
    let can = known(KVM_CAP_X86_DISABLE_EXITS);
    let wanted = can & u64::from(KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE);
    let stays = match wanted {
        0 => Ok(()),
        _ => enable(KVM_CAP_X86_DISABLE_EXITS, wanted),
    };
    for (what, bit) in [
        (PerformancePart::HALTS, KVM_X86_DISABLE_EXITS_HLT),
        (PerformancePart::PAUSES, KVM_X86_DISABLE_EXITS_PAUSE),
    ] {
        let came = match can & u64::from(bit) {
            0 => Err(format!("this KVM does not offer it (KVM_CAP_X86_DISABLE_EXITS is {can:#x})")),
            _ => stays.clone().map(|()| "stay in the guest".to_owned()),
        };
        tuning.note(what, came);
    }
}
