//! The emulated machine, with a real kernel. Its init is `guest/probe.rs`, so that each case can be brought about
//! at will; boots take seconds, so that cases share them.

mod performance;
mod stale;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use guest_init::layout::{DOORBELL_PAGE, PROTOCOL_VERSION};
use guest_init::message::{ToGuest, ToHost};
use ktstr_record::channel::{GuestState, HostChannel, Received};
use ktstr_record::init_image;
use ktstr_record::machine::{
    ChannelRam, Machine, MachineError, MachineEvent, Start, StartError, StartKind, StartPolicy, Watch,
    WatchId, start,
};
use ktstr_record::provision::{KernelSpec, Provisioner};
use ktstr_record::spec::{BackendSpec, Emulator, Kernel, MachineSpec, Topology};
use ktstr_replay::kernel::{KernelProfile, KernelView};
use ktstr_replay::memory::Memory;
use ktstr_replay::trace::record::GuestEnd;
use ktstr_replay::units::{Cpu, GuestPhys};

// Orders and words of guest/probe.rs.
const RING: u64 = 1;
const PANIC: u64 = 2;
const POWER_OFF: u64 = 3;
const RESTART: u64 = 4;
const TOUCH: u64 = 5;
const CALL: u64 = 6;
const TRAP: u64 = 7;
const PATCH: u64 = 8;
const KPROBE: u64 = 9;
const ORDER: u64 = 0x200;
const DONE: u64 = 0x208;
const TICKS: u64 = 0x210;
const CPUS: u64 = 0x218;
const BOOT_ID: u64 = 0x220;
const RESULT: u64 = 0x228;

/// Longer than a boot, or anything else here, takes on a host that others use.
const LONG: Duration = Duration::from_secs(120);

/// One folder for all tests of this file, so that they share the slots.
static CACHE: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("machine-cache");
    fs::create_dir_all(&dir).unwrap();
    dir
});

/// The probe, compiled once for all processes of this test.
static PROBE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/probe.rs");
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("probe");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(rustc)
        .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols"])
        .args(["--target", "x86_64-unknown-linux-gnu", "-o"])
        .args([&program, &source])
        .env("PROTOCOL_VERSION", PROTOCOL_VERSION.to_string())
        .status()
        .unwrap();
    assert!(status.success());
    fs::read(program).unwrap()
});

/// The newest kernel that this host has or can get, and the emulator for it.
static PROVISIONED: LazyLock<(Emulator, Kernel)> = LazyLock::new(|| {
    let provisioner = Provisioner::open().unwrap();
    (provisioner.emulator().unwrap(), provisioner.kernel(&KernelSpec::Latest).unwrap())
});

fn spec() -> MachineSpec {
    let (emulator, kernel) = PROVISIONED.clone();
    MachineSpec {
        backend: BackendSpec::Qemu(emulator),
        kernel,
        topology: Topology { numa_nodes: 1, llcs: 1, cores_per_llc: 2, threads_per_core: 1 },
        memory_mib: 512,
        kaslr: false,
        kargs: Vec::new(),
        performance: false,
    }
}

fn emulator(spec: &mut MachineSpec) -> &mut Emulator {
    match &mut spec.backend {
        BackendSpec::Qemu(emulator) => emulator,
        other => panic!("{other:?}"),
    }
}

const COLD: StartPolicy = StartPolicy {
    cold: true,
    boot_timeout: LONG,
    patience: Duration::from_secs(600),
    say: |_| {},
    stop: || false,
};
const WARM: StartPolicy = StartPolicy { cold: false, ..COLD };

/// A running probe.
struct Guest {
    machine: Box<dyn Machine>,
    start: Start,
    base: u64,
}

impl Guest {
    fn start(spec: &MachineSpec, policy: StartPolicy) -> Self {
        Self::start_in(&CACHE, spec, policy)
    }

    fn start_in(cache: &Path, spec: &MachineSpec, policy: StartPolicy) -> Self {
        let (machine, start) = start(spec, &PROBE, cache, policy).unwrap();
        println!("{start:?}");
        Self { machine, start, base: spec.channel_base().0 }
    }

