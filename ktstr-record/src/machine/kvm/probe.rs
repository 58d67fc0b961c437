//! Whether this host's KVM executes guests.
//!
//! That `/dev/kvm` opens proves nothing: there are KVMs that emulate kernel-mode code, incompletely and a thousand times
//! slower than a CPU. No capability says so. So a guest of a few instructions is run.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kvm_ioctls::Kvm;
use serde::{Deserialize, Serialize};

use super::kick::{self, Thread};
use super::memo;
use super::stages::{self, Found, MOST_NS_PER_INSTRUCTION};

/// KVM's device.
const DEVICE: &str = "/dev/kvm";
/// How long the guest may run.
const BOUND: Duration = Duration::from_millis(50);
/// How often it is tried on a host that is too busy.
const TRIES: u32 = 3;
/// How long the thread that runs it may take to end when it is told to.
const ENDING: Duration = Duration::from_millis(20);

/// What this process was told of this host's KVM, where that stays so.
static TOLD: OnceLock<KvmProbe> = OnceLock::new();

/// What this host's KVM is good for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kvm", rename_all = "snake_case")]
pub enum KvmProbe {
    /// It executes guests on the CPU.
    Executes {
        /// Of a loop in the guest, entry and exit included.
        ns_per_instruction: f64,
    },
    /// There is no device.
    NoDevice,
    /// There is one, which this user may not open.
    PermissionDenied {
        /// The group that owns it.
        gid: u32,
        /// Whether that group may open it.
        group_may: bool,
    },
    /// It opens, and cannot carry a machine.
    Lacks {
        /// What it lacks.
        what: String,
    },
    /// It emulates kernel-mode code.
    Emulates {
        /// How that was seen.
        what: String,
        /// The kernel module that it is of, where that is known.
        module: Option<String>,
    },
    /// It executes everything, and too slowly: KVM in a VM whose hypervisor emulates it.
    TooSlow {
        /// Of a loop in the guest, entry and exit included.
        ns_per_instruction: f64,
    },
    /// The guest did not end within its time, on a busy host or a KVM that hangs.
    TookTooLong,
}

impl KvmProbe {
    /// Ask this host, or `cache_dir` for what was found out since it booted.
    #[must_use]
    pub fn cached(cache_dir: &Path) -> Self {
        patiently(|| Self::of(Path::new(DEVICE), Some(cache_dir), true)).told()
    }

    /// Ask this host, whatever was found out before, and leave the answer in `cache_dir`: a module can have been loaded anew
    /// since.
    #[must_use]
    pub fn renewed(cache_dir: &Path) -> Self {
        patiently(|| Self::of(Path::new(DEVICE), Some(cache_dir), false)).told()
    }

    /// Ask this host, whatever was found out before.
    #[must_use]
    pub fn fresh() -> Self {
        patiently(|| Self::of(Path::new(DEVICE), None, false))
    }

    /// Whether guests are executed on the CPU, so that a machine of KVM can boot a kernel.
    #[must_use]
    pub fn executes(&self) -> bool {
        matches!(self, Self::Executes { .. })
    }

    /// Ask this host once more, after the machine was chosen.
    pub(super) fn again() -> Self {
        Self::fresh().unless_busy(TOLD.get())
    }

    /// What counts of this and of what was `told` before. A host that has become busy since, as one that runs many tests, is no
    /// reason to refuse the machine that was chosen: it only ever makes a guest look slower.
    fn unless_busy(self, told: Option<&Self>) -> Self {
        match (self, told) {
            (Self::TookTooLong | Self::TooSlow { .. }, Some(told)) => told.clone(),
            (now, _) => now,
        }
    }

    /// Keep it for [`again`](Self::again), if it stays so. The first answer counts.
    fn told(self) -> Self {
        if self.stays() {
            let _ = TOLD.set(self.clone());
        }
        self
    }

