//! From a spec to a machine that waits for its job.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use guest_init::layout::{
    MAGIC, OFF_MAGIC, OFF_STATE, OFF_VERSION, PROTOCOL_VERSION, STATE_ATTACHED, STATE_READY,
};
use ktstr_replay::memory::Memory;
use ktstr_replay::trace::record::GuestEnd;
use ktstr_replay::trace::record::manifest::PerformancePart;
use ktstr_replay::units::{GuestNs, GuestPhys};

use super::attached::AttachedTemplate;
use super::error::{MachineError, StartError, tail};
use super::host_cpus::HostCpus;
use super::interface::{AttemptError, Backend, Machine, MachineEvent};
use super::limits::{HostLimits, host_cpus};
use super::performance::{KeptTo, Tuning};
use super::placing::Placing;
use super::ram::GuestRam;
use super::served::{Lateness, MOST_TIMES, ServedLimit, Withheld};
use super::slots::{Access, CpuSlots};
use super::template::{Key, Store, Template};
use crate::initramfs;
use crate::spec::MachineSpec;

/// Boots that are tried: the second one because an emulator can fail a kernel that is without fault.
const BOOT_ATTEMPTS: u32 = 2;
/// How often a booting guest is asked whether it is ready.
const READY_POLL: Duration = Duration::from_millis(1);
/// Begins a message of the kernel that it is broken (`arch/x86/kernel/dumpstack.c`, `kernel/panic.c`).
const FAULT_MARKS: [&str; 3] = ["Kernel panic - not syncing", "Oops: ", "BUG: "];
/// Begins the line of init that says why it cannot do its job.
const INIT_SAYS: &str = "guest-init: ";
/// What is shown of the console in errors.
const CONSOLE_TAIL_BYTES: usize = 4000;

/// How to start.
#[derive(Clone, Copy, Debug)]
pub struct StartPolicy {
    /// Boot, and neither restore nor save a template.
    pub cold: bool,
    /// How long a boot may take until init is ready, where no more than two vCPUs share a CPU of the host. Of a machine with
    /// more it may take that many times as long. Time in which the host does not run the machine does not count, up to ten times
    /// the limit.
    pub boot_timeout: Duration,
    /// How long to wait for other machines of this cache: for their CPUs, and for a template that one of them makes.
    pub patience: Duration,
    /// Told when it waits for those.
    pub say: fn(&str),
    /// Whether this process is to end, so that nothing is waited for any more.
    pub stop: fn() -> bool,
}

impl Default for StartPolicy {
    fn default() -> Self {
        let (boot_timeout, patience) = (Duration::from_secs(30), Duration::from_secs(1800));
        Self { cold: false, boot_timeout, patience, say: |_| {}, stop: || false }
    }
}

/// How a machine was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// By which way.
    pub kind: StartKind,
    /// Machines that were started for it, 1 when all went well.
    pub attempts: u32,
    /// What went wrong on the way: boots that failed, templates that were damaged or could not be saved.
    pub faults: Vec<String>,
    /// From the moment that the host's CPUs were free to the moment that init was ready for its job.
    pub duration: Duration,
    /// How long it waited for other machines before that.
    pub waited: Duration,
    /// Of a machine in performance mode what came of each part.
    pub performance: Vec<PerformancePart>,
}

/// The ways to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartKind {
    /// The kernel was booted.
    Booted,
    /// The machine was restored from a template.
    Restored,
    /// The machine was restored from a template in which the scheduler is enabled; init waits for the test.
    Attached {
        /// The guest's time when that was saved: what is earlier is of the template.
        saved_at: GuestNs,
    },
    /// The kernel was booted, and the machine saved as a template before it went on.
    BootedAndSaved,
}

/// A machine that was started.
pub struct Started {
    /// It runs.
    pub machine: Box<dyn Machine>,
    /// How it came about.
    pub start: Start,
    /// Where the machine is to be saved when the scheduler is enabled; `None` without a scheduler, with one that is
    /// enabled already, and where templates are not wanted.
    pub attached: Option<AttachedTemplate>,
}

