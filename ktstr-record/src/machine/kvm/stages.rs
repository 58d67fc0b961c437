//! What the probe executes, in a throw-away VM without devices.
//!
//! First what a kernel needs and KVMs that emulate lack, which says the same however busy the host is; then how long
//! instructions take, of which the fastest of several rounds counts, as a vCPU that had to wait only looks slower.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ktstr_replay::memory::Memory;
use ktstr_replay::units::GuestPhys;
use kvm_bindings::{KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, Kvm, VcpuExit, VmFd};

use super::fault::InternalError;
use super::guests;
use super::kick::Kickable;
use crate::machine::ram::GuestRam;

/// Instructions of the timed guest, and how often it is run.
const SHORT: (u32, u32) = (1000, 4);
/// The same where the short one's time may be that of its entry and exit alone: in a VM whose hypervisor handles both.
const LONG: (u32, u32) = (20_000, 2);
/// No entry and exit take as long.
const LONGEST_EXIT: Duration = Duration::from_millis(1);
/// Above this KVM is no faster than an emulator. Hardware takes less than one, with its entry and exit a few.
pub(super) const MOST_NS_PER_INSTRUCTION: f64 = 100.0;
/// Where VMX keeps its task state segment and page table for real mode, far from RAM (as other VMMs have it).
pub(super) const TSS_ADDRESS: usize = 0xfffb_d000;
/// What a machine needs of KVM, by the names of the kernel's documentation.
const NEEDED: [(Cap, &str); 12] = [
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::MpState, "KVM_CAP_MP_STATE"),
    (Cap::Pit2, "KVM_CAP_PIT2"),
    (Cap::AdjustClock, "KVM_CAP_ADJUST_CLOCK"),
    (Cap::VcpuEvents, "KVM_CAP_VCPU_EVENTS"),
    (Cap::Xcrs, "KVM_CAP_XCRS"),
    (Cap::Xsave, "KVM_CAP_XSAVE"),
    (Cap::ReadonlyMem, "KVM_CAP_READONLY_MEM"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    /// Instructions are executed as they should be, each in this time.
    Executes { ns_per_instruction: f64 },
    /// They are not.
    Emulates { what: String },
    /// KVM lacks something, or refused something.
    Lacks { what: String },
    /// It was told to stop.
    Stopped,
}

/// Run all stages on `kvm`, until `stop`.
pub(super) fn run(kvm: &Kvm, stop: &AtomicBool) -> Found {
    if let Some(what) = lacking(kvm) {
        return Found::Lacks { what };
    }
    let refused = |what: &str, error: io::Error| Found::Lacks { what: format!("could not {what}: {error}") };
    let mut vm = match ThrowAway::new(kvm) {
        Ok(vm) => vm,
        Err((what, error)) => return refused(what, error),
    };
    match vm.functional(stop) {
        Ok(Some(found)) => return found,
        Ok(None) => {}
        Err(error) => return refused("run a guest", error),
    }
    match per_instruction(|counted, rounds| vm.timing(counted, rounds, stop)) {
        Ok(Some(ns_per_instruction)) => Found::Executes { ns_per_instruction },
        Ok(None) => Found::Stopped,
        Err(error) => refused("run a guest", error),
    }
}

/// What `kvm` lacks.
fn lacking(kvm: &Kvm) -> Option<String> {
    let version = kvm.get_api_version();
    if version != KVM_API_VERSION as i32 {
        return Some(format!("its API is version {version}, not {KVM_API_VERSION}"));
    }
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(cap, _)| !kvm.check_extension(*cap)).map(|(_, name)| *name).collect();
    (!missing.is_empty()).then(|| format!("it lacks {}", missing.join(", ")))
}

/// A VM of one vCPU without devices.
struct ThrowAway {
    // In the order in which they may go: the vCPU, the VM, the memory that it maps.
    vcpu: Kickable,
    _vm: VmFd,
    ram: Arc<GuestRam>,
    /// Whether the CPU has `cmpxchg16b` and `lzcnt`.
    has: [bool; 2],
}

/// How a guest ended.
enum Ended {
    Halted,
    Stopped,
    Other(String),
}