    /// Whether it tells something that stays so until the host boots again. What KVM lacked or refused may be somebody else's
    /// doing (another hypervisor has the CPU's virtualization, a limit), and costs nothing to ask again.
    fn stays(&self) -> bool {
        matches!(self, Self::Executes { .. } | Self::Emulates { .. } | Self::TooSlow { .. })
    }

    fn of(device: &Path, cache_dir: Option<&Path>, recalls: bool) -> Self {
        // Whether it opens can change at any time, and is known in no time.
        let kvm = match open(device) {
            Ok(kvm) => kvm,
            Err(probe) => return probe,
        };
        let memory = cache_dir.zip(memo::boot_id());
        if recalls
            && let Some((dir, boot_id)) = &memory
            && let Some(known) = memo::recall(dir, boot_id)
        {
            return known;
        }
        let probe = bounded(kvm);
        if let Some((dir, boot_id)) = &memory
            && probe.stays()
        {
            // Without it the next one finds out anew.
            let _ = memo::keep(dir, boot_id, &probe);
        }
        probe
    }

    fn judge(found: Found) -> Self {
        match found {
            Found::Executes { ns_per_instruction } if ns_per_instruction > MOST_NS_PER_INSTRUCTION => {
                Self::TooSlow { ns_per_instruction }
            }
            Found::Executes { ns_per_instruction } => Self::Executes { ns_per_instruction },
            Found::Emulates { what } => Self::Emulates { what, module: module(Path::new("/sys/module")) },
            Found::Lacks { what } => Self::Lacks { what },
            Found::Stopped => Self::TookTooLong,
        }
    }
}

impl fmt::Display for KvmProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Executes { ns_per_instruction } => write!(
                f,
                "KVM executes guests on the CPU ({ns_per_instruction:.1} ns an instruction in the probe)"
            ),
            Self::NoDevice => write!(
                f,
                "there is no {DEVICE}: enable virtualization in the firmware and load kvm_intel or kvm_amd; in a \
                 container or VM, have the device passed on"
            ),
            Self::PermissionDenied { group_may: false, .. } => write!(
                f,
                "{DEVICE} is there, but only its owner may open it: as root, give it to a group of which the user is, as \
                 distributions do (chgrp kvm {DEVICE}; chmod 660 {DEVICE})"
            ),
            Self::PermissionDenied { gid, group_may: true } => write!(
                f,
                "{DEVICE} is there, but this user may not open it: add the user to the group that owns it (gid {gid}) and \
                 log in again"
            ),
            Self::Lacks { what } => write!(f, "{DEVICE} opens, but this KVM cannot carry a machine: {what}"),
            Self::Emulates { what, module } => {
                let of = module.as_ref().map_or_else(String::new, |module| format!(" (module {module})"));
                write!(
                    f,
                    "{DEVICE} opens, but this KVM{of} emulates kernel-mode code instead of executing it on the CPU, so \
                     that kernels do not boot: {what}"
                )
            }
            Self::TooSlow { ns_per_instruction } => write!(
                f,
                "KVM executes guests, but too slowly: {ns_per_instruction:.0} ns an instruction, at most \
                 {MOST_NS_PER_INSTRUCTION:.0} are of use. This host is itself a VM whose hypervisor emulates \
                 virtualization; enable nested virtualization there, or use a host without a hypervisor"
            ),
            Self::TookTooLong => write!(
                f,
                "KVM did not run a guest of a few instructions within {} ms: the host is overloaded, or its KVM hangs; \
                 try again on a calm host",
                BOUND.as_millis()
            ),
        }
    }
}

/// Ask again where it took too long, which a host that is busy for a moment is enough for.
fn patiently(ask: impl Fn() -> KvmProbe) -> KvmProbe {
    let told = (0..TRIES).map(|_| ask()).find(|probe| *probe != KvmProbe::TookTooLong);
    told.unwrap_or(KvmProbe::TookTooLong)
}