/// Start the machine of `spec` by `backend`, with `init` as its only program, up to the point where init waits for its
/// job, or where the scheduler of this digest is enabled. It runs.
pub(super) fn start<B: Backend>(
    backend: &B,
    spec: &MachineSpec,
    init: &[u8],
    cache_dir: &Path,
    policy: StartPolicy,
    scheduler: Option<&str>,
) -> Result<Started, StartError> {
    let host = HostLimits::measure();
    backend.check(&host)?;
    let image = spec.boot_image();
    File::open(image).map_err(|source| StartError::Missing {
        what: "the kernel",
        path: image.to_owned(),
        source,
    })?;
    let initrd = initramfs::newc(init)?;

    let host = HostCpus::read();
    let placing = placing(spec, &host)?;
    let asked = Instant::now();
    let mut slots = CpuSlots::take(cache_dir, spec.topology.cpus(), &host, placing.as_ref(), &policy)?;
    let waited = asked.elapsed();
    // What is started inherits it.
    let _kept_to = slots.keep_to.take().map(|cpus| KeptTo::these(&cpus)).transpose().map_err(|source| {
        StartError::Host { what: "keep to the CPUs that no other machine has reserved".into(), source }
    })?;
    let mut starter = Starter {
        backend,
        spec,
        initrd: &initrd,
        tuning: slots.placement.take().map(|placement| Tuning::new(placement, &host)),
        policy,
        begun: Instant::now(),
        attempts: 0,
        faults: Vec::new(),
    };
    let (mut machine, kind, attached) = match policy.cold || !backend.templates() {
        true => (starter.boot()?, StartKind::Booted, None),
        false => starter.warm(cache_dir, scheduler)?,
    };
    B::hold(&mut machine, slots);
    let Starter { begun, attempts, faults, tuning, .. } = starter;
    let performance = tuning.map(Tuning::into_parts).unwrap_or_default();
    let start = Start { kind, attempts, faults, duration: begun.elapsed(), waited, performance };
    Ok(Started { machine: Box::new(machine), start, attached })
}

/// How the vCPUs of `spec` are placed on `host`, if they are to have CPUs of their own.
pub(super) fn placing(spec: &MachineSpec, host: &HostCpus) -> Result<Option<Placing>, StartError> {
    let placing = spec.performance.then(|| Placing::of(spec.topology, host)).transpose();
    placing.map_err(|why| StartError::Performance { why })
}

/// One start, with what has happened so far.
struct Starter<'a, B> {
    backend: &'a B,
    spec: &'a MachineSpec,
    initrd: &'a [u8],
    tuning: Option<Tuning>,
    policy: StartPolicy,
    begun: Instant,
    attempts: u32,
    faults: Vec<String>,
}