impl ThrowAway {
    fn new(kvm: &Kvm) -> Result<Self, (&'static str, io::Error)> {
        fn failed(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> (&'static str, io::Error) {
            move |error| (what, io::Error::from(error))
        }
        let ram = GuestRam::new(&[guests::RAM_BYTES]).map_err(|e| ("map memory", e))?;
        let ram = Arc::new(ram);
        let vm = kvm.create_vm().map_err(failed("create a VM"))?;
        vm.set_tss_address(TSS_ADDRESS).map_err(failed("place the VM's task state segment"))?;
        for (slot, mapped) in (0..).zip(ram.mapped()) {
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: mapped.base,
                memory_size: mapped.bytes,
                userspace_addr: mapped.host,
            };
            // SAFETY: the range is mapped for as long as `ram` lives, which is dropped after the VM.
            unsafe { vm.set_user_memory_region(region) }.map_err(failed("give the VM memory"))?;
        }
        let vcpu = vm.create_vcpu(0).map_err(failed("create a vCPU"))?;
        let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(failed("read KVM's CPUID"))?;
        let bit = |leaf: u32, bit: u32| {
            cpuid.as_slice().iter().any(|entry| entry.function == leaf && entry.ecx >> bit & 1 == 1)
        };
        let has = [bit(1, 13), bit(0x8000_0001, 5)];
        vcpu.set_cpuid2(&cpuid).map_err(failed("set the vCPU's CPUID"))?;
        let sregs = vcpu.get_sregs().map_err(failed("read the vCPU's registers"))?;
        vcpu.set_sregs(&guests::long_mode(sregs)).map_err(failed("set the vCPU's registers"))?;
        let vcpu = Kickable::new(vcpu).map_err(|e| ("handle a signal", e))?;
        Ok(Self { vcpu, _vm: vm, ram, has })
    }

    /// Run `code` from its start.
    fn execute(&mut self, code: &[u8], stop: &AtomicBool) -> io::Result<Ended> {
        guests::load(&self.ram, code).map_err(io::Error::other)?;
        self.again(stop)
    }

