//! A store as it is recorded: who stored, where in the code, and how it got there.

use ktstr_replay::kernel::KernelView;
use ktstr_replay::kernel::unwind::Unwinder;
use ktstr_replay::trace::record::{VcpuRegs, WatchFire};
use ktstr_replay::units::{Cpu, KernelVirt};

/// Most frames that are kept.
const FRAMES: usize = 48;

/// The vCPU `cpu`, which has just stored, with its registers and its task. The machine is stopped.
pub(super) fn who(view: &KernelView<'_>, vcpus: &[VcpuRegs], cpu: Cpu) -> WatchFire {
    let Some(registers) = vcpus.iter().find(|vcpu| vcpu.cpu == cpu) else {
        return WatchFire {
            cpu,
            place: "nobody knows, as the registers could not be read".to_owned(),
            ..WatchFire::default()
        };
    };
    // Only the vCPU that stored: the others' stacks are in the checkpoint, if there is one.
    let unwinder = Unwinder::new(view, std::slice::from_ref(registers));
    let (place, source) = unwinder.code_before(KernelVirt(registers.rip));
    let mut fire = WatchFire { cpu, rip: registers.rip, place, source, ..WatchFire::default() };
    if let Some(running) = unwinder.on_cpu(cpu) {
        fire.pid = running.pid;
        fire.comm = running.comm;
        let mut lines = running.stack.lines();
        let more = lines.len().saturating_sub(FRAMES);
        lines.truncate(FRAMES);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        fire.stack = lines;
    }
    fire
}