impl<B: Backend> Starter<'_, B> {
    /// The machine with its scheduler enabled, if there is a template of that; else the machine that waits for its job, and
    /// where to save the other.
    fn warm(
        &mut self,
        cache_dir: &Path,
        scheduler: Option<&str>,
    ) -> Result<(B::Machine, StartKind, Option<AttachedTemplate>), StartError> {
        let unusable = |source| StartError::Cache { path: cache_dir.join("templates"), source };
        let store = Store::open(cache_dir).map_err(unusable)?;
        let key = Key::of(self.backend.key(), self.initrd);
        let mut attached = None;
        if let Some(digest) = scheduler {
            let key = key.with_scheduler(digest);
            if let Some((machine, saved_at)) = self.attached(&store, &key)? {
                return Ok((machine, StartKind::Attached { saved_at }, None));
            }
            attached = Some(AttachedTemplate::new(store.clone(), key));
        }
        let (machine, kind) = self.ready(&store, &key)?;
        Ok((machine, kind, attached))
    }

    fn lock(&self, store: &Store, key: &Key, access: Access) -> Result<File, StartError> {
        let asked = Instant::now();
        let unusable = |source| StartError::Cache { path: store.root().to_owned(), source };
        let tell = || (self.policy.say)("waiting for a template that another machine of tests makes");
        let deadline = asked + self.policy.patience;
        let locked = store.lock(key, access, deadline, tell, self.policy.stop).map_err(unusable)?;
        if locked.is_none() && (self.policy.stop)() {
            return Err(StartError::Interrupted);
        }
        locked
            .ok_or_else(|| StartError::TemplateBusy { waited: asked.elapsed(), dir: store.root().to_owned() })
    }

    /// Restore the template of a machine with its scheduler; one that is damaged is removed.
    fn attached(&mut self, store: &Store, key: &Key) -> Result<Option<(B::Machine, GuestNs)>, StartError> {
        let shared = self.lock(store, key, Access::Shared)?;
        let faults = self.faults.len();
        let restored = self.restore_or_note(store, key, STATE_ATTACHED)?;
        if restored.is_none() && self.faults.len() > faults {
            drop(shared);
            let _exclusive = self.lock(store, key, Access::Exclusive)?;
            self.remove(store, key);
        }
        Ok(restored)
    }

    /// Restore the template of a machine that waits for its job; make it where there is none or a damaged one.
    fn ready(&mut self, store: &Store, key: &Key) -> Result<(B::Machine, StartKind), StartError> {
        let shared = self.lock(store, key, Access::Shared)?;
        if let Some((machine, _)) = self.restore_or_note(store, key, STATE_READY)? {
            return Ok((machine, StartKind::Restored));
        }
        drop(shared);
        let _exclusive = self.lock(store, key, Access::Exclusive)?;
        // Another machine may have made it while we waited.
        if let Some((machine, _)) = self.restore_or_note(store, key, STATE_READY)? {
            return Ok((machine, StartKind::Restored));
        }
        self.remove(store, key);
        let mut machine = self.boot()?;
        match save(&mut machine, store, key) {
            Ok(()) => Ok((machine, StartKind::BootedAndSaved)),
            Err(SaveError::NotKept(why)) => {
                self.faults.push(format!("the template could not be saved: {why}"));
                Ok((machine, StartKind::Booted))
            }
            Err(SaveError::Lost(e)) => {
                self.faults.push(format!("the machine did not survive being saved: {e}"));
                Ok((self.boot()?, StartKind::Booted))
            }
        }
    }

    fn remove(&mut self, store: &Store, key: &Key) {
        if let Err(e) = store.remove(key) {
            self.faults.push(format!("the damaged template could not be removed: {e}"));
        }
    }

    /// A machine from the template of `key`, which must be in this state, and the guest's time in the template; `None` if
    /// there is none, or if it fails, which is noted.
    fn restore_or_note(
        &mut self,
        store: &Store,
        key: &Key,
        state: u32,
    ) -> Result<Option<(B::Machine, GuestNs)>, StartError> {
        let template = match store.find(key) {
            Ok(None) => return Ok(None),
            Ok(Some(template)) => template,
            Err(damage) => {
                self.note(damage.to_string());
                return Ok(None);
            }
        };
        match self.restore(&template, state)? {
            Ok(machine) => Ok(Some((machine, template.guest_ns))),
            Err(why) => {
                self.note(why);
                Ok(None)
            }
        }
    }

    /// Keep a fault once, though a damaged template is met twice.
    fn note(&mut self, fault: String) {
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    fn restore(&mut self, template: &Template, state: u32) -> Result<Result<B::Machine, String>, StartError> {
        self.attempts += 1;
        let failed = |error| Ok(Err(format!("the template could not be restored: {error}")));
        let restored = self.tuned(|backend, initrd, tuning| backend.restore(initrd, template, tuning));
        let mut machine = match restored {
            Ok(machine) => machine,
            Err(AttemptError::Host(error)) => return Err(error),
            Err(AttemptError::Machine(error)) => return failed(error),
            Err(AttemptError::Template(damage)) => return Ok(Err(damage.to_string())),
        };
        // Before it goes on, which would be a change of the state.
        match readiness(&machine.ram(), self.spec, state) {
            Readiness::Ready => {}
            other => return Ok(Err(format!("the template holds no machine that is ready: {other:?}"))),
        }
        if let Err(error) = machine.resume() {
            return failed(error);
        }
        Ok(Ok(machine))
    }

    /// Boot until init is ready, with a second attempt.
    fn boot(&mut self) -> Result<B::Machine, StartError> {
        let mut attempts = 0;
        loop {
            let begun = Instant::now();
            attempts += 1;
            self.attempts += 1;
            let fault = match self.boot_once()? {
                Ok(machine) => return Ok(machine),
                Err(fault) => fault,
            };
            if (self.policy.stop)() {
                return Err(StartError::Interrupted);
            }
            if let Some(failure) = init_failure(&fault.console) {
                // Another attempt would find the same kernel.
                let failure = failure.to_owned();
                return Err(StartError::Init { failure, console: fault.console });
            }
            if attempts == BOOT_ATTEMPTS || fault.is_at_bound {
                // What the one before lacked is not the reason where this one had its time, or has a fault that time does not mend.
                let BootFault { what: fault, console, withheld, .. } = fault;
                let took = begun.elapsed();
                return Err(StartError::Boot { attempts, fault, console, took, withheld });
            }
            self.faults.push(format!("boot {attempts}: {}", fault.what));
        }
    }

    /// The machine that `make` makes, with its vCPUs on their CPUs if they are to have some.
    fn tuned(
        &mut self,
        make: impl FnOnce(&B, &[u8], Option<&mut Tuning>) -> Result<B::Machine, AttemptError>,
    ) -> Result<B::Machine, AttemptError> {
        if let Some(tuning) = &mut self.tuning {
            tuning.begin();
        }
        let mut machine = make(self.backend, self.initrd, self.tuning.as_mut())?;
        if let Some(tuning) = &mut self.tuning {
            let threads = B::vcpu_threads(&mut machine).map_err(AttemptError::Machine)?;
            tuning.pin(&threads).map_err(AttemptError::Host)?;
        }
        Ok(machine)
    }

    fn boot_once(&mut self) -> Result<Result<B::Machine, BootFault>, StartError> {
        let booted = self.tuned(|backend, initrd, tuning| backend.boot(initrd, tuning));
        let mut machine = match booted {
            Ok(machine) => machine,
            Err(AttemptError::Host(error)) => return Err(error),
            Err(AttemptError::Machine(error)) => return Ok(Err(error.into())),
            Err(AttemptError::Template(damage)) => return Ok(Err(damage.to_string().into())),
        };
        let limit = self.policy.boot_timeout * crowding(self.spec.topology.cpus(), host_cpus());
        let ready = await_ready(&mut machine, self.spec, limit, self.policy.stop);
        Ok(match ready {
            Ok(()) => B::ready(&mut machine).map_err(BootFault::from).map(|()| machine),
            Err(fault) => {
                let console = tail(&machine.console_text(), CONSOLE_TAIL_BYTES).to_owned();
                Err(BootFault { console, ..fault })
            }
        })
    }
}