    /// Run what is loaded from its start.
    fn again(&mut self, stop: &AtomicBool) -> io::Result<Ended> {
        let vcpu = self.vcpu.vcpu();
        vcpu.set_regs(&guests::regs(0))?;
        loop {
            if stop.load(Ordering::SeqCst) {
                return Ok(Ended::Stopped);
            }
            let other = match vcpu.run() {
                Ok(VcpuExit::Hlt) => return Ok(Ended::Halted),
                Ok(VcpuExit::Intr) => continue,
                Ok(VcpuExit::InternalError) => {
                    let rip = vcpu.get_regs()?.rip;
                    InternalError::of(vcpu.get_kvm_run()).describe(rip)
                }
                Ok(VcpuExit::Shutdown) => {
                    format!("an exception that it could not deliver, RIP {:#x}", vcpu.get_regs()?.rip)
                }
                Ok(other) => format!("exit {other:?}"),
                Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => {
                    vcpu.set_kvm_immediate_exit(0);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            return Ok(Ended::Other(other));
        }
    }

    fn word(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        // The data area is RAM, so that this cannot fail.
        let _ = self.ram.read(GuestPhys(guests::DATA + offset), &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// What is wrong with how the guest was executed.
    fn functional(&mut self, stop: &AtomicBool) -> io::Result<Option<Found>> {
        let emulates = |what: String| Ok(Some(Found::Emulates { what }));
        let [has_cmpxchg16b, has_lzcnt] = self.has;
        if !has_cmpxchg16b {
            return Ok(Some(Found::Lacks { what: "its guests have no cmpxchg16b".into() }));
        }
        let ended = self.execute(guests::probe(), stop)?;
        let stage = self.word(0) as u32;
        let doing = match stage {
            1 => "cmpxchg16b",
            2 => "SSE arithmetic",
            3 => "lzcnt",
            4 => "a breakpoint exception",
            5 => "the end",
            _ => "its first instruction",
        };
        match ended {
            Ended::Stopped => return Ok(Some(Found::Stopped)),
            Ended::Other(what) => return emulates(format!("at {doing}: {what}")),
            Ended::Halted if stage != 5 => return emulates(format!("it halted at {doing}")),
            Ended::Halted => {}
        }
        if (self.word(16), self.word(24)) != (5, 7) {
            return emulates("cmpxchg16b did not store its operands".into());
        }
        if self.word(8) != 0x2222 {
            return emulates(format!("paddq made {:#x} of 0x1111 and 0x1111", self.word(8)));
        }
        if has_lzcnt && self.word(32) != 59 {
            return emulates(format!("lzcnt counts {} zeros before 0x10 instead of 59", self.word(32)));
        }
        if self.word(40) as u32 != 3 {
            return emulates("int3 did not lead to its handler".into());
        }
        Ok(None)
    }

    /// The shortest time that a guest of so many instructions took in so many rounds; `None` when it was stopped. What only the
    /// first one has to do does not count, as it only makes that one longer.
    fn timing(&mut self, counted: u32, rounds: u32, stop: &AtomicBool) -> io::Result<Option<Duration>> {
        guests::load(&self.ram, guests::count()).map_err(io::Error::other)?;
        // Two instructions a pass.
        let passes = (counted / 2).to_le_bytes();
        self.ram.write(GuestPhys(guests::DATA), &passes).map_err(io::Error::other)?;
        let mut fastest = Duration::MAX;
        for _ in 0..rounds {
            let begun = Instant::now();
            match self.again(stop)? {
                Ended::Halted => fastest = fastest.min(begun.elapsed()),
                Ended::Stopped => return Ok(None),
                Ended::Other(what) => return Err(io::Error::other(what)),
            }
        }
        Ok(Some(fastest))
    }
}

/// What an instruction takes, in ns, by `fastest`: the shortest time that so many of them took in so many rounds.
fn per_instruction<E>(
    mut fastest: impl FnMut(u32, u32) -> Result<Option<Duration>, E>,
) -> Result<Option<f64>, E> {
    let each = |took: Duration, (counted, _): (u32, u32)| took.as_nanos() as f64 / f64::from(counted);
    let Some(took) = fastest(SHORT.0, SHORT.1)? else { return Ok(None) };
    if each(took, SHORT) <= MOST_NS_PER_INSTRUCTION || took >= LONGEST_EXIT {
        return Ok(Some(each(took, SHORT)));
    }
    Ok(fastest(LONG.0, LONG.1)?.map(|took| each(took, LONG)))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use kvm_ioctls::Kvm;

    use super::{Found, MOST_NS_PER_INSTRUCTION, SHORT, ThrowAway, lacking, per_instruction, run};

    /// KVM, where this host has it and it can carry a machine. That it opens is not enough: another hypervisor may have the
    /// CPU's virtualization.
    fn kvm() -> Option<Kvm> {
        let kvm =
            Kvm::new().inspect_err(|error| eprintln!("not tested, there is no KVM here: {error}")).ok()?;
        let lacks = lacking(&kvm).or_else(|| kvm.create_vm().err().map(|error| error.to_string()));
        if let Some(what) = &lacks {
            eprintln!("not tested, this KVM cannot carry a machine: {what}");
        }
        lacks.is_none().then_some(kvm)
    }

    #[test]
    fn a_guest_is_executed_and_timed() {
        let Some(kvm) = kvm() else { return };
        let stop = AtomicBool::new(false);
        let mut vm = ThrowAway::new(&kvm).unwrap();
        let took = vm.timing(SHORT.0, SHORT.1, &stop).unwrap().expect("nobody stops it");
        // No CPU executes so many dependent instructions in that time.
        assert!(took.as_nanos() > 50, "{took:?}");
        let long = vm.timing(100_000, 1, &stop).unwrap().expect("nobody stops it");
        assert!(long.as_nanos() > 5000, "{long:?}");
    }

    /// A CPU of 0.3 ns an instruction whose entry and exit take as long as given, and an emulator.
    #[test]
    fn a_slow_entry_and_exit_are_not_taken_for_slow_instructions() {
        let host = |ns_per_instruction: f64, exit_us: u64| {
            let mut asked = Vec::new();
            let took = per_instruction(|counted, _| {
                asked.push(counted);
                let executing = Duration::from_nanos((ns_per_instruction * f64::from(counted)) as u64);
                Ok::<_, Infallible>(Some(Duration::from_micros(exit_us) + executing))
            });
            let Ok(took) = took;
            (took.unwrap(), asked)
        };
        let (bare, asked) = host(0.3, 2);
        assert!(bare < 3.0 && asked == [1000], "{bare} {asked:?}");
        let (nested, asked) = host(0.3, 150);
        assert!(nested < 8.0 && asked == [1000, 20_000], "{nested} {asked:?}");
        let (emulator, asked) = host(700.0, 20);
        assert!(emulator > MOST_NS_PER_INSTRUCTION && asked == [1000, 20_000], "{emulator} {asked:?}");
        // It would take too long to ask it once more.
        let (slower, asked) = host(4784.0, 20);
        assert!(slower > MOST_NS_PER_INSTRUCTION && asked == [1000], "{slower} {asked:?}");
        let stopped = per_instruction(|_, _| Ok::<_, Infallible>(None));
        assert_eq!(stopped, Ok(None));
    }

    #[test]
    fn what_is_told_to_stop_finds_nothing() {
        let Some(kvm) = kvm() else { return };
        assert_eq!(run(&kvm, &AtomicBool::new(true)), Found::Stopped);
    }

    #[test]
    fn what_is_found_is_the_same_each_time() {
        let Some(kvm) = kvm() else { return };
        let kind = || std::mem::discriminant(&run(&kvm, &AtomicBool::new(false)));
        assert_eq!(kind(), kind());
    }
}