fn open(device: &Path) -> Result<Kvm, KvmProbe> {
    let lacks = |what: String| KvmProbe::Lacks { what };
    let path = CString::new(device.as_os_str().as_bytes()).map_err(|error| lacks(error.to_string()))?;
    Kvm::new_with_path(&path).map_err(|error| match error.errno() {
        libc::ENOENT | libc::ENODEV | libc::ENXIO | libc::ENOTDIR => KvmProbe::NoDevice,
        libc::EACCES | libc::EPERM => {
            let (gid, mode) = device.metadata().map_or((0, 0), |meta| (meta.gid(), meta.mode()));
            KvmProbe::PermissionDenied { gid, group_may: mode & 0o060 == 0o060 }
        }
        _ => lacks(format!("could not open it: {}", io::Error::from(error))),
    })
}

/// Run the stages on a thread of their own, for at most [`BOUND`].
fn bounded(kvm: Kvm) -> KvmProbe {
    let stop = Arc::new(AtomicBool::new(false));
    let (say, hear) = mpsc::channel();
    let (say_thread, hear_thread) = mpsc::channel();
    let theirs = Arc::clone(&stop);
    let spawned = std::thread::Builder::new().name("ktstr-kvm-probe".into()).spawn(move || {
        // The answer, and then a sign that it may end: until then it can be kicked.
        let (say_end, hear_end) = mpsc::channel::<()>();
        let _ = say_thread.send((Thread::current(), say_end));
        let _ = say.send(stages::run(&kvm, &theirs));
        let _ = hear_end.recv();
    });
    let thread = match spawned {
        Ok(thread) => thread,
        Err(error) => return KvmProbe::Lacks { what: format!("could not start a thread: {error}") },
    };
    let begun = Instant::now();
    let Ok((number, alive)) = hear_thread.recv_timeout(BOUND) else {
        // It has not begun, and nobody is left to stop it.
        stop.store(true, Ordering::SeqCst);
        return KvmProbe::TookTooLong;
    };
    let found = hear.recv_timeout(BOUND.saturating_sub(begun.elapsed())).or_else(|_| {
        stop.store(true, Ordering::SeqCst);
        // Without the handler it has not entered KVM_RUN, and looks at `stop` before it does.
        if kick::ready() {
            // SAFETY: the thread ends only when `alive` is dropped, and the handler is there.
            unsafe { number.kick() };
        }
        hear.recv_timeout(ENDING)
    });
    drop(alive);
    match found {
        Ok(found) => {
            let _ = thread.join();
            KvmProbe::judge(found)
        }
        // It hangs in the kernel, where nothing can be done about it.
        Err(_) => KvmProbe::TookTooLong,
    }
}