/// A boot that failed.
struct BootFault {
    what: String,
    console: String,
    /// Something took too long, and for so long the host did not run the machine meanwhile.
    withheld: Duration,
    /// The host did not give it its time before the bound of that.
    is_at_bound: bool,
}

impl From<String> for BootFault {
    /// A fault that has nothing to do with time.
    fn from(what: String) -> Self {
        Self { what, console: String::new(), withheld: Duration::ZERO, is_at_bound: false }
    }
}

impl From<MachineError> for BootFault {
    fn from(error: MachineError) -> Self {
        let what = error.to_string();
        match error {
            MachineError::Silent { withheld, is_at_bound, .. } => {
                Self { withheld, is_at_bound, ..what.into() }
            }
            _ => what.into(),
        }
    }
}

/// Why a template was not saved.
enum SaveError {
    /// The machine runs on.
    NotKept(String),
    /// The machine does not run on.
    Lost(MachineError),
}

fn save(machine: &mut impl Machine, store: &Store, key: &Key) -> Result<(), SaveError> {
    machine.pause().map_err(SaveError::Lost)?;
    let saved = match machine.save() {
        // No clock of a run has begun, so there is no time to tell.
        Ok(state) => store.save(key, &machine.ram(), &state, GuestNs(0)).map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    };
    machine.resume().map_err(SaveError::Lost)?;
    saved.map_err(SaveError::NotKept)
}

/// How many times as long a boot may take on a machine whose vCPUs share the host's CPUs, up to two on one being as good as alone.
fn crowding(vcpus: u32, host_cpus: u32) -> u32 {
    vcpus.div_ceil(host_cpus.saturating_mul(2).max(1)).max(1)
}