    fn word(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.machine.ram().read(GuestPhys(self.base + offset), &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn order(&self, order: u64) {
        self.machine.ram().write(GuestPhys(self.base + ORDER), &order.to_le_bytes()).unwrap();
    }

    #[track_caller]
    fn wait(&mut self) -> MachineEvent {
        self.machine.wait_event(LONG).expect("an event")
    }

    #[track_caller]
    fn ring(&mut self) -> Cpu {
        self.order(RING);
        match self.wait() {
            MachineEvent::Watch { id: WatchId::DOORBELL, vcpu } => vcpu,
            other => panic!("{other:?}"),
        }
    }

    /// Wait until a word changes from what it was.
    fn await_change(&self, offset: u64, from: u64) {
        let begun = Instant::now();
        while self.word(offset) == from {
            assert!(begun.elapsed() < LONG, "word {offset:#x} does not change");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// State and parent of a process, from `/proc/<pid>/stat`.
fn process(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn is_alive(pid: u32) -> bool {
    process(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

fn children_of(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| process(*pid).is_some_and(|(_, ppid)| ppid == parent)).collect()
}

/// Files and sockets that a process holds, that have a name, and that it could have made or changed.
fn named_files_written_by(pid: u32) -> Vec<PathBuf> {
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    let named = |fd: PathBuf| {
        let target = fs::read_link(&fd).ok()?;
        let text = target.to_str()?;
        if let Some(inode) = text.strip_prefix("socket:[").and_then(|t| t.strip_suffix(']')) {
            let line = sockets.lines().find(|l| l.split_whitespace().nth(6) == Some(inode))?;
            return line.split_whitespace().nth(7).map(PathBuf::from);
        }
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", fd.file_name()?.to_str()?)).ok()?;
        let flags = info.lines().find_map(|l| l.strip_prefix("flags:"))?;
        let writable = u32::from_str_radix(flags.trim(), 8).ok()? & 3 != 0;
        let kept = text.starts_with('/') && !text.starts_with("/memfd:") && !text.starts_with("/dev/");
        (writable && kept).then_some(target)
    };
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().filter_map(|e| named(e.path())).collect()
}

fn p50(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn stops_goes_on_rings_and_powers_off() {
    // Started by a thread that ends: the emulator must not end with it.
    let mut guest = std::thread::spawn(|| Guest::start(&spec(), COLD)).join().unwrap();
    // A boot that the emulator fails in is made once more, and told.
    assert_eq!(guest.start.kind, StartKind::Booted);
    assert_eq!(guest.start.attempts as usize, 1 + guest.start.faults.len(), "{:?}", guest.start);
    assert_eq!(guest.word(CPUS), 2);
    assert!(matches!(guest.machine.registers(), Err(MachineError::Running)));

    // All of a paused guest is stopped: its memory does not change.
    let (mut stops, mut conts) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        stops.push(guest.machine.pause().unwrap());
        let ticks = guest.word(TICKS);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(guest.word(TICKS), ticks);
        assert_eq!(guest.machine.pause().unwrap(), Duration::ZERO);
        conts.push(guest.machine.resume().unwrap());
        assert_eq!(guest.machine.resume().unwrap(), Duration::ZERO);
        guest.await_change(TICKS, ticks);
    }
    println!("pause p50 {:?}, resume p50 {:?}", p50(stops), p50(conts));

    // Registers of all vCPUs, in long mode with the kernel's page tables.
    guest.machine.pause().unwrap();
    let begun = Instant::now();
    let regs = guest.machine.registers().unwrap();
    println!("registers {:?}", begun.elapsed());
    assert_eq!(regs.iter().map(|r| r.cpu).collect::<Vec<_>>(), [Cpu(0), Cpu(1)]);
    for r in &regs {
        assert_eq!(r.efer & 0x500, 0x500, "long mode: {r:x?}");
        assert_eq!(r.cr0 >> 31 & 1, 1, "paging: {r:x?}");
        assert!(r.cr3 != 0 && r.cr3 < 512 << 20, "{r:x?}");
        // In the kernel it is the one that is in use, but for the first and last instructions there.
        let is_in_user = r.segments[0] & 3 == 3;
        let gs_of_kernel = [r.kernel_gs_base, r.gs_base].into_iter().take(if is_in_user { 1 } else { 2 });
        assert!(gs_of_kernel.into_iter().any(|base| base >> 47 == 0x1_ffff), "the per-CPU area: {r:x?}");
    }
    guest.machine.resume().unwrap();

    // The doorbell stops the vCPU at the very next instruction: the store is there, its effect is not yet.
    for _ in 0..20 {
        let done = guest.word(DONE);
        let vcpu = guest.ring();
        assert_eq!(guest.word(DONE), done);
        let regs = guest.machine.registers().unwrap();
        let rung = &regs[vcpu.0 as usize];
        assert_eq!(rung.segments[0] & 3, 3, "user mode");
        assert!(rung.gpr.contains(&DOORBELL_PAGE), "the store's address: {rung:x?}");
        guest.machine.resume().unwrap();
        guest.await_change(DONE, done);
    }

    watches_fire_by_their_ids(&mut guest);

    guest.order(POWER_OFF);
    let ended = guest.wait();
    assert!(matches!(&ended, MachineEvent::Ended { end: GuestEnd::PoweredOff, .. }), "{ended:?}");
    assert_eq!(guest.wait(), ended);
    assert!(matches!(guest.machine.resume(), Err(MachineError::Ended)));
    assert_eq!(guest.machine.registers().unwrap().len(), 2);
    let console = String::from_utf8_lossy(&guest.machine.console()).into_owned();
    assert!(console.contains("probe: ready") && console.contains("Power down"), "{console}");
    assert!(guest.machine.console().is_empty());
}

/// Write watches and breakpoints, beside the doorbell, on a probe that runs.
fn watches_fire_by_their_ids(guest: &mut Guest) {
    const WORD: WatchId = WatchId(7);
    const AFTER_THE_STORE: WatchId = WatchId(8);
    let word = Watch::Write { at: DOORBELL_PAGE + 8, bytes: 8 };
    assert!(matches!(guest.machine.arm(WORD, word), Err(MachineError::Running)));
    assert!(matches!(guest.machine.disarm(WatchId::DOORBELL), Err(MachineError::Running)));

    // A watch on the word after the doorbell fires at a store to it, and the doorbell does not.
    guest.machine.pause().unwrap();
    guest.machine.arm(WORD, word).unwrap();
    assert!(
        matches!(guest.machine.arm(WORD, word), Err(MachineError::Unsupported { .. })),
        "the id is taken"
    );
    let nothing = Watch::Write { at: DOORBELL_PAGE + 16, bytes: 0 };
    assert!(matches!(guest.machine.arm(AFTER_THE_STORE, nothing), Err(MachineError::Unsupported { .. })));
    guest.machine.resume().unwrap();
    let done = guest.word(DONE);
    guest.order(TOUCH);
    let MachineEvent::Watch { id: WORD, vcpu } = guest.wait() else { panic!("not the watch") };
    assert_eq!(guest.word(DONE), done, "it stopped right after the store");
    let registers = guest.machine.registers().unwrap();
    let has = |address| registers[vcpu.0 as usize].gpr.contains(&address);
    assert!(has(DOORBELL_PAGE) || has(DOORBELL_PAGE + 8), "the probe's page: {registers:x?}");

    // Disarmed, it fires no more.
    guest.machine.disarm(WORD).unwrap();
    guest.machine.disarm(WORD).unwrap();
    guest.machine.resume().unwrap();
    guest.await_change(DONE, done);
    guest.order(TOUCH);
    guest.await_change(DONE, done + 1);
    assert_eq!(guest.machine.wait_event(Duration::from_millis(20)), None);

    // A breakpoint where the probe stands after its store to the doorbell: it fires before that instruction, each time
    // that it is reached, and the probe gets past it.
    let mut vcpu = guest.ring();
    let rip = |guest: &mut Guest, vcpu: Cpu| guest.machine.registers().unwrap()[vcpu.0 as usize].rip;
    let after_the_store = rip(guest, vcpu);
    guest.machine.arm(AFTER_THE_STORE, Watch::Execute { at: after_the_store }).unwrap();
    for _ in 0..3 {
        let done = guest.word(DONE);
        guest.machine.resume().unwrap();
        assert_eq!(guest.wait(), MachineEvent::Watch { id: AFTER_THE_STORE, vcpu });
        assert_eq!((rip(guest, vcpu), guest.word(DONE)), (after_the_store, done));
        guest.machine.resume().unwrap();
        guest.await_change(DONE, done);
        vcpu = guest.ring();
        assert_eq!(rip(guest, vcpu), after_the_store);
    }
    guest.machine.disarm(AFTER_THE_STORE).unwrap();
    let done = guest.word(DONE);
    guest.machine.resume().unwrap();
    guest.await_change(DONE, done);
    assert_eq!(guest.machine.wait_event(Duration::from_millis(20)), None);
}

/// A doorbell that rings while the host pauses must neither be lost nor come twice, whichever is first.
#[test]
fn no_doorbell_is_lost_among_pauses() {
    let mut guest = Guest::start(&spec(), WARM);
    let (mut rings, mut coincided) = (0u64, 0);
    for round in 0..300u64 {
        let done = guest.word(DONE);
        guest.order(RING);
        // The probe looks every millisecond or so: pauses fall before, after and upon the store.
        let until = Instant::now() + Duration::from_micros(200 + round * 7 % 1500);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        let mut heard = 0;
        let begun = Instant::now();
        while guest.word(DONE) == done {
            assert!(begun.elapsed() < LONG, "round {round}: it is not heard, or not answered");
            guest.machine.pause().unwrap();
            let was_stopped = guest.machine.resume().unwrap() == Duration::ZERO;
            match guest.machine.wait_event(Duration::from_millis(1)) {
                Some(MachineEvent::Watch { id: WatchId::DOORBELL, .. }) => {
                    heard += 1;
                    coincided += u64::from(was_stopped);
                    guest.machine.resume().unwrap();
                    guest.await_change(DONE, done);
                }
                None => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(heard, 1, "round {round}");
        rings += 1;
    }
    println!("{rings} rings, {coincided} of them upon a pause");
    assert_eq!(guest.machine.wait_event(Duration::from_millis(50)), None);
}

/// The init that real runs have, by the channel that they use.
#[test]
fn the_embedded_init_is_heard_booted_and_restored() {
    let (cache, spec) = (tempfile::tempdir().unwrap(), spec());
    for kind in [StartKind::BootedAndSaved, StartKind::Restored] {
        let begun = Instant::now();
        let (mut machine, start) = start(&spec, init_image(), cache.path(), WARM).unwrap();
        assert_eq!((start.kind, start.faults), (kind, Vec::new()));
        let mut channel = HostChannel::new(ChannelRam::new(machine.ram(), spec.channel_base()).unwrap());
        assert_eq!(channel.state(), GuestState::Ready);
        let ready = channel.poll().into_iter().find_map(|received| match received {
            Received::Frame { message: ToHost::Ready { release }, .. } => Some(release),
            _ => None,
        });
        assert_eq!(ready.as_deref(), Some(spec.kernel.release.as_str()));
        channel.send(&ToGuest::Stop, Instant::now() + LONG).unwrap();
        let event = machine.wait_event(LONG);
        let powered_off =
            Some(MachineEvent::Ended { end: GuestEnd::PoweredOff, detail: "guest-shutdown".into() });
        assert_eq!(event, powered_off, "{}", String::from_utf8_lossy(&machine.console()));
        println!("{kind:?}: {:?} to ready, {:?} to power-off", start.duration, begun.elapsed());
    }
}

#[test]
fn a_panic_and_a_reset_keep_memory_and_registers() {
    for (order, expected) in [(PANIC, GuestEnd::Panicked), (RESTART, GuestEnd::Reset)] {
        let mut guest = Guest::start(&spec(), WARM);
        let id = guest.word(BOOT_ID);
        guest.order(order);
        match guest.wait() {
            MachineEvent::Ended { end, detail } => {
                assert_eq!(end, expected, "{detail}");
                assert_eq!(detail.contains("Attempted to kill init"), order == PANIC, "{detail}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(guest.word(BOOT_ID), id);
        assert_eq!(guest.machine.registers().unwrap().len(), 2);
        guest.machine.kill();
        assert_eq!(guest.word(BOOT_ID), id, "even when the emulator is gone");
        let console = String::from_utf8_lossy(&guest.machine.console()).into_owned();
        assert_eq!(console.contains("Kernel panic"), order == PANIC, "{console}");
    }
}

#[test]
fn a_template_is_made_once_and_holds_the_same_machine() {
    let cache = tempfile::tempdir().unwrap();
    let mut starts = std::thread::scope(|scope| {
        let run = || {
            let mut guest = Guest::start_in(cache.path(), &spec(), WARM);
            let (id, ticks, cpus) = (guest.word(BOOT_ID), guest.word(TICKS), guest.word(CPUS));
            guest.await_change(TICKS, ticks);
            guest.ring();
            guest.machine.resume().unwrap();
            (guest.start.clone(), id, cpus)
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
    });
    starts.sort_by_key(|(start, ..)| start.kind == StartKind::Restored);
    let kinds: Vec<_> = starts.iter().map(|(start, ..)| start.kind).collect();
    assert_eq!(kinds, [StartKind::BootedAndSaved, StartKind::Restored, StartKind::Restored]);
    let is_told = |start: &Start| start.attempts as usize == 1 + start.faults.len();
    assert!(starts.iter().all(|(start, ..)| is_told(start)), "{starts:?}");
    assert!(starts.iter().all(|(_, id, cpus)| (id, cpus) == (&starts[0].1, &2)));

    // A damaged template is told, replaced, and the next one is whole again.
    let templates = fs::read_dir(cache.path().join("templates")).unwrap().map(|e| e.unwrap().path());
    let template = templates.into_iter().find(|path| path.is_dir()).unwrap();
    let mut ram = fs::read(template.join("ram")).unwrap();
    let middle = ram.len() / 2;
    ram[middle] ^= 1;
    fs::write(template.join("ram"), ram).unwrap();
    let guest = Guest::start_in(cache.path(), &spec(), WARM);
    assert_eq!(guest.start.kind, StartKind::BootedAndSaved);
    assert!(guest.start.faults.iter().any(|f| f.contains("checksum of its RAM")), "{:?}", guest.start);
    assert_ne!(guest.word(BOOT_ID), starts[0].1);
    drop(guest);
    let guest = Guest::start_in(cache.path(), &spec(), WARM);
    assert_eq!((guest.start.kind, guest.start.faults.len()), (StartKind::Restored, 0));
}

#[test]
fn nodes_llcs_and_kaslr() {
    let mut spec = spec();
    spec.topology = Topology { numa_nodes: 2, llcs: 2, cores_per_llc: 1, threads_per_core: 2 };
    spec.kaslr = true;
    let cache = tempfile::tempdir().unwrap();
    for kind in [StartKind::BootedAndSaved, StartKind::Restored] {
        let mut guest = Guest::start_in(cache.path(), &spec, WARM);
        assert_eq!((guest.start.kind, guest.start.faults.len()), (kind, 0));
        assert_eq!(guest.word(CPUS), 4);
        guest.ring();
        let regs = guest.machine.registers().unwrap();
        assert_eq!(regs.len(), 4);
        assert!(regs.iter().all(|r| r.cr4 >> 12 & 1 == 1), "5-level paging: {regs:x?}");
        assert_ne!(guest.word(BOOT_ID), 0);
    }
}

#[test]
fn the_host_places_a_kernel_anew_at_each_boot() {
    let mut spec = spec();
    spec.kaslr = true;
    let placed = |spec: &MachineSpec| {
        let cold = StartPolicy { cold: true, ..WARM };
        let guest = Guest::start(spec, cold);
        assert_eq!(guest.start.faults, [""; 0]);
        let ram = guest.machine.ram();
        let profile = KernelProfile::from_memory(ram.as_ref()).unwrap();
        let view = KernelView::new(&profile, ram.as_ref());
        let text = profile.symbol("_text").unwrap();
        let (physical, _) = profile.page_table().translate(ram.as_ref(), text).unwrap();
        (text, view.u64(view.symbol("page_offset_base").unwrap()).unwrap(), physical)
    };
    let (first, second) = (placed(&spec), placed(&spec));
    // One pair in 480 would agree by chance, one in some thousands for the direct map.
    assert_ne!(first.0, second.0, "virtual address of the kernel");
    assert_ne!(first.1, second.1, "the kernel does not place its other regions at random: the flag was lost");
    // The host has put it below the channel; the kernel's own loader takes all of RAM.
    assert!(first.2 < spec.channel_base() && second.2 < spec.channel_base(), "{first:x?} {second:x?}");
    spec.kargs = vec!["nokaslr".into()];
    let linked = placed(&spec);
    assert_eq!(linked.0.0, 0xffff_ffff_8100_0000, "the kernel's own loader obeys its words");
}

#[test]
fn a_kernel_that_panics_or_hangs_is_an_error_in_bounded_time() {
    let mut panics = spec();
    panics.kargs = vec!["rdinit=/none".into(), "root=/dev/none".into()];
    let error = start(&panics, &PROBE, &CACHE, WARM).err().expect("no init, no machine");
    match &error {
        StartError::Boot { attempts: 2, fault, console, .. } => {
            assert!(fault.contains("Panicked"), "{fault}");
            assert!(console.contains("Unable to mount root fs"), "{console}");
        }
        other => panic!("{other}"),
    }
    println!("{error}");

    let hurried = StartPolicy { boot_timeout: Duration::from_millis(300), ..COLD };
    let begun = Instant::now();
    let error = start(&spec(), &PROBE, &CACHE, hurried).err().expect("no kernel boots in 0.3 s");
    assert!(error.to_string().contains("init was not ready within 0.3 s"), "{error}");
    // Also where it waits for the CPUs that the machines of other tests have.
    assert!(begun.elapsed() < COLD.patience + LONG);
}

#[test]
fn what_cannot_be_started_is_said_before() {
    let refusal = |change: fn(&mut MachineSpec)| {
        let mut spec = spec();
        change(&mut spec);
        start(&spec, &PROBE, &CACHE, WARM).err().expect("a refusal")
    };
    let missing = refusal(|s| s.kernel.vmlinux = "/nonexistent/vmlinux".into());
    assert!(missing.to_string().contains("/nonexistent/vmlinux"), "{missing}");
    let no_emulator = refusal(|s| emulator(s).command = vec!["/nonexistent/qemu".into()]);
    assert!(matches!(&no_emulator, StartError::Host { .. }), "{no_emulator}");
    assert!(no_emulator.to_string().contains("/nonexistent/qemu"), "{no_emulator}");
    let wrong_emulator = refusal(|s| emulator(s).command = vec!["/bin/ls".into()]);
    assert!(wrong_emulator.to_string().contains("ls: "), "its own words: {wrong_emulator}");
    assert!(matches!(refusal(|s| s.memory_mib = 1 << 30), StartError::TooMuchMemory { .. }));
    assert!(matches!(refusal(|s| s.topology.cores_per_llc = 0), StartError::Topology { .. }));
}

/// Not a test of its own: the runner that the next test kills.
#[test]
#[ignore = "run by nothing_outlives_a_killed_runner"]
fn runner_to_be_killed() {
    let mut guest = Guest::start(&spec(), WARM);
    println!("runner: ready");
    guest.machine.wait_event(Duration::from_secs(600));
}

#[test]
fn nothing_outlives_a_killed_runner() {
    for signal in ["KILL", "INT", "TERM"] {
        let mut runner = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "runner_to_be_killed", "--nocapture"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(runner.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "runner: ready"));
        let emulators = children_of(runner.id());
        assert_eq!(emulators.len(), 1);
        assert_eq!(named_files_written_by(emulators[0]), Vec::<PathBuf>::new());
        let killed = Command::new("kill").args(["-s", signal, &runner.id().to_string()]).status().unwrap();
        assert!(killed.success());
        runner.wait().unwrap();
        let begun = Instant::now();
        while is_alive(emulators[0]) {
            assert!(begun.elapsed() < Duration::from_secs(60), "the emulator outlives {signal}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_killed_emulator_is_an_end() {
    // A word by which to tell the emulator from those of the tests that run beside this one.
    let mut spec = spec();
    spec.kargs = vec!["ktstr.test=killed".into()];
    let mut guest = Guest::start(&spec, COLD);
    let is_ours = |pid: &u32| {
        let args = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&args).contains("ktstr.test=killed")
    };
    let emulator =
        children_of(std::process::id()).into_iter().find(is_ours).expect("the emulator is our child");
    assert!(Command::new("kill").args(["-s", "KILL", &emulator.to_string()]).status().unwrap().success());
    match guest.wait() {
        MachineEvent::Ended { end: GuestEnd::MachineDied, detail } => {
            assert!(detail.contains("SIGKILL"), "{detail}")
        }
        other => panic!("{other:?}"),
    }
    assert!(guest.machine.pause().is_ok(), "it is stopped");
    assert!(guest.machine.registers().is_err());
    assert!(guest.machine.resume().is_err());
    assert_ne!(guest.word(BOOT_ID), 0, "memory is still there");
    assert!(!is_alive(emulator), "and it is reaped");
}