/// The kernel module of a KVM that is neither VMX's nor SVM's, where sysfs shows one.
fn module(sys_module: &Path) -> Option<String> {
    let there = |name: &str| sys_module.join(name).is_dir();
    (there("kvm_pvm") && !there("kvm_intel") && !there("kvm_amd")).then(|| "kvm_pvm".to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn each_reason_has_its_own_message() {
        let dir = tempfile::tempdir().unwrap();
        let none = KvmProbe::of(&dir.path().join("kvm"), None, false);
        assert_eq!(none, KvmProbe::NoDevice);
        let file = dir.path().join("file");
        fs::write(&file, "no device").unwrap();
        // Without the bound, which a thread can miss on a busy host.
        let other = KvmProbe::judge(stages::run(&open(&file).unwrap(), &AtomicBool::new(false)));
        assert!(matches!(&other, KvmProbe::Lacks { what } if what.contains("API is version")), "{other:?}");
        let judged = |found| KvmProbe::judge(found);
        let probes = [
            none,
            other,
            KvmProbe::PermissionDenied { gid: 104, group_may: true },
            KvmProbe::PermissionDenied { gid: 0, group_may: false },
            judged(Found::Emulates { what: "at SSE arithmetic: x".into() }),
            judged(Found::Executes { ns_per_instruction: 700.0 }),
            judged(Found::Executes { ns_per_instruction: 2.0 }),
            judged(Found::Stopped),
        ];
        let says = [
            "there is no /dev/kvm",
            "cannot carry a machine: its API",
            "this user may not open it: add the user to the group that owns it (gid 104)",
            "only its owner may open it",
            "emulates kernel-mode code",
            "too slowly: 700 ns an instruction, at most 100",
            "executes guests on the CPU (2.0 ns",
            "within 50 ms",
        ];
        for (probe, says) in probes.iter().zip(says) {
            assert!(probe.to_string().contains(says), "{probe}");
            assert_eq!(probes.iter().filter(|other| other.to_string().contains(says)).count(), 1, "{says}");
        }
    }

    #[test]
    fn a_busy_host_is_asked_again_and_not_for_ever() {
        let asked = std::cell::Cell::new(0);
        let nth = |enough: u32| {
            asked.set(0);
            patiently(|| {
                asked.set(asked.get() + 1);
                if asked.get() < enough { KvmProbe::TookTooLong } else { KvmProbe::NoDevice }
            })
        };
        assert_eq!((nth(1), asked.get()), (KvmProbe::NoDevice, 1));
        assert_eq!((nth(3), asked.get()), (KvmProbe::NoDevice, 3));
        assert_eq!((nth(9), asked.get()), (KvmProbe::TookTooLong, TRIES));
    }

    #[test]
    fn what_this_host_says_is_kept_and_not_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let device = Path::new(DEVICE);
        let kept = || memo::recall::<KvmProbe>(dir.path(), &memo::boot_id().unwrap());
        let probe = KvmProbe::of(device, Some(dir.path()), true);
        eprintln!("{probe}");
        assert_eq!(kept(), probe.stays().then_some(probe));
        if open(device).is_ok() {
            // No probe finds this.
            let told = KvmProbe::TooSlow { ns_per_instruction: 1e12 };
            memo::keep(dir.path(), &memo::boot_id().unwrap(), &told).unwrap();
            assert_eq!(KvmProbe::of(device, Some(dir.path()), true), told);
            let renewed = KvmProbe::of(device, Some(dir.path()), false);
            assert_ne!(renewed, told);
            assert_eq!(kept(), Some(if renewed.stays() { renewed } else { told }));
        }
    }

    #[test]
    fn a_host_that_has_become_busy_is_what_it_was() {
        let executes = KvmProbe::Executes { ns_per_instruction: 2.0 };
        let emulates = KvmProbe::Emulates { what: "x".into(), module: None };
        for busy in [KvmProbe::TookTooLong, KvmProbe::TooSlow { ns_per_instruction: 500.0 }] {
            assert_eq!(busy.clone().unless_busy(Some(&executes)), executes);
            assert_eq!(busy.clone().unless_busy(None), busy);
        }
        for other in [KvmProbe::NoDevice, emulates] {
            assert_eq!(other.clone().unless_busy(Some(&executes)), other);
        }
        assert_eq!(KvmProbe::TookTooLong.told(), KvmProbe::TookTooLong);
        assert_ne!(TOLD.get(), Some(&KvmProbe::TookTooLong));
    }

    /// A device that opens and is no KVM, as one whose virtualization is in use by somebody else refuses a VM.
    #[test]
    fn what_is_refused_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "no device").unwrap();
        let probe = KvmProbe::of(&file, Some(dir.path()), true);
        assert!(!probe.stays(), "{probe:?}");
        assert_eq!(memo::recall::<KvmProbe>(dir.path(), &memo::boot_id().unwrap()), None);
    }

    #[test]
    fn the_module_is_named_where_it_is_the_only_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(module(dir.path()), None);
        fs::create_dir(dir.path().join("kvm_pvm")).unwrap();
        assert_eq!(module(dir.path()).as_deref(), Some("kvm_pvm"));
        fs::create_dir(dir.path().join("kvm_amd")).unwrap();
        assert_eq!(module(dir.path()), None);
    }
}
