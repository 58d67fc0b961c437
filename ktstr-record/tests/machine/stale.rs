//! Stale breakpoints: mended where the emulator makes them, and no other breakpoint disturbed.

use std::time::{Duration, Instant};

use ktstr_record::machine::{MachineEvent, StaleBreakpoint, StartKind, Watch, WatchId};
use ktstr_replay::kernel::KernelProfile;
use ktstr_replay::memory::Memory;
use ktstr_replay::trace::record::GuestEnd;
use ktstr_replay::units::{GuestPhys, KernelVirt};

use super::{CALL, DONE, Guest, KPROBE, LONG, PATCH, POWER_OFF, RESULT, TRAP, WARM, spec};

const AT_INT3: WatchId = WatchId(1);
const INT3: u8 = 0xcc;

impl Guest {
    /// Give an order and wait until it is carried out, attending to the machine meanwhile.
    fn obey(&mut self, order: u64) -> u64 {
        let done = self.word(DONE);
        self.order(order);
        self.await_done(done);
        self.word(RESULT)
    }

    fn await_done(&mut self, done: u64) {
        let begun = Instant::now();
        while self.word(DONE) == done {
            assert_eq!(self.machine.wait_event(Duration::from_millis(1)), None);
            assert!(begun.elapsed() < LONG, "the order is not carried out");
        }
    }

    fn byte(&self, at: GuestPhys) -> u8 {
        let mut byte = [0];
        self.machine.ram().read(at, &mut byte).unwrap();
        byte[0]
    }

    /// Change a byte behind the emulator's back, which does not forget what it has translated of it.
    fn put(&self, at: GuestPhys, byte: u8) {
        self.machine.ram().write(at, &[byte]).unwrap();
    }
}

/// A function of the kernel with a breakpoint for its first byte, put there before anyone executes it.
struct Patched {
    at: KernelVirt,
    physical: GuestPhys,
    byte: u8,
}

impl Patched {
    /// The system call that the order CALL makes. The machine is left stopped, with a watch on `exc_int3`.
    fn new(guest: &mut Guest) -> Self {
        let ram = guest.machine.ram();
        let kernel = KernelProfile::from_memory(ram.as_ref()).unwrap();
        let at = kernel.symbol("__x64_sys_getsid").unwrap();
        let (physical, _) = kernel.page_table().translate(ram.as_ref(), at).unwrap();
        guest.machine.pause().unwrap();
        let watch = Watch::Execute { at: kernel.symbol("exc_int3").unwrap().0 };
        guest.machine.arm(AT_INT3, watch).unwrap();
        let byte = guest.byte(physical);
        guest.put(physical, INT3);
        guest.machine.resume().unwrap();
        Self { at, physical, byte }
    }
}

#[test]
fn a_stale_breakpoint_is_mended_and_told_booted_and_restored() {
    let (cache, mut spec) = (tempfile::tempdir().unwrap(), spec());
    spec.kaslr = true;
    for kind in [StartKind::BootedAndSaved, StartKind::Restored] {
        let mut guest = Guest::start_in(cache.path(), &spec, WARM);
        assert_eq!((guest.start.kind, guest.start.faults.len()), (kind, 0));
        let patched = Patched::new(&mut guest);
        let done = guest.word(DONE);
        guest.order(CALL);
        let MachineEvent::Watch { id: AT_INT3, vcpu } = guest.wait() else { panic!("not the breakpoint") };

        // From here on, only the emulator's translation has the breakpoint.
        guest.put(patched.physical, patched.byte);
        guest.machine.disarm(AT_INT3).unwrap();
        guest.machine.resume().unwrap();
        guest.await_done(done);
        let stale = StaleBreakpoint { vcpu, at: patched.at, replaced: true };
        assert_eq!(guest.machine.stale_breakpoints(), [stale], "executed as in memory at the first attempt");

        // It does not come back, now or when the machine has stopped to look out for more.
        let result = guest.word(RESULT);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(2500) {
            assert_eq!(guest.obey(CALL), result);
        }
        assert_eq!(guest.machine.stale_breakpoints(), []);
        guest.order(POWER_OFF);
        let ended = guest.wait();
        assert!(matches!(ended, MachineEvent::Ended { end: GuestEnd::PoweredOff, .. }), "{ended:?}");
        let console = guest.machine.console_text();
        assert!(!console.contains("Oops"), "{console}");
    }
}

/// The breakpoint stays in memory, so that it is no fault of the emulator that nobody knows of it.
#[test]
fn a_breakpoint_that_is_there_is_the_kernels_death() {
    let mut guest = Guest::start(&spec(), WARM);
    let patched = Patched::new(&mut guest);
    guest.order(CALL);
    // Executed, and once more, in case the kernel has come to know it meanwhile. Breakpoints of the kernel's own come there, too.
    let mut stops = 0;
    let ended = loop {
        match guest.wait() {
            MachineEvent::Watch { id: AT_INT3, .. } => stops += 1,
            event => break event,
        }
        assert!(stops < 100, "it goes on and on");
        guest.machine.resume().unwrap();
    };
    assert!(stops >= 2, "{stops} stops, {ended:?}");
    assert!(matches!(ended, MachineEvent::Ended { end: GuestEnd::Panicked, .. }), "{ended:?}");
    let console = guest.machine.console_text();
    assert!(console.contains("Oops: int3") && console.contains("__x64_sys_getsid"), "{console}");
    let told = guest.machine.stale_breakpoints();
    assert!(
        matches!(told[..], [StaleBreakpoint { at, replaced: false, .. }] if at == patched.at),
        "{told:?}"
    );
}

#[test]
fn other_breakpoints_are_not_disturbed() {
    let mut guest = Guest::start(&spec(), WARM);
    assert_eq!(guest.obey(TRAP), 3, "each int3 of a program is its signal");
    assert_eq!(guest.machine.stale_breakpoints(), []);
    assert_eq!(guest.obey(KPROBE), 3, "a kprobe's breakpoint is the kernel's own");
    assert_eq!(guest.machine.stale_breakpoints(), []);
    assert_eq!(guest.obey(PATCH), 40, "the kernel patches its code");
    let stale = guest.machine.stale_breakpoints();
    println!("{} stale breakpoints in 40 patches", stale.len());
    let console = guest.machine.console_text();
    assert!(!console.contains("Oops"), "{console}");
}