/// Let the machine run until init is ready.
fn await_ready(
    machine: &mut impl Machine,
    spec: &MachineSpec,
    limit: Duration,
    stop: fn() -> bool,
) -> Result<(), BootFault> {
    let ram = machine.ram();
    let mut withheld = Withheld::default();
    withheld.look(Instant::now(), Duration::ZERO, machine.cpu_use(), Lateness::OfHost);
    machine.resume()?;
    let limit = ServedLimit::begin(limit, MOST_TIMES, &withheld);
    loop {
        match machine.wait_event(READY_POLL) {
            Some(MachineEvent::Ended { end, detail }) => {
                let of_time = end == GuestEnd::MachineDied || is_of_time(&detail);
                let withheld = if of_time { limit.withheld(&withheld) } else { Duration::ZERO };
                let what = format!("the guest ended before init was ready ({end:?}: {detail})");
                return Err(BootFault { withheld, ..what.into() });
            }
            Some(MachineEvent::Watch { .. }) => {
                return Err(String::from("the guest rang the doorbell before it was ready").into());
            }
            None if stop() => return Err(String::from("it is to end").into()),
            None => {}
        }
        let now = Instant::now();
        if withheld.is_due(now) {
            withheld.look(now, Duration::ZERO, machine.cpu_use(), Lateness::OfHost);
        }
        match readiness(&ram, spec, STATE_READY) {
            Readiness::Ready => {
                // A kernel with an Oops or a BUG is neither tested on nor saved.
                let console = machine.console_text();
                let Some(line) = kernel_fault(&console) else { return Ok(()) };
                let withheld = if is_of_time(line) { limit.withheld(&withheld) } else { Duration::ZERO };
                return Err(BootFault { withheld, ..format!("the kernel stumbled: {line}").into() });
            }
            Readiness::OtherVersion(found) => {
                return Err(format!(
                    "init speaks version {found} of the channel, this program version {PROTOCOL_VERSION}"
                )
                .into());
            }
            Readiness::NotYet if now >= limit.end(&withheld) => {
                return Err(BootFault {
                    withheld: limit.withheld(&withheld),
                    is_at_bound: limit.is_at_bound(&withheld),
                    ..format!("init was not ready {}", limit.in_words(&withheld)).into()
                });
            }
            Readiness::NotYet => {}
        }
    }
}

/// Why init ended the guest before it could tell the host anything, by the line that it leaves on the console.
fn init_failure(console: &str) -> Option<&str> {
    console.lines().rev().find_map(|line| line.trim().strip_prefix(INIT_SAYS))
}

/// Whether a line that says that the kernel is broken is of something that took too long (`kernel/watchdog.c`, `kernel/workqueue.c`,
/// `check_timer` in `arch/x86/kernel/apic/io_apic.c`).
fn is_of_time(fault: &str) -> bool {
    ["soft lockup", "workqueue lockup", "timer doesn't work"].iter().any(|words| fault.contains(words))
}

/// The first line of a console that says that the kernel is broken.
pub(crate) fn kernel_fault(console: &str) -> Option<&str> {
    console.lines().find(|line| FAULT_MARKS.iter().any(|mark| line.contains(mark))).map(str::trim)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    NotYet,
    Ready,
    OtherVersion(u32),
}

/// What the header of the channel memory says, where a machine is ready in this state.
fn readiness(ram: &GuestRam, spec: &MachineSpec, wanted: u32) -> Readiness {
    let word = |offset: usize| {
        let mut bytes = [0; 8];
        let at = GuestPhys(spec.channel_base().0 + offset as u64);
        ram.read(at, &mut bytes).map_or(0, |()| u64::from_le_bytes(bytes))
    };
    // Two words of 32 bits lie in one of 64.
    const _: () = assert!(OFF_STATE == OFF_VERSION + 4 && OFF_VERSION.is_multiple_of(8));
    let both = word(OFF_VERSION);
    let (version, state) = (both as u32, (both >> 32) as u32);
    match word(OFF_MAGIC) == MAGIC && state == wanted {
        false => Readiness::NotYet,
        true if version == PROTOCOL_VERSION => Readiness::Ready,
        true => Readiness::OtherVersion(version),
    }
}

#[cfg(test)]
mod tests {
    use super::{crowding, init_failure, is_of_time};

    #[test]
    fn faults_of_time_are_told_from_others() {
        for (line, of_time) in [
            ("watchdog: BUG: soft lockup - CPU#1 stuck for 33s! [swapper/1:0]", true),
            ("Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug", true),
            ("BUG: kernel NULL pointer dereference, address: 0000000000000010", false),
            ("Kernel panic - not syncing: No working init found.", false),
        ] {
            assert_eq!(is_of_time(line), of_time, "{line}");
        }
    }

    #[test]
    fn init_is_quoted_from_the_console() {
        let console = "[    0.1] x\r\nguest-init: opening /dev/mem: no\r\n[    0.2] reboot: Power down\r\n";
        assert_eq!(init_failure(console), Some("opening /dev/mem: no"));
        assert_eq!(init_failure("[    0.2] Kernel panic - not syncing: guest-init: x"), None);
    }

    #[test]
    fn a_crowded_machine_has_longer_to_boot() {
        for (vcpus, host_cpus, times) in
            [(2, 2, 1), (4, 2, 1), (5, 2, 2), (32, 2, 8), (32, 64, 1), (0, 0, 1), (4, u32::MAX, 1)]
        {
            assert_eq!(crowding(vcpus, host_cpus), times, "{vcpus} on {host_cpus}");
        }
    }
}
